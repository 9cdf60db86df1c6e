"""The snapshot as a source: beside the stream that it begins, or alone (``millrace snapshot``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

import structlog
from pydantic import BaseModel

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.clock import Clock
from connector.errors import CheckpointError
from connector.observe.snapshot import SnapshotStatus
from connector.snapshot.feed import AGAIN_S, SnapshotFeed, SnapshotListener
from connector.snapshot.protocol import Scannable, is_snapshot_shard
from connector.sources.protocol import ShardListener, Source
from connector.sources.streams.api import StreamApiError

log = structlog.get_logger(__name__)

WAIT_S = 0.02
"""How long the stream is waited for at a time while pages may come."""


class ScannableSource(Source, Scannable, Protocol):
    """Both."""


class SnapshotCheckpoints:
    """The pipeline's checkpoints, with those of the snapshot's segments kept beside them, as places in the table."""

    def __init__(self, stream: CheckpointStore | None, feed: SnapshotFeed) -> None:
        self.stream = stream
        self._feed = feed

    async def open(self) -> None:
        """Open both."""
        if self.stream is not None:
            await self.stream.open()
        await self._feed.store.open()

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """The stream's."""
        return {} if self.stream is None else await self.stream.load(shards)

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Each where it belongs. Raises CheckpointLost, CheckpointError."""
        segments = {shard: each for shard, each in checkpoints.items() if is_snapshot_shard(shard)}
        if segments:
            await self._feed.save(segments)
        if self.stream is not None and len(segments) < len(checkpoints):
            await self.stream.save({shard: each for shard, each in checkpoints.items() if shard not in segments})

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        """The stream's."""
        return {} if self.stream is None else await self.stream.all()

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """The stream's."""
        if self.stream is not None:
            await self.stream.reset(shards)

    async def close(self) -> None:
        """Close both."""
        await self._feed.store.close()
        if self.stream is not None:
            await self.stream.close()


class SnapshotThenStream:
    """A source that gives the items of the table, too. The stream's position is taken before the first page is read;
    both are delivered side by side, but for an export, which comes whole before the stream.

    Whatever else is asked of it is the stream's to answer (the attributes that a source may have).
    """

    config_model: ClassVar[type[BaseModel]] = BaseModel

    def __init__(self, stream: ScannableSource, feed: SnapshotFeed, *, once: bool, clock: Clock) -> None:
        self._stream = stream
        self._feed = feed
        self._once = once
        self._clock = clock
        self._paused = False
        self._held = False
        self._first = False
        self._stream_over = False
        self._listener: SnapshotListener | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def snapshot_status(self) -> SnapshotStatus | None:
        """How far the snapshot is."""
        return self._feed.status()

    @property
    def last_error(self) -> str:
        """Why the stream or the table cannot be read at present."""
        error: str = getattr(self._stream, "last_error", "")
        return error or self._feed.last_error

    @property
    def assigned_all(self) -> bool | None:
        """Not before the snapshot is done."""
        still_to_come = self._feed.active or not self._feed.prepared
        return False if still_to_come else getattr(self._stream, "assigned_all", None)

    def own_checkpoints(self) -> CheckpointStore | None:
        """The stream's."""
        return self._stream.own_checkpoints()

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Open the stream, whose positions are then taken in ``read``. Raises ConfigError, SourceError."""
        self._listener = cast(SnapshotListener, listener)
        self._first = not await checkpoints.all()
        self._stream.pin_exactly()
        await self._stream.open(listener, checkpoints)
        if self._feed.scanner.whole_state_at_once:
            self._held = True
            await self._stream.pause()

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """Changes of the stream and pages of the table."""
        if not self._feed.prepared and not await self._prepare():
            return []
        if not self._feed.active:
            return None if self._stream_over else await self._stream.read(records_max, wait_s)
        assert self._listener is not None
        if self._feed.begun:
            if await self._feed.settle(self._listener):
                await self._let_go()
                return []
        elif self._stream.pinned:
            await begin(self._feed, self._clock)
        pages = [] if self._paused else self._feed.take(max(1, records_max // 2))
        changes = await self._read_stream(
            max(1, records_max - sum(len(page.records) for page in pages)), 0.0 if pages else min(wait_s, WAIT_S)
        )
        return [*changes, *pages]

    async def _read_stream(self, records_max: int, wait_s: float) -> Sequence[RecordBatch]:
        if not self._stream_over:
            changes = await self._stream.read(records_max, wait_s)
            if changes is not None:
                return changes
            self._stream_over = True
        await self._feed.wait(wait_s)
        return []

    async def _prepare(self) -> bool:
        """Before the stream is read for the first time, which takes its positions."""
        if not await prepare(self._feed, self._clock, once=self._once, first=self._first):
            return False
        if not self._feed.active:
            await self._let_go()
        return True

    async def _let_go(self) -> None:
        if self._held:
            self._held = False
            if not self._paused:
                await self._stream.resume()

    async def pause(self) -> None:
        """Hand out no more."""
        self._paused = True
        if not self._held:
            await self._stream.pause()

    async def resume(self) -> None:
        """Go on exactly where it was."""
        self._paused = False
        if not self._held:
            await self._stream.resume()

    async def ends(self) -> Mapping[ShardId, Position]:
        """The stream's: where a segment ends is known when it is read."""
        return await self._stream.ends()

    async def close(self) -> None:
        """End both."""
        await self._feed.close()
        await self._stream.close()


class SnapshotAlone:
    """The items of a table, and then the end. For a process of its own, beside the one that follows the stream."""

    config_model: ClassVar[type[BaseModel]] = BaseModel
    positions_count: ClassVar[bool] = False

    def __init__(self, feed: SnapshotFeed, clock: Clock) -> None:
        self._feed = feed
        self._clock = clock
        self._paused = False
        self._listener: SnapshotListener | None = None

    @property
    def snapshot_status(self) -> SnapshotStatus | None:
        """How far the snapshot is."""
        return self._feed.status()

    @property
    def last_error(self) -> str:
        """Why the table cannot be read at present."""
        return self._feed.last_error

    def own_checkpoints(self) -> CheckpointStore | None:
        """None: the places are kept by ``SnapshotCheckpoints``."""
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Go on with an unfinished snapshot or begin a new one, in ``read``."""
        self._listener = cast(SnapshotListener, listener)

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """Pages of the table; None when all of it is finished."""
        assert self._listener is not None
        if not self._feed.prepared:
            await prepare(self._feed, self._clock, once=False, first=False)
            return []
        if not self._feed.begun:
            await begin(self._feed, self._clock)
            return []
        if await self._feed.settle(self._listener):
            return None
        if self._paused:
            await self._clock.sleep(wait_s)
            return []
        await self._feed.wait(min(wait_s, WAIT_S))
        return self._feed.take(records_max)

    async def pause(self) -> None:
        """Hand out no more."""
        self._paused = True

    async def resume(self) -> None:
        """Go on."""
        self._paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        """Not known."""
        return {}

    async def close(self) -> None:
        """End all that is under way."""
        await self._feed.close()


async def prepare(feed: SnapshotFeed, clock: Clock, *, once: bool, first: bool) -> bool:
    """See what is to be done; says whether that is known. What may pass is tried again at the next call."""
    try:
        await feed.prepare(once=once, first=first)
    except CheckpointError as error:
        log.warning("the snapshot cannot be prepared, trying again", error=str(error))
        await clock.sleep(AGAIN_S)
        return False
    return True


async def begin(feed: SnapshotFeed, clock: Clock) -> None:
    """Begin reading; what may pass is tried again at the next call."""
    try:
        await feed.begin()
    except (StreamApiError, CheckpointError) as error:
        log.warning("the snapshot cannot begin, trying again", error=str(error))
        await clock.sleep(AGAIN_S)
