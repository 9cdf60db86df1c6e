"""A lane: one of a route's ordered queues. A key always hashes to the same lane; a lane has one write in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

from connector.change import Change
from connector.clock import Clock
from connector.delivery.policy import RoutePolicy


class Refusal:
    """A change that the route itself cannot take: dead-lettered in its place in the lane's order."""

    __slots__ = ("change", "code", "message")

    def __init__(self, change: Change, code: str, message: str) -> None:
        self.change = change
        self.code = code
        self.message = message


class Lane:
    """Queues changes in order and hands them on, a batch at a time, to ``deliver`` and ``refuse``."""

    def __init__(
        self,
        policy: RoutePolicy,
        clock: Clock,
        deliver: Callable[[list[Change]], Awaitable[None]],
        refuse: Callable[[list[Refusal]], Awaitable[None]],
    ) -> None:
        self.queue: deque[Change] = deque()
        self.refusals: deque[Refusal] = deque()
        self._policy = policy
        self._clock = clock
        self._deliver = deliver
        self._refuse = refuse
        self._waiting = asyncio.Event()

    def wake(self) -> None:
        """Something was queued."""
        self._waiting.set()

    async def run(self) -> None:
        """Deliver what comes, for ever."""
        while True:
            if not self.queue and not self.refusals:
                self._waiting.clear()
                await self._waiting.wait()
            if self._policy.batch_window_s:
                await self._gather()
            if self.refusals:
                # Buried before later changes of their keys are looked at; earlier ones pass (they are older).
                refusals = list(self.refusals)
                self.refusals.clear()
                await self._refuse(refusals)
            if self.queue:
                await self._deliver(self._take())

    async def _gather(self) -> None:
        """Wait for a batch to fill, by size or by bytes, at most for the window."""
        until = self._clock.monotonic() + self._policy.batch_window_s
        counted = held = 0
        while len(self.queue) < self._policy.batch_size and (wait_s := until - self._clock.monotonic()) > 0:
            held += sum([len(change.record.value or b"") for change in islice(self.queue, counted, None)])
            counted = len(self.queue)
            if held >= self._policy.batch_bytes:
                return
            self._waiting.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._waiting.wait()
            except TimeoutError:
                return

    def _take(self) -> list[Change]:
        """The next batch: as much as waits, within the bounds (one change at least, however large it is)."""
        queue = self.queue
        pop = queue.popleft
        batch = [pop() for _ in range(min(len(queue), self._policy.batch_size))]
        bytes_max = self._policy.batch_bytes
        sizes = [len(change.record.value or b"") for change in batch]
        if sum(sizes) > bytes_max:
            held = 0
            for place, size in enumerate(sizes):
                held += size
                if held > bytes_max and place:
                    queue.extendleft(reversed(batch[place:]))
                    return batch[:place]
        return batch
