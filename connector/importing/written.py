"""Configuration as a person would write it: YAML with a comment wherever something must be known or done."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import Any

import msgspec

WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TRAPS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


class Option(msgspec.Struct, frozen=True):
    """One option: a value, or more options below it; each of ``says`` is a sentence that stands above it."""

    name: str
    value: Any
    says: tuple[str, ...] = ()


class Filled(str):
    """A text in which ``${NAME}`` is meant to be filled in."""

    __slots__ = ()


Options = list[Option]


def written(options: Sequence[Option], indent: str = "") -> str:
    """The options as lines of YAML."""
    return "".join(f"{line}\n" for line in _lines(options, indent))


def commented(sentence: str, indent: str = "") -> Iterator[str]:
    """A sentence as comment lines."""
    for line in wrap(sentence, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"


def _lines(options: Sequence[Option], indent: str) -> Iterator[str]:
    for option in options:
        for sentence in option.says:
            yield from commented(sentence, indent)
        name = _scalar(option.name)
        if isinstance(option.value, list) and option.value and isinstance(option.value[0], Option):
            yield f"{indent}{name}:"
            yield from _lines(option.value, indent + "  ")
        else:
            yield f"{indent}{name}: {flow(option.value)}"


def flow(value: Any) -> str:
    """A value on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_scalar(str(name))}: {flow(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | Decimal():
            return str(value)
        case _:
            return _scalar(value)


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _TRAPS:
        return text
    # YAML reads JSON's escapes, but not two of them as one character: those beyond the basic plane stay as they are.
    quoted = json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
    return quoted if isinstance(text, Filled) else quoted.replace("${", "$${")
