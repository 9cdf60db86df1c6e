"""DynamoDB attribute values ⇄ Python values, exact.

    S str · N int or Decimal · B bytes · BOOL bool · NULL None · M dict · L list · SS, NS, BS frozenset

A number keeps each of its digits (DynamoDB has 38; the default decimal context would round to 28, a float to 17): an
integral text without exponent is an ``int``, anything else a ``Decimal`` with the text's own exponent.

Wrong shapes raise DecodeError with one of these codes:

    attribute_shape     not an object of exactly one type tag
    attribute_tag       a type tag that DynamoDB does not have
    attribute_content   what stands behind the tag is of another JSON type (``NULL`` must be true)
    number_syntax, number_range, number_digits     no number; beyond ±9.9…E+125, 1E-130; more than 38 digits
    base64              a binary that is not strict base64
    set_empty, set_duplicate    DynamoDB stores no empty set, and no element twice
    nested_too_deep     deeper than DynamoDB's 32 levels

The functions here run once for each attribute of each image: they dispatch by the tag and call as little as possible.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any

from connector.errors import DecodeError, DocumentError

LEVELS_MAX = 32
"""Levels of values below an item, the attribute's own being the first: DynamoDB's own limit (31 lists in one another
may hold a scalar, 32 may not, as DynamoDB Local 2.6.1 says)."""
DIGITS_MAX = 38
"""Significant digits of a number: DynamoDB's own limit."""
NUMBER_TEXT_MAX = 256
"""Characters of a number's text: DynamoDB's longest, written out without an exponent, has fewer than 180."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_EXACT = Context(prec=2 * NUMBER_TEXT_MAX)


# Attribute values → Python values


def to_values(item: Any) -> dict[str, Any]:
    """An item or image of attribute values as Python values. Raises DecodeError."""
    return _read_map(item, 0)


def to_value(attribute: Any) -> Any:
    """One attribute value (``{"N": "5"}``) as a Python value. Raises DecodeError."""
    try:
        (tag,) = attribute
        content = attribute[tag]
    except (TypeError, ValueError, LookupError):
        raise wrong_shape() from None
    if tag == "S" and type(content) is str:
        return content
    if (read := READERS.get(tag)) is None:
        raise wrong_tag()
    return read(content, 1)


def to_number(text: Any, _level: int = 0) -> int | Decimal:
    """A DynamoDB number's text as ``int`` or ``Decimal``, with all of its digits. Raises DecodeError."""
    if type(text) is not str:
        raise wrong_content()
    if len(text) <= DIGITS_MAX and text.isascii():  # the usual ways to write a number need no regular expression
        if text.isdigit():
            return int(text)
        whole, point, fraction = text.removeprefix("-").partition(".")
        if whole.isdigit():
            if fraction.isdigit():
                return Decimal(text)
            if not point:
                return int(text)
    if len(text) > NUMBER_TEXT_MAX or _NUMBER.fullmatch(text) is None:
        raise DecodeError("number_syntax", "a number is not written as DynamoDB writes numbers")
    number = Decimal(text)
    if number:
        if len(number.normalize(_EXACT).as_tuple().digits) > DIGITS_MAX:
            raise DecodeError("number_digits", f"a number has more than {DIGITS_MAX} significant digits")
        if not -130 <= number.adjusted() <= 125:
            raise DecodeError("number_range", "a number is beyond DynamoDB's range of 1E-130 to 9.9E+125")
    return int(text) if text.lstrip("+-").isdigit() else number


def canonical_number(number: int | Decimal) -> str:
    """The text that equal numbers share: plain digits without exponent or needless zeros (``5.0``, ``5E0``: ``5``)."""
    if type(number) is int:
        return str(number)
    plain = format(number, "f")
    return (plain.rstrip("0").rstrip(".") if "." in plain else plain) if number else "0"


def _read_map(content: Any, level: int) -> dict[str, Any]:
    if type(content) is not dict:
        raise wrong_content()
    if level >= LEVELS_MAX and content:
        raise too_deep()
    level += 1
    values: dict[str, Any] = {}
    for name, attribute in content.items():
        try:
            (tag,) = attribute
            inner = attribute[tag]
        except (TypeError, ValueError, LookupError):
            raise wrong_shape() from None
        if tag == "S" and type(inner) is str:  # most attributes are strings: spare them the call
            values[name] = inner
        elif (read := READERS.get(tag)) is not None:
            values[name] = read(inner, level)
        else:
            raise wrong_tag()
    return values


def _read_list(content: Any, level: int) -> list[Any]:
    if type(content) is not list:
        raise wrong_content()
    if level >= LEVELS_MAX and content:
        raise too_deep()
    level += 1
    values: list[Any] = []
    for attribute in content:
        try:
            (tag,) = attribute
            inner = attribute[tag]
        except (TypeError, ValueError, LookupError):
            raise wrong_shape() from None
        if (read := READERS.get(tag)) is None:
            raise wrong_tag()
        values.append(read(inner, level))
    return values


def _read_string(content: Any, _level: int) -> str:
    if type(content) is not str:
        raise wrong_content()
    return content


def _read_binary(content: Any, _level: int) -> bytes:
    if type(content) is not str:
        raise wrong_content()
    try:
        return a2b_base64(content, strict_mode=True)
    except (Base64Error, ValueError):
        raise DecodeError("base64", "a binary is not base64") from None


def _read_bool(content: Any, _level: int) -> bool:
    if content is True or content is False:
        return bool(content)
    raise wrong_content()


def _read_null(content: Any, _level: int) -> None:
    if content is not True:
        raise wrong_content()


def _set_reader(read: Callable[[Any, int], Any]) -> Callable[[Any, int], frozenset[Any]]:
    def read_set(content: Any, level: int) -> frozenset[Any]:
        if type(content) is not list:
            raise wrong_content()
        if not content:
            raise DecodeError("set_empty", "a set has no element")
        elements = frozenset(read(element, level) for element in content)
        if len(elements) != len(content):
            raise DecodeError("set_duplicate", "a set holds an element twice")
        return elements

    return read_set


READERS: dict[str, Callable[[Any, int], Any]] = {
    "S": _read_string,
    "N": to_number,
    "B": _read_binary,
    "BOOL": _read_bool,
    "NULL": _read_null,
    "M": _read_map,
    "L": _read_list,
    "SS": _set_reader(_read_string),
    "NS": _set_reader(to_number),
    "BS": _set_reader(_read_binary),
}


# Python values → attribute values


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """Python values as an item of attribute values: what ``to_values`` undoes. Raises DocumentError."""
    return {name: to_attribute(value, 1) for name, value in values.items()}


def to_attribute(value: Any, level: int = 1) -> dict[str, Any]:
    """One Python value as an attribute value. Sets are sorted, so that equal values give equal JSON.

    Raises DocumentError (``no_attribute_value``) for what DynamoDB cannot hold: floats (they are not decimal), numbers
    beyond 38 digits, empty or mixed sets, more than 32 levels, other types.
    """
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return {"N": _number_text(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bytes | bytearray):
        return {"B": b2a_base64(value, newline=False).decode()}
    if isinstance(value, frozenset | set):
        return _set_attribute(value)
    if level >= LEVELS_MAX and value:
        raise _no_attribute("a value is nested deeper than 32 levels")
    if isinstance(value, Mapping):
        return {"M": {name: to_attribute(inner, level + 1) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [to_attribute(inner, level + 1) for inner in value]}
    raise _no_attribute(f"DynamoDB has no attribute value for {type(value).__name__}")


def _number_text(value: int | Decimal) -> str:
    try:
        text = str(value)
        to_number(text)
    except (DecodeError, ValueError):  # ValueError: an int of more digits than Python prints
        raise _no_attribute("a number is beyond what DynamoDB holds") from None
    return text


def _set_attribute(value: frozenset[Any] | set[Any]) -> dict[str, Any]:
    kinds = {type(element) for element in value}
    if kinds == {str}:
        return {"SS": sorted(value)}
    if kinds == {bytes}:
        return {"BS": [b2a_base64(element, newline=False).decode() for element in sorted(value)]}
    if kinds and kinds <= {int, Decimal}:
        texts = {element: _number_text(element) for element in value}
        return {"NS": [texts[element] for element in sorted(value)]}
    raise _no_attribute("a set must hold strings, numbers or binaries, of one kind, and not be empty")


def _no_attribute(message: str) -> DocumentError:
    return DocumentError("no_attribute_value", message)


# What is wrong with an attribute value (shared with connector.attribute_documents)


def wrong_shape() -> DecodeError:
    """No object of exactly one type tag."""
    return DecodeError("attribute_shape", "an attribute value is not an object of exactly one type tag")


def wrong_tag() -> DecodeError:
    """A type tag that DynamoDB does not have."""
    return DecodeError("attribute_tag", "an attribute value has a type tag that DynamoDB does not have")


def wrong_content() -> DecodeError:
    """Content of another JSON type than the tag says."""
    return DecodeError("attribute_content", "an attribute value's content does not fit its type tag")


def too_deep() -> DecodeError:
    """More levels than DynamoDB has."""
    return DecodeError("nested_too_deep", f"an attribute value is nested deeper than {LEVELS_MAX} levels")
