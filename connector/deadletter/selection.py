"""Which dead letters are meant, and picking them in their order without holding more than fits in memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection

import msgspec

from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import DeadLetters
from connector.delivery.versions import LOGICAL_BITS

DECODE = ""
"""The route of letters of undecodable records: no route has seen them."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters of a pipeline; what is None matches all."""

    id: str | None = None
    """The beginning of an id."""
    route: str | None = None
    reason: str | None = None
    """A letter's code (``mapping``) or its kind (``held``)."""
    key: str | None = None
    """The key as letters show it: canonical JSON."""
    limit: int | None = None
    """The first so many, in the order in which they are dealt with."""

    def matches(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant (``limit`` aside)."""
        return (
            (self.id is None or letter.id.startswith(self.id))
            and (self.route is None or letter.route == self.route)
            and (self.reason is None or self.reason in (letter.code, letter.kind.value))
            and (self.key is None or letter.key == self.key)
        )


Held = dict[str, dict[str, int]]
"""By route and key: the version of the earliest letter that holds the key and is not among those meant."""


class Picked(msgspec.Struct):
    """A part of the letters that are meant, the earliest first."""

    letters: list[DeadLetter]
    more: bool
    """Whether others remain, for which there was no room."""
    held: Held


Order = tuple[int, str, int, int, int]


def order_of(letter: DeadLetter) -> Order:
    """By version, so each key's letters come in the order of its changes; undecodable ones by their record's time."""
    version = letter.version or letter.record.timestamp_ms << LOGICAL_BITS
    return version, letter.shard, letter.position, letter.record.part, letter.index


async def pick(
    destination: DeadLetters,
    selection: Selection,
    *,
    leave_out: Collection[str] = (),
    routes_down: Collection[str] = (),
    letters_max: int,
    bytes_max: int,
) -> Picked:
    """Read all dead letters once and keep the earliest that are meant, within the bounds (one at least).

    ``leave_out`` are ids that were picked before. Letters of ``routes_down`` are left out too, and where there are any,
    letters of undecodable records, which need every route. Raises DeadLetterError.
    """
    kept: list[tuple[Order, int, DeadLetter]] = []
    kept_bytes = 0
    ceiling: Order | None = None
    held: Held = {}
    number = 0
    async for stored in destination.letters():
        letter = stored.letter
        if not selection.matches(letter):
            if letter.holds_key and letter.key is not None:
                keys = held.setdefault(letter.route, {})
                keys[letter.key] = min(letter.version, keys.get(letter.key, letter.version))
            continue
        if letter.id in leave_out or letter.route in routes_down or (routes_down and letter.route == DECODE):
            continue
        order = order_of(letter)
        if ceiling is not None and order >= ceiling:
            continue
        number += 1
        insort(kept, (order, number, letter))
        kept_bytes += _bytes_of(letter)
        while len(kept) > letters_max or (kept_bytes > bytes_max and len(kept) > 1):
            # Nothing later than what had no room is kept either, however small: a key's letters stay in order.
            ceiling, _, late = kept.pop()
            kept_bytes -= _bytes_of(late)
    return Picked([letter for _, _, letter in kept], ceiling is not None, held)


def _bytes_of(letter: DeadLetter) -> int:
    return len(letter.record.value or b"") + len(letter.record.key or b"")
