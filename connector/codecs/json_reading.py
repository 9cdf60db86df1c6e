"""Strict JSON for the codecs: what is refused, and the stable code that says why.

Refused everywhere: anything but UTF-8 without a byte order mark, NaN and Infinity, numbers that overflow, unpaired
surrogates, nesting that exhausts the stack. Where an object has a name twice its last value counts, for every reader
alike (filters, templates, documents); only in a key, where order and identity hang on it, is that refused.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from connector.errors import DecodeError

JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for input that is not what was asked for."""

EXPONENT_MAX = 400
"""Decimal places that a number may lie from 1 in either direction; a double has 308."""

_decode_any = msgspec.json.Decoder().decode


def read_object(data: bytes) -> dict[str, Any]:
    """Any JSON object, integers exact. Raises DecodeError."""
    try:
        value = _decode_any(data)
    except JSON_ERRORS as error:
        raise decode_error(data, error) from None
    if type(value) is not dict:
        raise DecodeError("not_an_object", "the JSON is not an object")
    return value


def read_exact_object(data: bytes) -> dict[str, Any]:
    """Any JSON object, its numbers exact: int, or Decimal where there is a point or exponent. Raises DecodeError."""
    try:
        value = _decode_exact(data)
    except JSON_ERRORS as error:
        raise decode_error(data, error) from None
    if type(value) is not dict:
        raise DecodeError("not_an_object", "the JSON is not an object")
    return value


def refuse_duplicates(data: bytes) -> None:
    """Raises DecodeError (``key_duplicate``) where an object of this (readable) JSON has a name twice. Slow."""
    try:
        json.loads(data, object_pairs_hook=_unique)
    except RecursionError as error:
        raise decode_error(data, error) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise DecodeError("key_duplicate", "the record's key names an attribute twice")
    return names


def _exact(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:  # an exponent that Decimal does not have
        raise _beyond() from None
    if not -EXPONENT_MAX <= number.adjusted() <= EXPONENT_MAX:
        raise _beyond()
    return number


def _beyond() -> DecodeError:
    return DecodeError("number_range", "the JSON has a number beyond the range of a double")


_decode_exact = msgspec.json.Decoder(float_hook=_exact).decode


def check_utf8(data: bytes) -> None:
    """Raises DecodeError (``not_utf8``). What msgspec skips unread (``Raw``) it does not check for this."""
    if not data.isascii():
        try:
            str(data, "utf-8")
        except UnicodeDecodeError:
            raise DecodeError("not_utf8", "the record is not UTF-8") from None


def decode_error(data: bytes, error: Exception) -> DecodeError:
    """The error of msgspec as ours. msgspec's own words are kept only where they cannot hold values of the record."""
    if isinstance(error, RecursionError):
        return DecodeError("nested_too_deep", "the JSON is nested too deep")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return DecodeError("not_utf8", "the record starts with a byte order mark; it must be plain UTF-8")
    try:
        check_utf8(data)
    except DecodeError as not_utf8:
        return not_utf8
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        if "out of range" in message:
            return _beyond()
        place = message.rpartition(" - at ")[2] if " - at " in message else "`$`"
        return DecodeError("wrong_shape", f"the JSON is not of the format's shape at {place}")
    return DecodeError("not_json", "the record is not JSON")
