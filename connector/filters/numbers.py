"""Numbers in filter patterns: exact, whatever they came as. Nothing here goes through binary floating point.

DynamoDB writes a number as text (``{"N": "5"}``), with up to 38 digits and exponents of ±130.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Number = int | Decimal
"""Python compares these two exactly, of any size, whatever the decimal context says."""

NumberReader = Callable[[Any], Number | None]
"""Reads a scalar of a record as a number; None where it is none."""

_TEXT_CHARS_MAX = 256
_TEXT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_SMALL_CHARS_MAX = 18


def number_of(value: Any) -> Number | None:
    """The value, where it is a finite number. A float counts as the shortest decimal that it prints as."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    return None


def number_of_text(text: str) -> Number | None:
    """The number that a text writes (JSON's grammar, leading zeros allowed), or None."""
    if len(text) <= _SMALL_CHARS_MAX and text.isascii() and text.isdigit():
        return int(text)
    if len(text) > _TEXT_CHARS_MAX or _TEXT.fullmatch(text) is None:
        return None
    return Decimal(text)


def number_or_text_of(value: Any) -> Number | None:
    """As ``number_of``, and a text that writes a number counts too: for DynamoDB's ``N`` and ``NS``."""
    return number_of_text(value) if isinstance(value, str) else number_of(value)
