"""The snapshot at work: reads segments ahead a little, hands their pages out, and knows how far each is finished."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import structlog

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.clock import Clock
from connector.errors import CheckpointError, ConfigError, SourceError
from connector.observe.snapshot import SnapshotStatus
from connector.snapshot.pace import Pace
from connector.snapshot.protocol import Scanner, segment_of, shard_of
from connector.snapshot.records import ItemFilter, RecordMaker
from connector.snapshot.segment import Segment
from connector.snapshot.state import SegmentState, SnapshotState, SnapshotStore
from connector.snapshot.versions import ITEMS_MAX, snapshot_ms
from connector.sources.protocol import ShardListener
from connector.sources.streams.api import StreamApiError
from connector.sources.streams.backoff import Backoff
from connector.sources.streams.troubles import Troubles

log = structlog.get_logger(__name__)

ATTEMPT_BITS = 40
"""Positions of each attempt are a range of their own: what is read again need not be what was there before, and dead
letters are told apart by position."""
AGAIN_S = 0.2


class FeedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one snapshot."""

    kind: str
    what: str
    segments_at_once: int
    units_per_s: float | None = None
    retention_s: float | None = None
    """For how long the stream keeps what an export must be followed by."""
    stale_after_s: float | None = None
    """Give up where a page is not finished for so long after it was read; None: wait for ever."""


class SnapshotListener(ShardListener, Protocol):
    """The pipeline's shards, of which a snapshot must know how far they are."""

    def finished_position(self, shard: ShardId) -> Position:
        """Everything of an owned shard before it is finished; SHARD_END where it is not owned (any more)."""


class SnapshotFeed:
    """One snapshot of one pipeline. ``prepare``, then ``begin``, then ``settle`` and ``take`` again and again."""

    def __init__(
        self,
        scanner: Scanner,
        store: SnapshotStore,
        options: FeedOptions,
        *,
        clock: Clock,
        chance: random.Random,
        wanted: ItemFilter | None = None,
    ) -> None:
        self.scanner = scanner
        self.store = store
        self._options = options
        self._clock = clock
        self._chance = chance
        self._wanted = wanted
        self._pace = Pace(options.units_per_s, clock)
        self._troubles = Troubles(clock)
        self._backoff = Backoff()
        self._state: SnapshotState | None = None
        self._begun = False
        self._segments: dict[int, SegmentState] = {}
        """How far each segment was saved."""
        self._reading: dict[int, Segment] = {}
        self._ready: deque[RecordBatch] = deque()
        self._arrived = asyncio.Event()
        self._failure: Exception | None = None
        self._todo: deque[int] = deque()
        """Segments that are not begun, in order."""
        self._done = 0
        self._items = 0
        self._items_before = 0
        self._pages = 0
        self._began_at = 0.0

    # What it is about.

    @property
    def active(self) -> bool:
        """Whether there is something to do: prepared, and not done."""
        return self._state is not None and not self._state.done

    @property
    def prepared(self) -> bool:
        """Whether it is known what there is to do."""
        return self._state is not None

    @property
    def begun(self) -> bool:
        """Whether its pages are being read."""
        return self._begun

    @property
    def last_error(self) -> str:
        """Why the table cannot be read at present; empty while it can."""
        return self._troubles.last_error

    async def prepare(self, *, once: bool, first: bool) -> None:
        """Go on with an unfinished snapshot, or begin a new one.

        ``once``: not where one was finished already. ``first``: nobody has read the stream yet, so whatever is known of
        snapshots is of a time before positions were taken (anew): it does not count.
        Raises ConfigError for an export behind a stream that was read already, CheckpointError.
        """
        options, last = self._options, await self.store.load(self._options.kind)
        if last is not None and last.what != options.what:
            last = None
        if last is not None and first and last.segments:
            last = None
        if last is not None and last.done:
            if once:
                return await self._remember(last)
            last = None
        if last is None and self.scanner.whole_state_at_once and not first:
            raise ConfigError(
                "an export can only begin a pipeline whose stream nobody has read yet: what was deleted since the "
                "export was made would come back. Scan the table instead (leave out scan.exports)"
            )
        now_ms = self._clock.now_ms()
        if last is None:
            moment = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
            last = SnapshotState(
                id=f"{moment}-{secrets.token_hex(4)}", kind=options.kind, what=options.what, started_ms=now_ms
            )
        state = msgspec.structs.replace(last, attempt=last.attempt + 1)
        await self.store.save(state)
        await self._remember(state)

    async def _remember(self, state: SnapshotState) -> None:
        self._segments = dict(await self.store.segments(state.id))
        self._items = self._items_before = sum(segment.items for segment in self._segments.values())
        self._pages = sum(segment.pages for segment in self._segments.values())
        self._pace.units = sum(segment.units for segment in self._segments.values())
        self._state = state

    async def begin(self) -> None:
        """The positions of the stream are taken: read from now on. Raises ConfigError, StreamApiError, CheckpointError;
        may be called again."""
        state = self._state
        assert state is not None, "prepare() comes first"
        facts = await self.scanner.open(state.segments or None)
        if not state.segments:
            now_ms = self._clock.now_ms()
            self._refuse_old(facts.server_ms, now_ms)
            state = msgspec.structs.replace(
                state,
                segments=facts.segments,
                items_estimate=facts.items_estimate,
                time_ms=snapshot_ms(now_ms, facts.server_ms),
            )
            await self.store.save(state)
        self._state = state
        self._maker = RecordMaker(state.id, region=facts.region, wanted=self._wanted)
        done = {number for number, segment in self._segments.items() if segment.done}
        self._todo = deque(number for number in range(state.segments) if number not in done)
        self._done = len(done)
        self._began_at = self._clock.monotonic()
        self._begun = True
        log.info("snapshot reads", snapshot=state.id, segments=state.segments, attempt=state.attempt)

    def _refuse_old(self, made_ms: int | None, now_ms: int) -> None:
        retention_s = self._options.retention_s
        if not self.scanner.whole_state_at_once or made_ms is None or retention_s is None:
            return
        if now_ms - made_ms > (retention_s - 3600) * 1000:
            raise ConfigError(
                f"the export is {(now_ms - made_ms) / 3_600_000:.1f} h old, and the stream keeps changes for "
                f"{retention_s / 3600:g} h: what was changed in between would be lost. Make a new export"
            )

    # Inside the source's read.

    async def settle(self, listener: SnapshotListener) -> bool:
        """Begin and end segments as they are due. Says whether it is all done. Raises SourceError."""
        if self._failure is not None:
            raise self._failure
        state = self._state
        assert state is not None
        assert self._begun, "begin() comes first"
        for segment in self._reading.values():
            segment.look(listener.finished_position(segment.shard))
        self._refuse_stale()
        await self._end(listener)
        await self._assign(state, listener)
        if not self._reading and not self._todo:
            await self._finish(state)
        return not self.active

    def take(self, records_max: int) -> list[RecordBatch]:
        """Pages that have come: at least one where there is one, else at most so many records."""
        taken: list[RecordBatch] = []
        while self._ready and (not taken or len(self._ready[0].records) <= records_max):
            records_max -= len(self._ready[0].records)
            taken.append(self._ready.popleft())
        return taken

    async def wait(self, wait_s: float) -> None:
        """Wait for a page, at most so long."""
        self._arrived.clear()
        if self._ready:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def _assign(self, state: SnapshotState, listener: SnapshotListener) -> None:
        due: list[int] = []
        while self._todo and len(self._reading) + len(due) < self._options.segments_at_once:
            # They begin in order, so that what is not done before one is what is being read.
            if min([*self._reading, *due], default=self._todo[0]) < self.scanner.after(self._todo[0]):
                break
            due.append(self._todo.popleft())
        if not due:
            return
        base = state.attempt << ATTEMPT_BITS
        for number in due:
            known = self._segments.get(number, SegmentState(segment=number))
            self._reading[number] = Segment(known, shard_of(state.id, number), base)
        await listener.assigned(
            {
                segment.shard: Checkpoint(segment.read.position, segment.read.clock)
                for segment in (self._reading[number] for number in due)
            }
        )
        for number in due:
            segment = self._reading[number]
            segment.task = asyncio.ensure_future(self._read(state, segment))

    async def _end(self, listener: SnapshotListener) -> None:
        over = [segment.shard for segment in self._reading.values() if segment.read.done]
        if not over:
            return
        for shard in await listener.ended(over):
            number = segment_of(shard)
            self._segments[number] = self._reading.pop(number).read
            self._done += 1

    async def _finish(self, state: SnapshotState) -> None:
        try:
            await self.store.save(msgspec.structs.replace(state, done=True))
        except CheckpointError as error:
            log.warning("the snapshot's end cannot be saved, trying again", error=str(error))
            return
        self._state = msgspec.structs.replace(state, done=True)
        log.info("snapshot done", snapshot=state.id, items=self._items, pages=self._pages)

    def _refuse_stale(self) -> None:
        stale_after_s = self._options.stale_after_s
        if stale_after_s is None:
            return
        now = self._clock.monotonic()
        oldest = min(
            (segment.unfinished[0][1] for segment in self._reading.values() if segment.unfinished), default=now
        )
        if now - oldest > stale_after_s:
            raise SourceError(
                f"what was read {stale_after_s:g} s ago is not written yet: a sink is down or slow, and it may forget "
                "deletions that came in the meantime. Run the command again: it goes on where it was"
            )

    # In tasks of their own: reading ahead.

    async def _read(self, state: SnapshotState, segment: Segment) -> None:
        try:
            while not segment.read.done:
                await segment.room.wait()
                await self._pace.turn()
                await self._read_page(state, segment)
        except Exception as error:
            self._failure = error
            self._arrived.set()

    async def _read_page(self, state: SnapshotState, segment: Segment) -> None:
        read, number = segment.read, segment.read.segment
        try:
            page = await self.scanner.page(number, read.place)
        except StreamApiError as error:
            failures = self._troubles.note(segment.shard, error)
            return await self._clock.sleep(self._backoff.wait_s(failures, self._chance))
        self._troubles.passed(segment.shard)
        self._pace.spend(page.capacity_units)
        time_ms = self.scanner.version_ms(number) or state.time_ms
        records = self._maker.records(page.items, read.position, time_ms)
        done = page.next_place is None
        if read.items + len(page.items) > ITEMS_MAX:
            raise SourceError(f"a segment has more than {ITEMS_MAX} items: more segments are needed")
        segment.read = SegmentState(
            segment=number,
            position=SHARD_END if done else read.position + max(1, len(records)),
            place=page.next_place or read.place,
            items=read.items + len(page.items),
            pages=read.pages + 1,
            units=read.units + page.capacity_units,
            done=done,
        )
        self._items += len(page.items)
        self._pages += 1
        segment.note_page(self._clock.monotonic())
        self._ready.append(RecordBatch(segment.shard, records, segment.read.position))
        self._arrived.set()

    # As a part of the checkpoint store.

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Save how far segments are finished."""
        state = self._state
        assert state is not None
        saved: list[SegmentState] = []
        for shard, checkpoint in checkpoints.items():
            segment = self._reading[segment_of(shard)]
            place = segment.places.get(checkpoint.position)
            if place is not None:
                saved.append(msgspec.structs.replace(place, clock=checkpoint.clock))
        await self.store.save_segments(state.id, saved)
        for one in saved:
            self._segments[one.segment] = one
            if (reading := self._reading.get(one.segment)) is not None:
                reading.note_saved(one.position)

    def status(self) -> SnapshotStatus | None:
        """What it tells of itself; None where there is nothing to tell."""
        state = self._state
        if state is None:
            return None
        elapsed_s = self._clock.monotonic() - self._began_at if self._begun else 0.0
        rate = (self._items - self._items_before) / elapsed_s if elapsed_s > 0 else 0.0
        left = None if state.items_estimate is None else max(0, state.items_estimate - self._items)
        return SnapshotStatus(
            id=state.id,
            state="done" if state.done else "running" if self._begun else "waiting",
            started_ms=state.started_ms,
            attempt=state.attempt,
            segments=state.segments,
            segments_done=state.segments if state.done else self._done,
            items=self._items,
            items_estimate=state.items_estimate,
            pages=self._pages,
            capacity_units=self._pace.units,
            items_per_s=rate,
            seconds_left=0.0 if state.done else left / rate if left is not None and rate > 0 else None,
            last_error=self.last_error,
        )

    async def close(self) -> None:
        """End all that is under way."""
        tasks = [segment.task for segment in self._reading.values() if segment.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.scanner.close()
