"""Ids and keys in the characters and lengths that a place takes."""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"[!-~]+")
"""Printable ASCII without a space: what HTTP headers, SQS and SNS all take."""

AWS_CHARS_MAX = 128
"""The longest MessageGroupId and MessageDeduplicationId of SQS and SNS."""


def plain_token(text: str, chars_max: int = AWS_CHARS_MAX) -> str:
    """``text`` where it is short and plain, else its SHA-256: equal texts give equal tokens, others different ones."""
    if len(text) <= chars_max and _PLAIN.fullmatch(text):
        return text
    return hashed_token(text)


def hashed_token(text: str) -> str:
    """64 characters that stand for a text of any length and any characters (half surrogate pairs too)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
