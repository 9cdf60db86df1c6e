"""Filter patterns as a typed tree: fields that must all hold, down to leaves of which one value must match.

A pattern has the record's shape: ``{"dynamodb": {"NewImage": {"status": {"S": ["PAID"]}}}}``. ``"$or": [{…}, {…}]``
holds where one of its objects does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from connector.errors import ConfigError
from connector.filters.operators import OPERATORS, Leaf, Path, parse_leaf

DEPTH_MAX = 80
"""An item nests to 32 levels, each of which is two names in DynamoDB's shape, below ``dynamodb.NewImage``."""
FIELDS_MAX = 1000
"""Names in one pattern. (EventBridge stops at 2,048 characters of JSON.)"""
_NEVER_FIELDS = frozenset({"anything-but", "equals-ignore-case"})
_COMPARISONS = (["="], ["<"], ["<="], [">"], [">="])


class Fields(NamedTuple):
    """Conditions on an object: every field holds, and of each ``$or`` one alternative."""

    fields: tuple[tuple[str, Fields | Leaf], ...]
    alternatives: tuple[tuple[Fields, ...], ...] = ()


class Pattern(NamedTuple):
    """One parsed filter pattern."""

    root: Fields
    path: Path
    """Its place in the configuration."""


class _Budget:
    """Counts what one pattern may still hold."""

    def __init__(self, path: Path) -> None:
        self._left = FIELDS_MAX
        self._path = path

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ConfigError(f"a pattern may name {FIELDS_MAX} fields at most", path=self._path)


def parse_pattern(raw: Any, *, path: Path = ()) -> Pattern:
    """Parse a pattern (already loaded from YAML or JSON; numbers exact as int or Decimal where they matter).

    ``path`` is where it stands in the configuration. Raises ConfigError whose ``path`` points at the wrong place.
    """
    return Pattern(_fields(raw, path, 0, _Budget(path), inside_or=False), path)


def _fields(raw: Any, path: Path, depth: int, budget: _Budget, *, inside_or: bool) -> Fields:
    if not isinstance(raw, dict):
        raise ConfigError('a pattern is an object of the record\'s shape, like {"eventName": ["INSERT"]}', path=path)
    if not raw:
        raise ConfigError("an empty object is not allowed here; name at least one field", path=path)
    if depth > DEPTH_MAX:
        raise ConfigError(f"a pattern may nest {DEPTH_MAX} levels", path=path)
    fields: list[tuple[str, Fields | Leaf]] = []
    alternatives: list[tuple[Fields, ...]] = []
    for name, value in raw.items():
        place = (*path, name)
        budget.spend()
        if not isinstance(name, str):
            raise ConfigError(f'a field\'s name is a text; write "{name}" in quotes', path=place)
        if name == "$or":
            alternatives.append(_alternatives(value, place, depth, budget))
            continue
        if inside_or and name in OPERATORS:
            raise ConfigError(f"{name!r} is an operator; in '$or' stand objects with fields", path=place)
        fields.append((name, _node(name, value, place, depth, budget, inside_or=inside_or)))
    return Fields(tuple(fields), tuple(alternatives))


def _node(name: str, value: Any, place: Path, depth: int, budget: _Budget, *, inside_or: bool) -> Fields | Leaf:
    if isinstance(value, list):
        if name in _NEVER_FIELDS or (name == "numeric" and value[:1] in _COMPARISONS):
            raise ConfigError(f'an operator stands inside a list: [{{"{name}": …}}]', path=place)
        return parse_leaf(value, field=name, path=place)
    if isinstance(value, dict):
        return _fields(value, place, depth + 1, budget, inside_or=inside_or)
    if name in OPERATORS:
        raise ConfigError(f'an operator stands inside a list: [{{"{name}": …}}]', path=place)
    raise ConfigError(f"write it as a list: [{_as_json(value)}]", path=place)


def _alternatives(raw: Any, path: Path, depth: int, budget: _Budget) -> tuple[Fields, ...]:
    if not isinstance(raw, list):
        raise ConfigError("'$or' takes a list of objects: [{…}, {…}]", path=path)
    if len(raw) < 2:
        raise ConfigError("'$or' takes at least two objects", path=path)
    return tuple(
        _fields(element, (*path, index), depth + 1, budget, inside_or=True) for index, element in enumerate(raw)
    )


def _as_json(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else '"…"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:40]
