"""``when:`` picks changes: patterns on the whole record, decoding no more of it than they ask about.

A record has parts that cost differently much to look at; a pattern is split into its conditions on each part, and the
cheap ones are asked first:

    eventName                the change knows it
    dynamodb.Keys            the change's key, a small JSON text
    dynamodb.NewImage        one image
    dynamodb.OldImage        the other
    anything else            the whole record

An image that the record does not carry is simply not there: ``{"exists": false}`` holds, everything else does not.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from connector.change import Change, EventName
from connector.errors import ConfigError
from connector.filters.compile import MISSING, Matcher, compile_node
from connector.filters.operators import Leaf, any_of
from connector.filters.pattern import Fields, Pattern
from connector.sink import Needs

ALL_EVENT_NAMES = frozenset(EventName)


class _Part(enum.IntEnum):
    """The parts of a record, by what it costs to look at them."""

    KEYS = 1
    NEW_IMAGE = 2
    OLD_IMAGE = 3
    ENVELOPE = 4


_PARTS_OF_DYNAMODB = {"Keys": _Part.KEYS, "NewImage": _Part.NEW_IMAGE, "OldImage": _Part.OLD_IMAGE}
_IMAGES_OF_DYNAMODB = {"NewImage": Needs.NEW_IMAGE, "OldImage": Needs.OLD_IMAGE}
_IMAGES_OF_DEBEZIUM = {"after": Needs.NEW_IMAGE, "before": Needs.OLD_IMAGE}


read_key = msgspec.json.Decoder(float_hook=Decimal).decode
"""A change's key text in the shape that patterns are written against; its numbers stay exact."""


class _Parts:
    """One change's parts, each decoded once at most. It lives for one evaluation."""

    __slots__ = ("_decoded", "change")

    def __init__(self, change: Change) -> None:
        self.change = change
        self._decoded: dict[_Part, Any] = {}

    def get(self, part: _Part) -> Any:
        decoded = self._decoded.get(part)
        if decoded is None:
            decoded = self._decoded[part] = _decode(part, self.change)
        return decoded


def _decode(part: _Part, change: Change) -> Any:
    match part:
        case _Part.KEYS:
            return read_key(change.key)
        case _Part.NEW_IMAGE:
            return MISSING if change.new_image is None else change.images.matchable(change.new_image)
        case _Part.OLD_IMAGE:
            return MISSING if change.old_image is None else change.images.matchable(change.old_image)
        case _Part.ENVELOPE:
            return change.images.envelope(change.record, change.index)


class _Condition(NamedTuple):
    """A condition on a change. ``event_names`` are those for which it can hold at all."""

    cost: int
    event_names: frozenset[EventName]
    holds: Callable[[_Parts], bool] | None
    """What is asked beside the event name; None: nothing."""
    needs: Needs


class ChangePredicate:
    """Whether a change is picked. Make it with ``compile_when``.

    Calling it raises DecodeError where a part of the record that it has to look at is not what the format says.
    """

    __slots__ = ("_conditions", "event_names", "event_names_only", "needs")

    def __init__(self, conditions: Sequence[_Condition]) -> None:
        self._conditions = tuple(
            (condition.event_names, condition.holds) for condition in sorted(conditions, key=lambda each: each.cost)
        )
        self.event_names = frozenset[EventName]().union(*(condition.event_names for condition in conditions))
        """The event names that can be picked; changes of others never are."""
        self.event_names_only = _free_names(conditions) == self.event_names
        """The event name alone decides."""
        self.needs = Needs.NOTHING
        """The images that the patterns ask about."""
        for condition in conditions:
            self.needs |= condition.needs

    def __call__(self, change: Change) -> bool:
        name = change.event_name
        if self.event_names_only or name not in self.event_names:
            return name in self.event_names
        parts = _Parts(change)
        return any(name in event_names and (holds is None or holds(parts)) for event_names, holds in self._conditions)


def compile_when(patterns: Sequence[Pattern]) -> ChangePredicate:
    """Compile patterns of which one must match.

    Raises ConfigError for a pattern on ``eventName`` that no event name can match (``Insert`` for ``INSERT``).
    """
    assert patterns, "no patterns: there is nothing to compile"
    return ChangePredicate([_condition(pattern.root) for pattern in patterns])


def filter_batch(predicate: Callable[[Change], bool], changes: Iterable[Change]) -> list[Change]:
    """The changes that are picked, in their order. Filters on event names alone cost one set look-up a change."""
    if isinstance(predicate, ChangePredicate) and predicate.event_names_only:
        names = predicate.event_names
        return [change for change in changes if change.event_name in names]
    return [change for change in changes if predicate(change)]


def needed_images_of_when(patterns: Sequence[Pattern]) -> Needs:
    """The images that ``when`` patterns ask about: on a stream that never carries them they are a mistake."""
    return compile_when(patterns).needs


def _condition(root: Fields) -> _Condition:
    """Split a pattern on the whole record into conditions on its parts."""
    conditions = [_all(_any(_condition(branch) for branch in group) for group in root.alternatives)]
    for name, node in root.fields:
        if name == "eventName":
            conditions.append(_event_name(node))
        elif name == "dynamodb" and isinstance(node, Fields):
            conditions.append(_condition_of_dynamodb(node))
        else:
            needs = _IMAGES_OF_DEBEZIUM.get(name, Needs.NOTHING)
            conditions.append(_on_part(_Part.ENVELOPE, Fields(((name, node),)), needs))
    return _all(conditions)


def _condition_of_dynamodb(below: Fields) -> _Condition:
    conditions = [_all(_any(_condition_of_dynamodb(branch) for branch in group) for group in below.alternatives)]
    for name, node in below.fields:
        part = _PARTS_OF_DYNAMODB.get(name)
        needs = _IMAGES_OF_DYNAMODB.get(name, Needs.NOTHING)
        if part is None or isinstance(node, Leaf):
            whole = Fields((("dynamodb", Fields(((name, node),))),))
            conditions.append(_on_part(_Part.ENVELOPE, whole, needs))
        else:
            conditions.append(_on_part(part, node, needs))
    return _all(conditions)


def _event_name(node: Fields | Leaf) -> _Condition:
    matches = compile_node(node)
    names = frozenset(name for name in EventName if matches(name.value))
    if not names:
        path = node.path if isinstance(node, Leaf) else ()
        raise ConfigError("eventName is INSERT, MODIFY or REMOVE; this matches none of them", path=path)
    return _Condition(0, names, None, Needs.NOTHING)


def _on_part(part: _Part, node: Fields, needs: Needs) -> _Condition:
    matches: Matcher = compile_node(node)
    return _Condition(part.value, ALL_EVENT_NAMES, lambda parts: matches(parts.get(part)), needs)


def _all(conditions: Iterable[_Condition]) -> _Condition:
    """Conditions that must all hold, the cheapest asked first."""
    ordered = sorted(conditions, key=lambda each: each.cost)
    event_names, needs = ALL_EVENT_NAMES, Needs.NOTHING
    for condition in ordered:
        event_names &= condition.event_names
        needs |= condition.needs
    asked = [condition.holds for condition in ordered if condition.holds is not None]
    cost = ordered[-1].cost if ordered else 0
    if not asked:
        return _Condition(cost, event_names, None, needs)
    if len(asked) == 1:
        return _Condition(cost, event_names, asked[0], needs)
    return _Condition(cost, event_names, lambda parts: all(holds(parts) for holds in asked), needs)


def _any(conditions: Iterable[_Condition]) -> _Condition:
    """Conditions of which one must hold, the cheapest asked first."""
    ordered = sorted(conditions, key=lambda each: each.cost)
    event_names, needs = frozenset[EventName](), Needs.NOTHING
    for condition in ordered:
        event_names |= condition.event_names
        needs |= condition.needs
    cost = ordered[-1].cost
    if _free_names(ordered) == event_names:
        return _Condition(cost, event_names, None, needs)
    asked = any_of([_with_event_name(condition) for condition in ordered])
    return _Condition(cost, event_names, asked, needs)


def _free_names(conditions: Iterable[_Condition]) -> frozenset[EventName]:
    """The event names for which one of the conditions asks nothing more."""
    return frozenset[EventName]().union(*(each.event_names for each in conditions if each.holds is None))


def _with_event_name(condition: _Condition) -> Callable[[_Parts], bool]:
    event_names, holds = condition.event_names, condition.holds
    return lambda parts: parts.change.event_name in event_names and (holds is None or holds(parts))
