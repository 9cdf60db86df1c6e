"""Polling many shards: whose turn it is, how many calls at once, and how much may wait to be taken.

A shard is asked again 200 ms after it was asked last while it has records (five times a second, what a Kinesis shard
allows and about what Lambda does), and ever less often while it has none. Throttling halves the number of calls at
once; each hundred successes allow one more again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Collection

import structlog

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END
from connector.clock import Clock
from connector.errors import MillraceError, SourceError
from connector.sources.streams.api import NotFound, StreamApiError, Throttled
from connector.sources.streams.backoff import Backoff
from connector.sources.streams.positions import after
from connector.sources.streams.reader import ShardReader
from connector.sources.streams.troubles import Troubles

log = structlog.get_logger(__name__)

PAGE_RECORDS_MAX = 1000
BUSY_EVERY_S = 0.2
PAGES_AHEAD = 2
"""Pages of one shard that may wait to be taken."""
SUCCESSES_A_STEP = 100


class _Turns:
    """A reader and its place in the queue."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader
        self.due = 0.0
        self.every_s = BUSY_EVERY_S
        self.failures = 0
        self.calls_before = 0
        self.waiting_pages = 0
        self.parked = False
        """It has enough pages waiting: it is in no queue until one is taken."""
        self.removed = False
        self.over = False
        """Ended, or removed: no turn comes any more, and what one under way brings is dropped."""


class Poller:
    """Keeps reading ahead a little of every shard, in tasks of its own; ``take`` gives what has come."""

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        troubles: Troubles,
        *,
        calls_at_once: int,
        idle_every_s: float,
        bytes_ahead: int,
    ) -> None:
        self.missing: set[ShardId] = set()
        """Shards that the API says do not exist: their turns go on, but somebody should look."""
        self._clock = clock
        self._chance = chance
        self._troubles = troubles
        self._backoff = Backoff(0.25, 10.0)
        self._calls_max = calls_at_once
        self._calls = float(calls_at_once)
        self._successes = 0
        self._idle_every_s = idle_every_s
        self._bytes_ahead = bytes_ahead
        self._bytes = 0
        self._turns: dict[ShardId, _Turns] = {}
        self._queue: list[tuple[float, int, _Turns]] = []
        self._numbers = itertools.count()
        self._ready: deque[tuple[_Turns, RecordBatch, int]] = deque()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._paused = False
        self._skipped_before = 0
        self._loop: asyncio.Task[None] | None = None

    @property
    def skipped(self) -> int:
        """How often records were gone and skipped, over all shards."""
        return self._skipped_before + sum(turns.reader.skipped for turns in self._turns.values())

    def add(self, reader: ShardReader) -> None:
        """Read this shard, too."""
        assert reader.shard not in self._turns, "a shard has one reader"
        turns = self._turns[reader.shard] = _Turns(reader)
        self._put(turns, self._clock.monotonic())
        if self._loop is None:
            self._loop = asyncio.ensure_future(self._run())

    def remove(self, shards: Collection[ShardId]) -> None:
        """Read these no more; what waits of them is dropped."""
        for shard in shards:
            if (turns := self._turns.pop(shard, None)) is not None:
                turns.removed = turns.over = True
                self._skipped_before += turns.reader.skipped
                self._troubles.forget(shard)
                self.missing.discard(shard)
        kept: deque[tuple[_Turns, RecordBatch, int]] = deque()
        for entry in self._ready:
            if entry[0].removed:
                self._bytes -= entry[2]
            else:
                kept.append(entry)
        self._ready = kept
        self._changed.set()

    def end(self, shard: ShardId) -> None:
        """Nothing is left of this shard to read: end it as if its last page had come. What waits of it comes first."""
        turns = self._turns[shard]
        turns.over = True
        self._troubles.forget(shard)
        self.missing.discard(shard)
        self._enqueue(turns, RecordBatch(shard, [], SHARD_END))

    def tips(self) -> dict[ShardId, Position]:
        """The positions of the shards that are read up to their tips."""
        return {
            shard: turns.reader.position
            for shard, turns in self._turns.items()
            if turns.reader.at_tip and not turns.over
        }

    def pause(self) -> None:
        """Ask for nothing more for now."""
        self._paused = True

    def resume(self) -> None:
        """Go on asking."""
        self._paused = False
        self._changed.set()

    async def take(self, records_max: int, wait_s: float) -> list[RecordBatch]:
        """What has come, at most so many records; waits so long for the first. Raises SourceError."""
        if not self._ready and self._failure is None:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        batches: list[RecordBatch] = []
        while self._ready and records_max > 0:
            turns, batch, size = self._ready.popleft()
            records = batch.records
            if len(records) > records_max:
                last = records[records_max - 1]
                # Several records of one position (aggregated by their producer) are finished together or not at all.
                while records_max < len(records) and records[records_max].position == last.position:
                    records_max += 1
            if len(records) > records_max:
                rest = RecordBatch(batch.shard, records[records_max:], batch.next_position)
                self._ready.appendleft((turns, rest, size))
                batches.append(
                    RecordBatch(batch.shard, records[:records_max], after(records[records_max - 1].position))
                )
                break
            records_max -= len(records)
            self._bytes -= size
            batches.append(batch)
            turns.waiting_pages -= 1
            if turns.parked and not turns.over:
                self._put(turns, turns.due)
        if batches:
            self._changed.set()
        return batches

    async def close(self) -> None:
        """End all calls."""
        tasks = [*self._running, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    def _put(self, turns: _Turns, due: float) -> None:
        turns.due = due
        turns.parked = False
        heapq.heappush(self._queue, (due, next(self._numbers), turns))
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            wait_s = self._start_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def _start_due(self) -> float | None:
        """Start the turns that are due, as far as there is room; how long until the next is, if that is all to wait
        for."""
        now = self._clock.monotonic()
        while self._queue:
            if self._queue[0][2].over:
                heapq.heappop(self._queue)
                continue
            if self._paused or self._bytes >= self._bytes_ahead or len(self._running) >= int(self._calls):
                return None
            if (due := self._queue[0][0]) > now:
                return due - now
            due_turns = heapq.heappop(self._queue)[2]
            task = asyncio.ensure_future(self._turn(due_turns))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: self._changed.set())
        return None

    async def _turn(self, turns: _Turns) -> None:
        began = self._clock.monotonic()
        reader = turns.reader
        try:
            batch = await reader.turn(PAGE_RECORDS_MAX)
        except StreamApiError as error:
            if not turns.over:
                self._failed(turns, error)
            return
        except Exception as error:
            if not turns.over:
                known = isinstance(error, MillraceError)
                self._failure = error if known else SourceError(f"{reader.shard}: {type(error).__name__}: {error}")
                self._failure.__cause__ = None if known else error
                self._arrived.set()
            return
        if turns.over:
            return
        self._succeeded(turns)
        if batch is not None:
            self._enqueue(turns, batch)
        # An empty page in the middle of a shard, as the API may say, is no reason to rest.
        busy = batch is not None or not reader.empty_pages
        turns.every_s = BUSY_EVERY_S if busy else min(turns.every_s * 1.5, self._idle_every_s)
        turns.due = began + turns.every_s
        turns.over = reader.ended
        turns.parked = turns.waiting_pages >= PAGES_AHEAD
        if not turns.over and not turns.parked:
            self._put(turns, turns.due)

    def _enqueue(self, turns: _Turns, batch: RecordBatch) -> None:
        size = sum([len(record.value or b"") for record in batch.records])
        self._bytes += size
        turns.waiting_pages += 1
        self._ready.append((turns, batch, size))
        self._arrived.set()

    def _succeeded(self, turns: _Turns) -> None:
        if turns.failures:
            turns.failures = 0
            self._troubles.passed(turns.reader.shard)
            self.missing.discard(turns.reader.shard)
        self._successes += 1
        if self._successes % SUCCESSES_A_STEP == 0:
            self._calls = min(self._calls_max, self._calls + 1)

    def _failed(self, turns: _Turns, error: StreamApiError) -> None:
        if turns.reader.calls != turns.calls_before:
            turns.calls_before = turns.reader.calls
            self._succeeded(turns)  # a turn is several calls: those before the failed one were answered
        turns.failures = self._troubles.note(turns.reader.shard, error)
        if isinstance(error, Throttled):
            self._calls = max(1.0, self._calls / 2)
        if isinstance(error, NotFound):
            self.missing.add(turns.reader.shard)
        self._put(turns, self._clock.monotonic() + self._backoff.wait_s(turns.failures, self._chance))
