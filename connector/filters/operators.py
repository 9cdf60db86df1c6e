"""The leaves of a filter pattern: what one list of values and operators asks of one scalar of a record.

The language is EventBridge's (its user guide, "Comparison operators for use in event patterns", and the open-source
matcher aws/event-ruler). Where the two are silent:

- ``anything-but`` is the plain opposite on a field that is there: null, booleans and numbers are "anything but x" too.
- Case is ignored by Unicode's full case folding.
- A number in a pattern equals a number in the record by value (``5``, ``5.0``); under ``N`` and ``NS``, where DynamoDB
  keeps numbers as text, operators that ask for a number read that text. A text in a pattern is always compared as text.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from connector.errors import ConfigError
from connector.filters.numbers import (
    Number,
    NumberReader,
    number_of,
    number_of_text,
    number_or_text_of,
)
from connector.filters.wildcard import compile_wildcard, parse_wildcard

Path = tuple[str | int, ...]

ScalarTest = Callable[[Any], bool]
"""Asks something of one scalar (text, number, boolean, None)."""

OPERATORS = (
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
)
TEXT_CHARS_MAX = 4096
VALUES_MAX = 10_000
_NUMBERS_AS_TEXT = frozenset({"N", "NS"})
_ADDRESS_CHARS_MAX = 45
_FLOAT_DIGITS_MAX = 15
"""Every decimal of up to 15 digits survives a float unchanged; one more may not."""


class Leaf(NamedTuple):
    """A field's condition: one of ``tests`` holds for one of its scalars, or ``absent`` and it has none."""

    tests: tuple[ScalarTest, ...]
    absent: bool
    path: Path
    """Its place in the configuration."""


def parse_leaf(raw: Sequence[Any], *, field: str, path: Path) -> Leaf:
    """Parse the list below a field. Raises ConfigError that points at the wrong element."""
    if not raw:
        raise ConfigError('an empty list can never match; list at least one value, like ["PAID"]', path=path)
    if len(raw) > VALUES_MAX:
        raise ConfigError(f"a field may list {VALUES_MAX} values; this one lists {len(raw)}", path=path)
    read = number_or_text_of if field in _NUMBERS_AS_TEXT else number_of
    literals: list[Any] = []
    tests: list[ScalarTest] = []
    absent = False
    for index, element in enumerate(raw):
        place = (*path, index)
        if not isinstance(element, dict):
            literals.append(_literal(element, place))
            continue
        operator, operand, operand_path = _single(element, place, OPERATORS)
        if operator == "exists":
            if not isinstance(operand, bool):
                raise ConfigError("'exists' takes true or false", path=operand_path)
            if operand:
                tests.append(_anything)
            else:
                absent = True
        else:
            tests.append(_parse_operator(operator, operand, operand_path, read))
    if literals:
        tests.insert(0, _one_of(literals, read))
    return Leaf(tuple(tests), absent, path)


def _parse_operator(operator: str, operand: Any, path: Path, read: NumberReader) -> ScalarTest:
    match operator:
        case "numeric":
            return _numeric(operand, path, read)
        case "cidr":
            return _cidr(operand, path)
        case "anything-but":
            return _anything_but(operand, path, read)
        case "prefix" | "suffix" if isinstance(operand, dict):
            _, text, text_path = _single(operand, path, ("equals-ignore-case",))
            return _text_test(operator, _text(text, text_path, operator), text_path, ignore_case=True)
        case _:
            return _text_test(operator, _text(operand, path, operator), path)


def _text_test(operator: str, text: str, path: Path, *, ignore_case: bool = False) -> ScalarTest:
    """prefix, suffix, equals-ignore-case and wildcard: they look at texts only."""
    if ignore_case:
        text = text.casefold()
    match operator:
        case "prefix" if ignore_case:
            return lambda value: isinstance(value, str) and value.casefold().startswith(text)
        case "suffix" if ignore_case:
            return lambda value: isinstance(value, str) and value.casefold().endswith(text)
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(text)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(text)
        case "equals-ignore-case":
            folded = text.casefold()
            return lambda value: isinstance(value, str) and value.casefold() == folded
        case _:
            try:
                matches = compile_wildcard(parse_wildcard(text))
            except ValueError as error:
                raise ConfigError(f"the wildcard is wrong: {error}", path=path) from error
            return lambda value: isinstance(value, str) and matches(value)


def _anything_but(operand: Any, path: Path, read: NumberReader) -> ScalarTest:
    if isinstance(operand, dict):
        operator, inner, inner_path = _single(operand, path, ("prefix", "suffix", "equals-ignore-case", "wildcard"))
        tests: list[ScalarTest] = []
        for element, place in _elements(inner, inner_path):
            text = _text(element, place, operator)
            if not text and operator in ("prefix", "suffix"):
                raise ConfigError(f"every text has the empty {operator}, so nothing could match", path=place)
            tests.append(_text_test(operator, text, place))
        excluded = any_of(tests)
    else:
        excluded = _one_of([_literal(element, place) for element, place in _elements(operand, path)], read)
    return lambda value: not excluded(value)


def _elements(operand: Any, path: Path) -> list[tuple[Any, Path]]:
    """One value, or a list of them, each with its place."""
    if not isinstance(operand, list):
        return [(operand, path)]
    if not operand:
        raise ConfigError("an empty list excludes nothing; list at least one value", path=path)
    if len(operand) > VALUES_MAX:
        raise ConfigError(f"a list may have {VALUES_MAX} values; this one has {len(operand)}", path=path)
    return [(element, (*path, index)) for index, element in enumerate(operand)]


def _one_of(literals: Sequence[Any], read: NumberReader) -> ScalarTest:
    """Whether a scalar equals one of these; texts as texts, numbers by value, true never 1."""
    texts = frozenset(literal for literal in literals if isinstance(literal, str))
    others = frozenset(literal for literal in literals if literal is None or isinstance(literal, bool))
    numbers = frozenset(
        literal for literal in literals if isinstance(literal, int | Decimal) and not isinstance(literal, bool)
    )
    if not others and not numbers:
        return lambda value: isinstance(value, str) and value in texts

    def test(value: Any) -> bool:
        if isinstance(value, str) and value in texts:
            return True
        if value is None or isinstance(value, bool):
            return value in others
        number = read(value) if numbers else None
        return number is not None and number in numbers

    return test


def _numeric(operand: Any, path: Path, read: NumberReader) -> ScalarTest:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise ConfigError(
            '\'numeric\' takes a list of one or two comparisons, like ["=", 5] or [">", 0, "<=", 150.5]', path=path
        )
    tests: list[Callable[[Number], bool]] = []
    bounds: dict[str, tuple[Number, bool]] = {}
    for at in range(0, len(operand), 2):
        comparison = operand[at]
        if comparison not in ("=", "<", "<=", ">", ">="):
            raise ConfigError("a comparison is one of =, <, <=, >, >=, in quotes", path=(*path, at))
        side = {"<": "upper", ">": "lower", "=": "equal"}[comparison[0]]
        bound = _number(operand[at + 1], (*path, at + 1))
        if side in bounds or (len(operand) == 4 and side == "equal"):
            raise ConfigError('two comparisons must be a lower and an upper bound, like [">", 0, "<=", 5]', path=path)
        bounds[side] = (bound, comparison[1:] == "=")
        tests.append(_comparison(comparison, bound))
    if len(bounds) == 2:
        (lower, lower_in), (upper, upper_in) = bounds["lower"], bounds["upper"]
        if lower > upper or (lower == upper and not (lower_in and upper_in)):
            raise ConfigError(f"no number is between {lower} and {upper}", path=path)

    def test(value: Any) -> bool:
        number = read(value)
        return number is not None and all(test(number) for test in tests)

    return test


def _comparison(comparison: str, bound: Number) -> Callable[[Number], bool]:
    match comparison:
        case "=":
            return lambda number: number == bound
        case "<":
            return lambda number: number < bound
        case "<=":
            return lambda number: number <= bound
        case ">":
            return lambda number: number > bound
        case _:
            return lambda number: number >= bound


def _cidr(operand: Any, path: Path) -> ScalarTest:
    network = _network(_text(operand, path, "cidr"))
    if network is None:
        raise ConfigError('an address range is written like "10.0.0.0/24" or "2001:db8::/32"', path=path)
    version = network.version
    lowest, highest = int(network.network_address), int(network.broadcast_address)

    def test(value: Any) -> bool:
        if not isinstance(value, str) or len(value) > _ADDRESS_CHARS_MAX:
            return False
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False  # A text that is no address is in no range.
        return address.version == version and lowest <= int(address) <= highest

    return test


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    _, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit():
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def any_of(tests: Sequence[ScalarTest]) -> ScalarTest:
    """One test that holds where any of these does."""
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _anything(_: Any) -> bool:
    return True


def _single(raw: dict[Any, Any], path: Path, known: Sequence[str]) -> tuple[str, Any, Path]:
    """The one operator of ``{"prefix": …}`` with its operand and the operand's place."""
    allowed = ", ".join(known)
    if len(raw) != 1:
        raise ConfigError(f"an operator is an object with one name ({allowed}), this has {len(raw)}", path=path)
    [(operator, operand)] = raw.items()
    if operator not in known:
        raise ConfigError(f"{operator!r} is not known here; there is {allowed}", path=(*path, operator))
    return operator, operand, (*path, operator)


def _literal(raw: Any, path: Path) -> Any:
    if raw is None or isinstance(raw, bool):
        return raw
    if isinstance(raw, str):
        return _text(raw, path, "a value")
    if isinstance(raw, list):
        raise ConfigError("a list inside a list; list the values themselves", path=path)
    if isinstance(raw, int | float | Decimal):
        return _number(raw, path)
    raise ConfigError("a value is a text, a number, true, false, null or an operator", path=path)


def _text(raw: Any, path: Path, operator: str) -> str:
    if not isinstance(raw, str):
        raise ConfigError(f"{operator!r} takes a text in quotes", path=path)
    if len(raw) > TEXT_CHARS_MAX:
        raise ConfigError(f"a text may have {TEXT_CHARS_MAX} characters; this one has {len(raw)}", path=path)
    return raw


def _number(raw: Any, path: Path) -> Number:
    number = number_of_text(raw) if isinstance(raw, str) else number_of(raw)
    if number is None:
        raise ConfigError('a number is wanted here, like 5, 150.5 or "12345678901234567890.5"', path=path)
    if isinstance(raw, float) and isinstance(number, Decimal) and len(number.as_tuple().digits) > _FLOAT_DIGITS_MAX:
        raise ConfigError("this number has more digits than are kept exactly; write it in quotes", path=path)
    return number
