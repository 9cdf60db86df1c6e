"""``where:`` says which items belong in a sink: patterns on the item alone, asked of the images of a change.

What follows for a change, for a STATE sink (one that holds the last state of each key):

    REMOVE          the old image does not match: DROP, it was never there; otherwise KEEP (no old image: removing what
                    is not there is harmless).
    INSERT, MODIFY  the new image matches: KEEP. It does not:
        MODIFY      the old image does not match either: DROP, it was never there; otherwise REMOVE, it may be there.
        INSERT      DROP: before an INSERT there was no item. One that had been there under the same key was removed by
                    a REMOVE of its own, earlier in the log, and that one was delivered.

For an EVENT sink each change stands for itself: the item is the new image, or the old one for a REMOVE.

Where the image that decides is not in the record, nobody can know: IMAGE_MISSING, and the change is dead-lettered.
Patterns that ask about the key's attributes alone need no image: such an item always belongs or never does.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Any

from connector.change import Change, EventName
from connector.filters.compile import Matcher, compile_node
from connector.filters.pattern import Fields, Pattern
from connector.filters.when import ALL_EVENT_NAMES, read_key
from connector.sink import Needs


class Where(enum.Enum):
    """What ``where`` makes of a change."""

    KEEP = "keep"
    """The item belongs (or its removal does): deliver the change as it is."""
    REMOVE = "remove"
    """The item belongs no longer: deliver ``change.as_removal()``."""
    DROP = "drop"
    """The item does not and did not belong: filtered."""
    IMAGE_MISSING = "image_missing"
    """It cannot be known: the value is the code of the dead letter."""


class ItemPredicate:
    """Whether an item belongs. Make it with ``compile_where``; call it with ``ImageFormat.matchable(image)``."""

    __slots__ = ("_matchers", "attributes")

    def __init__(self, roots: Sequence[Fields]) -> None:
        self._matchers: tuple[Matcher, ...] = tuple(compile_node(root) for root in roots)
        self.attributes = frozenset(name for root in roots for name in _names(root))
        """The item's top-level attributes that the patterns ask about."""

    def __call__(self, item: Any) -> bool:
        return any(matches(item) for matches in self._matchers)


def compile_where(patterns: Sequence[Pattern]) -> ItemPredicate:
    """Compile patterns on the item of which one must match."""
    assert patterns, "no patterns: there is nothing to compile"
    return ItemPredicate([pattern.root for pattern in patterns])


def decide(predicate: ItemPredicate, change: Change, *, state: bool) -> Where:
    """What to do with a change (see the table above). ``state``: the sink's semantics are STATE.

    Raises DecodeError for an image that is none.
    """
    if predicate.attributes <= change.keys.keys():
        return Where.KEEP if predicate(read_key(change.key)) else Where.DROP
    removal = change.event_name is EventName.REMOVE
    if removal and state:
        return Where.DROP if _belongs(predicate, change, change.old_image) is False else Where.KEEP
    belongs = _belongs(predicate, change, change.old_image if removal else change.new_image)
    if belongs is None:
        return Where.IMAGE_MISSING
    if belongs:
        return Where.KEEP
    if not state or change.event_name is EventName.INSERT:
        return Where.DROP
    return Where.DROP if _belongs(predicate, change, change.old_image) is False else Where.REMOVE


def _belongs(predicate: ItemPredicate, change: Change, image: bytes | None) -> bool | None:
    return None if image is None else predicate(change.images.matchable(image))


def needed_images_of_where(
    patterns: Sequence[Pattern],
    *,
    state: bool,
    event_names: frozenset[EventName] = ALL_EVENT_NAMES,
    key_attributes: Collection[str] = (),
) -> Needs:
    """The images without which ``decide`` says IMAGE_MISSING.

    ``event_names``: those that reach it (``ChangePredicate.event_names`` of the route's ``when``).
    ``key_attributes``: the key's attributes, as far as they are known before the first change.
    """
    needs = Needs.NOTHING
    if compile_where(patterns).attributes <= set(key_attributes):
        return needs
    if event_names & {EventName.INSERT, EventName.MODIFY}:
        needs |= Needs.NEW_IMAGE
    if EventName.REMOVE in event_names and not state:
        needs |= Needs.OLD_IMAGE
    return needs


def _names(root: Fields) -> set[str]:
    names = {name for name, _ in root.fields}
    for group in root.alternatives:
        for branch in group:
            names |= _names(branch)
    return names
