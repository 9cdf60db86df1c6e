"""Parcels: the letters of one round of a replay, each waiting for the endings of its changes."""

from __future__ import annotations

from collections.abc import Sequence

from connector.change import Change
from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.deadletter.reopen import Reason
from connector.delivery.counts import Ending

Place = tuple[str, str, int, int, int]
"""Route, shard, position, part, index: one change on its way along one route."""

EMPTY = "empty"
"""The outcome of a letter whose record turned out to carry no change."""

_STRENGTH = (Ending.APPLIED, Ending.STALE, Ending.SUPERSEDED, Ending.FILTERED)
"""Which ending names a letter that had several changes or routes."""


class Parcel:
    """One letter and what became of it so far."""

    __slots__ = ("_endings", "letter", "pending", "reason")

    def __init__(self, letter: DeadLetter) -> None:
        self.letter = letter
        self.pending = 0
        self.reason: Reason | None = None
        """Why it stays dead: the first reason, where there are several."""
        self._endings: set[Ending] = set()

    def ended(self, ending: Ending, reason: Reason | None) -> None:
        """One of its changes came to its end on one route."""
        self.pending -= 1
        assert self.pending >= 0, "a change of a letter ended twice"
        self._endings.add(ending)
        self.reason = self.reason or reason

    @property
    def outcome(self) -> str:
        """The replay's outcome in a word, for a letter that is not dead any more."""
        return next((ending.value for ending in _STRENGTH if ending in self._endings), EMPTY)


class Parcels:
    """Which letters wait for which change."""

    def __init__(self) -> None:
        self.done: list[Parcel] = []
        """Those whose last change has ended, until somebody takes them."""
        self._waiting: dict[Place, list[Parcel]] = {}
        self._reasons: dict[Place, Reason] = {}

    def expect(self, route: str, change: Change, parcel: Parcel) -> bool:
        """A letter waits for a change on a route. False: another letter waits for the same, it is sent already."""
        parcel.pending += 1
        waiting = self._waiting.setdefault(_place(route, change), [])
        waiting.append(parcel)
        return len(waiting) == 1

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Where a route's poison goes in a replay: it is dead and durable already, only the reason is new."""
        for letter in letters:
            place = (letter.route, letter.shard, letter.position, letter.record.part, letter.index)
            self._reasons[place] = Reason(letter.kind, letter.code, letter.message)

    def told(self, route: str, changes: Sequence[Change], ending: Ending) -> None:
        """Changes came to their end on a route."""
        for change in changes:
            place = _place(route, change)
            reason = None
            if ending is Ending.DEAD_LETTERED:
                reason = self._reasons.pop(place)
            elif ending is Ending.ABANDONED:
                reason = Reason(ErrorKind.UNKNOWN, "abandoned")
            for parcel in self._waiting.pop(place):
                parcel.ended(ending, reason)
                if not parcel.pending:
                    self.done.append(parcel)

    def take_done(self) -> list[Parcel]:
        """The letters that are through since this was last asked."""
        done, self.done = self.done, []
        return done


def _place(route: str, change: Change) -> Place:
    return route, change.shard, change.record.position, change.record.part, change.index
