"""One read at a time whose result is never lost, even where whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class KeptReading(Generic[T]):
    """A thread cannot be cancelled: what it reads for a cancelled ``get`` is the answer of the next one."""

    def __init__(self) -> None:
        self._reading: asyncio.Future[T] | None = None

    async def get(self, start: Callable[[], asyncio.Future[T]]) -> T:
        """The result of the reading under way, or of a new one from ``start``."""
        if self._reading is None:
            self._reading = start()
        reading = self._reading
        try:
            result = await asyncio.shield(reading)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._reading = None
            raise
        self._reading = None
        return result

    async def settle(self) -> None:
        """Wait until no reading is under way, whatever it came to. For closing."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.exception()  # marks it as seen: its reader is gone
            self._reading = None
