"""Bounds of what is in flight, by changes and by bytes, for one pipeline."""

from __future__ import annotations

import asyncio


class Bounds:
    """Counts what was taken in and is not finished (a change counts once for each route that took it).

    Reading stops when a bound is reached and goes on when enough was released: a slow sink bounds memory, never loses.
    """

    def __init__(self, changes_max: int, bytes_max: int) -> None:
        self.changes_max = changes_max
        self.bytes_max = bytes_max
        self.changes = 0
        self.bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    def take(self, changes: int, bytes_: int) -> None:
        """Account for what was read. It may pass the bound by one read: the next read waits."""
        self.changes += changes
        self.bytes += bytes_
        if self.full:
            self._room.clear()

    def release(self, changes: int, bytes_: int) -> None:
        """Account for what was finished."""
        self.changes -= changes
        self.bytes -= bytes_
        assert self.changes >= 0, "more was released than was taken"
        if not self.full:
            self._room.set()

    @property
    def full(self) -> bool:
        """True when nothing more should be read."""
        return self.changes >= self.changes_max or self.bytes >= self.bytes_max

    async def room(self, wait_s: float) -> bool:
        """Wait until there is room, at most so long; says whether there is."""
        if self._room.is_set():
            return True
        try:
            async with asyncio.timeout(wait_s):
                await self._room.wait()
        except TimeoutError:
            return False
        return True
