"""A naive evaluator of patterns, as aws/event-ruler defines them: flat fields, every combination tried.

A record becomes a list of (path, scalar, memberships): the elements of which lists the scalar's object is in. A pattern
becomes rules without ``$or``. A rule matches when fields can be chosen, one for each leaf, that are never in different
elements of the same list; ``exists: false`` holds when there is no such field at all.
"""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any, NamedTuple


class Field(NamedTuple):
    path: tuple[str, ...]
    scalar: Any
    members: dict[int, int]


Rule = list[tuple[tuple[str, ...], list[Any]]]


def matches(raw: dict[str, Any], record: dict[str, Any]) -> bool:
    fields = flatten(record)
    return any(rule_matches(rule, fields) for rule in rules_of(raw, ()))


def flatten(record: dict[str, Any]) -> list[Field]:
    fields: list[Field] = []
    numbers = itertools.count()

    def walk(path: tuple[str, ...], value: Any, members: dict[int, int], around: dict[int, int]) -> None:
        if isinstance(value, dict):
            for name, child in value.items():
                walk((*path, name), child, around, around)
        elif isinstance(value, list):
            this = next(numbers)
            for index, element in enumerate(value):
                walk(path, element, members, {**around, this: index})
        else:
            fields.append(Field(path, value, members))

    walk((), record, {}, {})
    return fields


def rules_of(raw: dict[str, Any], path: tuple[str, ...]) -> list[Rule]:
    rules: list[Rule] = [[]]
    for name, value in raw.items():
        if name == "$or":
            more = [rule for branch in value for rule in rules_of(branch, path)]
        elif isinstance(value, dict):
            more = rules_of(value, (*path, name))
        else:
            more = [[((*path, name), value)]]
        rules = [left + right for left in rules for right in more]
    return rules


def rule_matches(rule: Rule, fields: list[Field]) -> bool:
    choices: list[list[Field | None]] = []
    for path, leaf in rule:
        candidates = [field for field in fields if field.path == path]
        fitting: list[Field | None] = [
            field for field in candidates if any(element_matches(element, field.scalar) for element in leaf)
        ]
        if not candidates and {"exists": False} in leaf:
            fitting.append(None)
        choices.append(fitting)
    return any(consistent(chosen) for chosen in itertools.product(*choices))


def consistent(chosen: tuple[Field | None, ...]) -> bool:
    seen: dict[int, int] = {}
    return all(
        seen.setdefault(array, index) == index for field in chosen if field for array, index in field.members.items()
    )


def element_matches(element: Any, scalar: Any) -> bool:
    if not isinstance(element, dict):
        return equal(element, scalar)
    [(operator, operand)] = element.items()
    if operator == "exists":
        return bool(operand)
    if operator == "anything-but":
        if isinstance(operand, dict):
            [(inner, values)] = operand.items()
            values = values if isinstance(values, list) else [values]
            return not any(element_matches({inner: value}, scalar) for value in values)
        values = operand if isinstance(operand, list) else [operand]
        return not any(equal(value, scalar) for value in values)
    if operator == "numeric":
        if isinstance(scalar, bool) or not isinstance(scalar, int | Decimal):
            return False
        pairs = zip(operand[::2], operand[1::2], strict=True)
        return all(
            {"=": scalar == n, "<": scalar < n, "<=": scalar <= n, ">": scalar > n, ">=": scalar >= n}[comparison]
            for comparison, n in pairs
        )
    if not isinstance(scalar, str):
        return False
    if isinstance(operand, dict):
        scalar, operand = scalar.casefold(), operand["equals-ignore-case"].casefold()
    if operator == "prefix":
        return bool(scalar[: len(operand)] == operand)
    if operator == "suffix":
        return bool(scalar[max(0, len(scalar) - len(operand)) :] == operand)
    if operator == "equals-ignore-case":
        return bool(scalar.casefold() == operand.casefold())
    assert operator == "wildcard"
    return wildcard_matches(operand, scalar)


def wildcard_matches(wildcard: str, text: str) -> bool:
    if not wildcard:
        return not text
    if wildcard[0] == "*":
        return any(wildcard_matches(wildcard[1:], text[at:]) for at in range(len(text) + 1))
    return text[:1] == wildcard[0] and wildcard_matches(wildcard[1:], text[1:])


def equal(literal: Any, scalar: Any) -> bool:
    if isinstance(literal, bool) or isinstance(scalar, bool) or literal is None or scalar is None:
        return literal is scalar
    return isinstance(literal, str) is isinstance(scalar, str) and bool(literal == scalar)
