"""What an unquoted YAML scalar means: YAML 1.2's core schema, less everything that two YAML readers read differently.

An unquoted ``no`` is a boolean to one reader and a text to the next, ``012`` is ten or twelve, ``12:30:45`` a number.
Such scalars are refused with a sentence that says what to write. The sentences never quote the scalar itself where it
could be a password.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

Scalar = str | int | float | bool | None

DIGITS_MAX = 100
"""More digits than any number in a configuration needs; Python itself refuses to read some thousands."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_BOOLEAN = {"yes": "true", "on": "true", "no": "false", "off": "false"}

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?")
_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?")
_BINARY = re.compile(r"[-+]?0b[01_]+")


class ScalarTrap(Exception):
    """The scalar means different things to different readers. The message says what to write instead."""


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar. Raises ScalarTrap for one that is a trap."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if (meant := _OLD_BOOLEAN.get(text.lower())) and text in (text.lower(), text.upper(), text.capitalize()):
        raise ScalarTrap(
            f"{text!r} is a boolean to some YAML readers and a text to others: write '{text}' in quotes, or {meant}"
        )
    if not _may_be_number_like(text):
        return text
    return _number(text)


def _may_be_number_like(text: str) -> bool:
    return text[0] in "+-.0123456789"


def _number(text: str) -> Scalar:
    if _LEADING_ZERO.fullmatch(text):
        raise ScalarTrap(
            "a number with a leading zero is octal to some YAML readers: leave the zero out, write 0o… for "
            "an octal number, or put it in quotes if it is a text"
        )
    if _INTEGER.fullmatch(text):
        return int(_bounded(text))
    if _OCTAL.fullmatch(text):
        return int(_bounded(text), 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(_bounded(text), 16)
    if _FLOAT.fullmatch(text):
        return _float(_bounded(text))
    if _NOT_FINITE.fullmatch(text):
        raise ScalarTrap("infinity and not-a-number are no configuration: write a number, or quotes around a text")
    if _SEXAGESIMAL.fullmatch(text):
        raise ScalarTrap(
            "digits with colons are a base-60 number to some YAML readers: put them in quotes (a duration "
            "is written with units, like 12h30m)"
        )
    if _DATE.fullmatch(text):
        raise ScalarTrap("an unquoted date is a timestamp to some YAML readers: put it in quotes")
    if _UNDERSCORES.fullmatch(text):
        raise ScalarTrap(
            "digits with underscores are a number to some YAML readers: leave the underscores out, or put "
            "it in quotes if it is a text"
        )
    if _BINARY.fullmatch(text):
        raise ScalarTrap(
            "0b… is a binary number to some YAML readers: write it in decimal, or put it in quotes if it is a text"
        )
    return text


def _bounded(text: str) -> str:
    if len(text) > DIGITS_MAX:
        raise ScalarTrap(f"a number has at most {DIGITS_MAX} digits here: put it in quotes if it is a text")
    return text


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ScalarTrap("the number is too large for a floating-point number")
    if Decimal(repr(value)) != Decimal(text):
        raise ScalarTrap(
            "the number has more digits than a floating-point number holds: write fewer, or put it in "
            "quotes if it is a text"
        )
    return value
