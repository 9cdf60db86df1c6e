"""DynamoDB attribute values straight to JSON-ready documents: one pass, without Python values in between.

What connector.attributes refuses is refused here too, with the same codes.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from connector.attributes import LEVELS_MAX, READERS, to_number, too_deep, wrong_content, wrong_shape, wrong_tag
from connector.documents import Numbers
from connector.errors import DocumentError

DOUBLE_DIGITS = 15
"""Every decimal of so many digits comes back unchanged from a double (C's ``DBL_DIG``)."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def to_document(item: Any, numbers: Numbers) -> dict[str, Any]:
    """An item or image of attribute values as a JSON-ready document.

    Binary stays base64 text, sets become sorted lists. Integers of 64 bits are ``int``; other numbers are ``float``
    where the double prints as the very same decimal, and what ``numbers`` says otherwise.

    Raises DecodeError, and DocumentError (``number_not_exact``) where ``numbers`` is ``REJECT``.
    """
    return _document_map(item, 0, _INEXACT[numbers])


def document_number(text: str, numbers: Numbers) -> Any:
    """One DynamoDB number as it stands in a document. Raises as ``to_document`` does."""
    return _document_number(text, 0, _INEXACT[numbers])


Inexact = Callable[[str], Any]
"""What becomes of a number that neither 64 bits nor a double hold exactly."""


def _reject_inexact(_text: str) -> Any:
    raise DocumentError("number_not_exact", "a number has more digits than a 64-bit integer or a double can hold")


_INEXACT: dict[Numbers, Inexact] = {
    Numbers.NUMBER: Decimal,
    Numbers.STRING: str,
    Numbers.REJECT: _reject_inexact,
}


def _document_map(content: Any, level: int, inexact: Inexact) -> dict[str, Any]:
    if type(content) is not dict:
        raise wrong_content()
    if level >= LEVELS_MAX and content:
        raise too_deep()
    level += 1
    document: dict[str, Any] = {}
    for name, attribute in content.items():
        try:
            (tag,) = attribute
            inner = attribute[tag]
        except (TypeError, ValueError, LookupError):
            raise wrong_shape() from None
        if tag == "S" and type(inner) is str:
            document[name] = inner
        elif (write := _DOCUMENT.get(tag)) is not None:
            document[name] = write(inner, level, inexact)
        else:
            raise wrong_tag()
    return document


def _document_list(content: Any, level: int, inexact: Inexact) -> list[Any]:
    if type(content) is not list:
        raise wrong_content()
    if level >= LEVELS_MAX and content:
        raise too_deep()
    level += 1
    document: list[Any] = []
    for attribute in content:
        try:
            (tag,) = attribute
            inner = attribute[tag]
        except (TypeError, ValueError, LookupError):
            raise wrong_shape() from None
        if (write := _DOCUMENT.get(tag)) is None:
            raise wrong_tag()
        document.append(write(inner, level, inexact))
    return document


def _document_number(text: Any, _level: int, inexact: Inexact) -> Any:
    if type(text) is not str:
        raise wrong_content()
    if len(text) <= DOUBLE_DIGITS and text.isascii():
        if text.isdigit():
            return int(text)
        whole, point, fraction = text.removeprefix("-").partition(".")
        if whole.isdigit():
            if fraction.isdigit():
                return float(text)
            if not point:
                return int(text)
    number = to_number(text)
    if type(number) is int:
        if _INT64_MIN <= number <= _INT64_MAX:
            return number
        number = Decimal(number)
    double = float(number)
    return double if Decimal(repr(double)) == number else inexact(text)


def _document_binary(content: Any, level: int, _inexact: Inexact) -> str:
    READERS["B"](content, level)
    return str(content)


def _document_strings(content: Any, level: int, _inexact: Inexact) -> list[Any]:
    return sorted(READERS["SS"](content, level))


def _document_numbers(content: Any, level: int, inexact: Inexact) -> list[Any]:
    READERS["NS"](content, level)
    return [_document_number(text, level, inexact) for text in sorted(content, key=Decimal)]


def _document_binaries(content: Any, level: int, _inexact: Inexact) -> list[Any]:
    return [b2a_base64(element, newline=False).decode() for element in sorted(READERS["BS"](content, level))]


_DOCUMENT: dict[str, Callable[[Any, int, Inexact], Any]] = {
    "S": lambda content, level, _inexact: READERS["S"](content, level),
    "N": _document_number,
    "B": _document_binary,
    "BOOL": lambda content, level, _inexact: READERS["BOOL"](content, level),
    "NULL": lambda content, level, _inexact: READERS["NULL"](content, level),
    "M": _document_map,
    "L": _document_list,
    "SS": _document_strings,
    "NS": _document_numbers,
    "BS": _document_binaries,
}
