"""The breaker of one sink: after some unavailable calls in a row all lanes wait, and one probe at a time goes."""

from __future__ import annotations

import asyncio
import enum

from connector.clock import Clock


class BreakerState(enum.StrEnum):
    """Closed: calls go through. Open: all wait. Half open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts unavailable calls in a row, over all lanes of a route."""

    def __init__(self, failures_max: int, clock: Clock) -> None:
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.unavailable_since_ms: int | None = None
        self._failures_max = failures_max
        self._clock = clock
        self._open_until = 0.0
        self._changed = asyncio.Event()

    async def admit(self) -> bool:
        """Wait until a call may go through; says whether it is the probe (one at a time, while the sink is down)."""
        while self.state is not BreakerState.CLOSED:
            wait_s = self._open_until - self._clock.monotonic()
            if self.state is BreakerState.OPEN and wait_s <= 0:
                self.state = BreakerState.HALF_OPEN
                return True
            changed = self._changed
            try:
                async with asyncio.timeout(wait_s if self.state is BreakerState.OPEN else None):
                    await changed.wait()
            except TimeoutError:
                pass
        return False

    def answered(self) -> None:
        """The sink answered (whatever it said of the changes): it is there."""
        self.failures = 0
        self.unavailable_since_ms = None
        if self.state is not BreakerState.CLOSED:
            self._change(BreakerState.CLOSED)

    def unavailable(self, wait_s: float, *, probe: bool = False) -> None:
        """A call found the sink unavailable; if the breaker opens (or stays open), it is for ``wait_s``.

        A call from before the breaker opened may end while the probe is under way: only the probe's own end counts.
        """
        self.failures += 1
        if self.unavailable_since_ms is None:
            self.unavailable_since_ms = self._clock.now_ms()
        if self.state is BreakerState.HALF_OPEN and not probe:
            return
        if probe or self.failures >= self._failures_max:
            self._open_until = self._clock.monotonic() + wait_s
            self._change(BreakerState.OPEN)

    def give_up_probe(self) -> None:
        """A probe ended without an answer (it was cancelled): let another one go."""
        if self.state is BreakerState.HALF_OPEN:
            self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()


class WritesAtOnce:
    """How many of a route's lanes may write at once: halved when the sink throttles, regained one by one."""

    def __init__(self, lanes: int) -> None:
        self.limit = lanes
        self.under_way = 0
        self._lanes = lanes
        self._calm = 0
        self._free = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._free:
            while self.under_way >= self.limit:
                await self._free.wait()
            self.under_way += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._free:
            self.under_way -= 1
            self._free.notify_all()  # not one: the limit may have risen since the others began to wait

    def throttled(self) -> None:
        """Halve, down to one."""
        self.limit = max(1, self.limit // 2)
        self._calm = 0

    def answered(self) -> None:
        """One more write at once after as many calm answers as writes are allowed now."""
        if self.limit < self._lanes:
            self._calm += 1
            if self._calm >= self.limit:
                self.limit += 1
                self._calm = 0
