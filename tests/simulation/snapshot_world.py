"""A table that is written to, its stream, a scanner of it and an index: the world of a simulated snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from zlib import crc32

import msgspec
from pydantic import BaseModel

from connector.change import Change, EventName, Position, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.errors import CheckpointError, SinkUnavailable
from connector.sink import APPLIED, STALE, Needs, Outcome, Retry, Semantics
from connector.snapshot.protocol import BEGIN, ItemPage, ScanFacts
from connector.snapshot.records import item_with_keys
from connector.snapshot.state import SegmentState, SnapshotState
from connector.sources.protocol import ShardListener
from connector.sources.streams.api import Throttled, Unavailable
from tests.simulation.loop import SimulatedClock
from tests.simulation.parts import Life, NoConfig

SHARD = "orders/label/shard-0"


def key_text(key: str) -> str:
    """As the codec has it."""
    return msgspec.json.encode({"pk": {"S": key}}).decode()


class World:
    """What lasts: the table, its stream, the index, and what was saved."""

    def __init__(self, chance: random.Random, clock: SimulatedClock) -> None:
        self.chance = chance
        self.clock = clock
        self.skew_ms = chance.randrange(-100_000, 100_000)
        """How far the service's clock is from ours."""
        self.tells_time = chance.random() < 0.5
        self.rounds_to_ms = chance.choice([1000, 60_000])
        self.faults = chance.choice([0.0, 0.05, 0.3])
        self.latency_s = chance.choice([0.001, 0.1, 2.0])
        self.table: dict[str, int] = {}
        self.stream: list[Record] = []
        self.revision = 0
        self.index: dict[str, tuple[int, int | None]] = {}
        """By key: the version, and the revision (None: deleted)."""
        self.events: dict[str, EventName] = {}
        """What the audit table has, by event id."""
        self.checkpoints: dict[ShardId, Checkpoint] = {}
        self.snapshots: dict[str, SnapshotState] = {}
        self.segments: dict[str, dict[int, SegmentState]] = {}
        self.pinned_at: Position | None = None
        self.pages = 0

    def strikes(self) -> bool:
        return self.chance.random() < self.faults

    async def takes_time(self) -> None:
        await self.clock.sleep(self.chance.random() * self.latency_s)

    def server_ms(self) -> int:
        return self.clock.now_ms() + self.skew_ms

    def write(self, key: str, *, delete: bool = False) -> None:
        """One write to the table, which is in the stream at once."""
        there = key in self.table
        if delete and not there:
            return
        self.revision += 1
        if delete:
            del self.table[key]
        else:
            self.table[key] = self.revision
        name = "REMOVE" if delete else "MODIFY" if there else "INSERT"
        seconds = self.server_ms() // self.rounds_to_ms * self.rounds_to_ms / 1000
        body: dict[str, Any] = {"ApproximateCreationDateTime": seconds, "Keys": {"pk": {"S": key}}}
        if not delete:
            body["NewImage"] = self.item(key)
        value = {"eventID": f"event-{self.revision}", "eventName": name, "dynamodb": body}
        self.stream.append(Record(len(self.stream), msgspec.json.encode(value)))

    def item(self, key: str) -> dict[str, Any]:
        return {"pk": {"S": key}, "revision": {"N": str(self.table[key])}}

    def live(self) -> dict[str, int]:
        """What can be found in the index."""
        return {key: revision for key, (_, revision) in self.index.items() if revision is not None}


class ModelStreamSource:
    """One shard that never ends. Its position is taken some time after ``open``, and saved."""

    config_model: ClassVar[type[BaseModel]] = NoConfig
    table_name = "orders"

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life
        self._position: Position | None = None
        self._paused = False
        self.exactly = False

    def pin_exactly(self) -> None:
        self.exactly = True

    @property
    def pinned(self) -> bool:
        return self._position is not None

    def table_scanner(self, *, segments: int, page_items: int) -> ModelScanner:
        return ModelScanner(self._world, self._life, segments=segments, page_items=page_items)

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        self._listener = listener
        self._checkpoints = checkpoints
        self._pin_at = self._world.clock.monotonic() + self._world.chance.random() * 2

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        world = self._world
        if self._position is None:
            if world.clock.monotonic() >= self._pin_at:
                with contextlib.suppress(CheckpointError):  # it is tried again
                    await self._pin()
            await world.clock.sleep(0.01)
            return []
        end = len(world.stream) if world.chance.random() < 0.7 else self._position
        records = world.stream[self._position : min(end, self._position + records_max)]
        if self._paused or not records:
            await world.clock.sleep(max(wait_s, 0.001))
            return []
        self._position += len(records)
        return [RecordBatch(SHARD, [msgspec.structs.replace(record) for record in records], self._position)]

    async def _pin(self) -> None:
        world = self._world
        saved = (await self._checkpoints.all()).get(SHARD)
        if saved is None:
            assert self.exactly
            saved = Checkpoint(len(world.stream))
            await self._checkpoints.save({SHARD: saved})
            world.pinned_at = saved.position
        await self._listener.assigned({SHARD: saved})
        self._position = saved.position

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        return {} if self._position is None else {SHARD: len(self._world.stream)}

    async def close(self) -> None:
        """Nothing to close."""


class ModelScanner:
    """Consistent pages of the table, of segments by the key's hash."""

    whole_state_at_once = False

    def __init__(self, world: World, life: Life, *, segments: int, page_items: int) -> None:
        self.name = "orders"
        self._world = world
        self._life = life
        self._segments = segments
        self._page_items = page_items
        self._begun: set[int] = set()

    async def open(self, segments: int | None) -> ScanFacts:
        world = self._world
        if world.strikes():
            raise Unavailable("down")
        self._segments = segments or self._segments
        server_ms = world.server_ms() // 1000 * 1000 if world.tells_time else None
        return ScanFacts(segments=self._segments, items_estimate=len(world.table), server_ms=server_ms)

    async def key_names(self) -> Sequence[str]:
        return ["pk"]

    def after(self, segment: int) -> int:
        return 0

    def version_ms(self, segment: int) -> int | None:
        return None

    async def page(self, segment: int, place: str) -> ItemPage:
        world = self._world
        self._life.check()
        await world.takes_time()
        if world.strikes():
            raise world.chance.choice([Unavailable("down"), Throttled("too many")])
        self._goes_on(segment, place)
        world.pages += 1
        keys = sorted(key for key in world.table if crc32(key.encode()) % self._segments == segment and key > place)
        page = [item_with_keys(msgspec.json.encode(world.item(key)), ["pk"]) for key in keys[: self._page_items]]
        more = keys[self._page_items - 1] if len(keys) > self._page_items else None
        await world.takes_time()
        return ItemPage(page, more, 1.0)

    def _goes_on(self, segment: int, place: str) -> None:
        """What was saved is not read again."""
        if segment in self._begun:
            return
        self._begun.add(segment)
        (state,) = self._world.snapshots.values()
        saved = self._world.segments.get(state.id, {}).get(segment)
        assert place == (saved.place if saved else BEGIN)

    async def close(self) -> None:
        """Nothing to close."""


class ModelIndex:
    """A STATE sink that keeps versions, also of what is deleted."""

    config_model: ClassVar[type[BaseModel]] = NoConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 10
    needs = Needs.NOTHING
    semantics = Semantics.STATE
    place_attributes: frozenset[str] = frozenset()

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        world = self._world
        await world.takes_time()
        self._life.check()
        if world.strikes():
            raise SinkUnavailable("down")
        outcomes: list[Outcome] = []
        failed: set[str] = set()
        for change in batch:
            key: str = change.keys["pk"]
            if key in failed or world.strikes():
                failed.add(key)
                outcomes.append(Retry("busy"))
                continue
            values = change.new_values()
            version, _ = world.index.get(key, (-1, None))
            if version > change.version:
                outcomes.append(STALE)
                continue
            world.index[key] = change.version, int(values["revision"]) if values else None
            outcomes.append(APPLIED)
        await world.takes_time()
        self._life.check()
        return outcomes

    async def close(self) -> None:
        """Nothing to close."""


class ModelAudit(ModelIndex):
    """An EVENT sink: each event once."""

    semantics = Semantics.EVENT

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        await self._world.takes_time()
        self._life.check()
        for change in batch:
            self._world.events[change.event_id] = change.event_name
        return [APPLIED] * len(batch)


class ModelCheckpoints:
    """The stream's checkpoints."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def open(self) -> None:
        """Nothing to open."""

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        return {shard: each for shard, each in self._world.checkpoints.items() if shard in shards}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        await self._world.takes_time()
        self._life.check()
        if self._world.strikes():
            raise CheckpointError("the disk is full")
        self._world.checkpoints.update(checkpoints)

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        return dict(self._world.checkpoints)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to close."""


class ModelSnapshots:
    """Where the snapshot's progress is kept."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def open(self) -> None:
        """Nothing to open."""

    async def load(self, kind: str) -> SnapshotState | None:
        return self._world.snapshots.get(kind)

    async def segments(self, snapshot: str) -> Mapping[int, SegmentState]:
        return self._world.segments.get(snapshot, {})

    async def save(self, state: SnapshotState) -> None:
        await self._may_fail()
        self._world.snapshots[state.kind] = state

    async def save_segments(self, snapshot: str, segments: Sequence[SegmentState]) -> None:
        await self._may_fail()
        self._world.segments.setdefault(snapshot, {}).update({one.segment: one for one in segments})

    async def _may_fail(self) -> None:
        await asyncio.sleep(0)
        self._life.check()
        if self._world.strikes():
            raise CheckpointError("the disk is full")

    async def close(self) -> None:
        """Nothing to close."""
