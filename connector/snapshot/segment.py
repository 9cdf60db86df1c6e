"""One segment that is being read: how far it was read, how much of that is out, and what to save of it."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from connector.change import Position, ShardId
from connector.snapshot.state import SegmentState

PAGES_AHEAD = 2
"""Pages of one segment that were read and are not finished: the stream must not wait behind a whole table."""
PLACES_MAX = 1000
"""Finished pages of one segment that are not saved (the store may be down)."""


class Segment:
    """One segment that is being read."""

    def __init__(self, state: SegmentState, shard: ShardId, base: Position) -> None:
        self.shard = shard
        self.read = msgspec.structs.replace(state, position=max(base, state.position))
        """How far it was read."""
        self.places: dict[Position, SegmentState] = {}
        """What to save when everything before a position is finished."""
        self.unfinished: deque[tuple[Position, float]] = deque()
        """Pages that are out, by their end, and when each was read."""
        self.room = asyncio.Event()
        self.room.set()
        self.task: asyncio.Task[None] | None = None

    def look(self, finished: Position) -> None:
        """Take note of how far it is finished."""
        while self.unfinished and self.unfinished[0][0] <= finished:
            self.unfinished.popleft()
        if len(self.unfinished) < PAGES_AHEAD and len(self.places) < PLACES_MAX:
            self.room.set()

    def note_page(self, now_s: float) -> None:
        """A page was read, up to ``read``."""
        self.places[self.read.position] = self.read
        self.unfinished.append((self.read.position, now_s))
        if len(self.unfinished) >= PAGES_AHEAD or len(self.places) >= PLACES_MAX:
            self.room.clear()

    def note_saved(self, position: Position) -> None:
        """The place of this position is saved: those up to it are of no more use."""
        for each in [each for each in self.places if each <= position]:
            del self.places[each]
