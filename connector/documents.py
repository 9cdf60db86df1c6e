"""Documents: images as JSON for search engines, caches and people, with a stated policy for numbers.

DynamoDB numbers have 38 digits; most targets hold 64-bit integers and doubles. Nothing is ever rounded silently.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class Numbers(enum.StrEnum):
    """What happens to a number that neither a 64-bit integer nor a double can hold exactly."""

    NUMBER = "number"
    """Written as a JSON number with all of its digits; what the target then keeps is the user's choice."""
    STRING = "string"
    """Written as a JSON string."""
    REJECT = "reject"
    """The change is rejected (``number_not_exact``) and dead-lettered."""


_encoder = msgspec.json.Encoder(decimal_format="number")


def encode_document(document: dict[str, Any]) -> bytes:
    """A JSON-ready document (from ``ImageFormat.document``) as JSON bytes; Decimals keep all of their digits."""
    return _encoder.encode(document)
