"""A parsed pattern as one function of a decoded record (or a part of it). Nothing is looked up twice.

Arrays are as in aws/event-ruler ("JSON Array Matching"): a list matches when any of its elements does, and fields below
one list must match in one element of it. ``{"exists": false}`` holds where the field is nowhere on its path, in no
element. An object is no leaf: a field that holds an object, or an empty list, does not "exist" as a leaf.

One difference: where a branch of ``$or`` and a field beside the ``$or`` both go into the same list, each may choose an
element of its own; event-ruler would want the same one. Written inside the list's field, ``$or`` means one element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from connector.filters.operators import Leaf, any_of
from connector.filters.pattern import Fields

MISSING: Final = object()
"""Stands for a part of the record that is not there."""

Check = Callable[[Any, Any], bool]
"""(value at this place, root of the part that is matched) → does it match. The root is for ``exists: false``."""

Matcher = Callable[[Any], bool]
"""A decoded record, or one image of it, or MISSING → does it match."""

_EMPTY: Final[dict[str, Any]] = {}


def compile_node(node: Fields | Leaf) -> Matcher:
    """Compile a pattern's tree, or a branch of it, to a function of what stands at its place in the record."""
    check = _check(node, ())
    return lambda root: check(root, root)


def _check(node: Fields | Leaf, names: tuple[str, ...]) -> Check:
    return _check_fields(node, names) if isinstance(node, Fields) else _check_leaf(node, names)


def _check_fields(node: Fields, names: tuple[str, ...]) -> Check:
    one = _check_object(node, names)

    def check(value: Any, root: Any) -> bool:
        if isinstance(value, dict):
            return one(value, root)
        if isinstance(value, list):
            # The empty object last: "nowhere" can hold of a list without a single object.
            return any(one(element, root) for element in _objects(value)) or one(_EMPTY, root)
        return one(_EMPTY, root)

    return check


def _check_object(node: Fields, names: tuple[str, ...]) -> Check:
    fields = [(name, _check(child, (*names, name))) for name, child in node.fields]
    groups = [[_check_object(branch, names) for branch in group] for group in node.alternatives]
    if len(fields) == 1 and not groups:
        [(name, only)] = fields
        return lambda found, root: only(found.get(name, MISSING), root)

    def check(found: Any, root: Any) -> bool:
        for name, child in fields:
            if not child(found.get(name, MISSING), root):
                return False
        return all(any(branch(found, root) for branch in group) for group in groups)

    return check


def _check_leaf(leaf: Leaf, names: tuple[str, ...]) -> Check:
    test = any_of(leaf.tests) if leaf.tests else None

    def check(value: Any, root: Any) -> bool:
        if isinstance(value, list):
            if test is not None and any(test(scalar) for scalar in _scalars(value)):
                return True
        elif value is not MISSING and not isinstance(value, dict):
            return test is not None and test(value)
        return leaf.absent and not _is_there(root, names)

    return check


def _is_there(root: Any, names: tuple[str, ...]) -> bool:
    """Whether any scalar stands on this path, through whatever lists."""
    found = [root]
    for name in names:
        found = [each[name] for value in found for each in _objects([value]) if name in each]
    return any(True for _ in _scalars(found))


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    """The objects in a list, through lists in it. (A loop: how deep a record nests is not ours to trust.)"""
    waiting = values[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _scalars(values: list[Any]) -> Iterator[Any]:
    """The scalars in a list, through lists in it, without those below objects."""
    waiting = values[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif value is not MISSING and not isinstance(value, dict):
            yield value
