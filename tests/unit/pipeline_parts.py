"""Told parts of a pipeline: a codec, a source, letters and sinks that do as a test says, and the works they make."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from connector.change import Change, EventName, Position, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.codecs.protocol import Decoded, Undecodable
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.delivery.policy import RoutePolicy
from connector.errors import DecodeError, SinkUnavailable
from connector.pipeline import Pipeline, PipelineOptions, RoutePlan
from connector.reporting import snapshot
from connector.sink import Outcome, Semantics
from connector.sources.protocol import ShardListener
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.simulation.parts import NoConfig
from tests.unit.delivery.builders import IMAGES, Answer, ToldSink
from tests.unit.test_shards import ToldStore


class KeyCodec:
    """A record's value is its key; ``?`` is undecodable, nothing is empty."""

    name: ClassVar[str] = "key"

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        decoded = Decoded([], [])
        for record in records:
            if not record.value:
                decoded.empty += 1
            elif record.value == b"?":
                decoded.undecodable.append(Undecodable(record, DecodeError("garbage", "no key")))
            else:
                decoded.changes.append(
                    Change(
                        event_name=EventName.MODIFY,
                        key=record.value.decode(),
                        keys={},
                        shard=shard,
                        record=record,
                        images=IMAGES,
                        timestamp_ms=EPOCH_MS,
                    )
                )
        return decoded


class ListSource:
    """Shards that are lists of keys. Ends when all is read, unless it ``follows``."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, *, follows: bool = True, **shards: str) -> None:
        self.shards = shards
        self.follows = follows
        self.positions: dict[ShardId, Position] = {}
        self.ends_seen: dict[ShardId, Position] | None = None
        self.told: list[str] = []
        self.paused = False
        self.reads_while_paused = 0
        self.failure: Exception | None = None
        self.last_error = ""

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        self.told.append("open")
        self._listener = listener
        saved = await checkpoints.load(list(self.shards))
        self.positions = {shard: saved[shard].position if shard in saved else 0 for shard in self.shards}
        await listener.assigned({shard: saved.get(shard) for shard in self.shards})

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        if self.failure is not None:
            raise self.failure
        if self.paused:
            self.reads_while_paused += 1
            await asyncio.sleep(wait_s)
            return []
        batches = []
        for shard, position in list(self.positions.items()):
            keys = self.shards[shard][position : position + records_max]
            if keys:
                records = [
                    Record(position + place, b"" if key == "." else key.encode()) for place, key in enumerate(keys)
                ]
                self.positions[shard] += len(keys)
                batches.append(RecordBatch(shard, records, self.positions[shard]))
        if not batches:
            if not self.follows:
                return None
            await asyncio.sleep(wait_s)
        return batches

    async def revoke(self, *shards: ShardId) -> None:
        await self._listener.revoked(shards)
        for shard in shards:
            del self.positions[shard]

    async def lose(self, *shards: ShardId) -> None:
        await self._listener.lost(shards)
        for shard in shards:
            del self.positions[shard]

    async def pause(self) -> None:
        assert not self.paused
        self.told.append("pause")
        self.paused = True

    async def resume(self) -> None:
        assert self.paused
        self.told.append("resume")
        self.paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        return {shard: len(self.shards[shard]) for shard in self.positions}

    async def close(self) -> None:
        self.told.append("close")
        await self._revoke_all(list(self.positions))

    async def _revoke_all(self, shards: Collection[ShardId]) -> None:
        if "open" in self.told:
            await self._listener.revoked(shards)


class KeptLetters:
    """Dead letters in memory."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self) -> None:
        self.kept: list[DeadLetter] = []
        self.closed = False

    async def open(self) -> None:
        """Nothing to open."""

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        self.kept += letters

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        for letter in self.kept:
            yield StoredLetter(letter)

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


class WatchedSink(ToldSink):
    """A told sink that may be down at start, and knows whether it was closed."""

    def __init__(self, answer: Answer | None = None, *, semantics: Semantics = Semantics.EVENT) -> None:
        super().__init__(answer, semantics=semantics)
        self.down_until_s = 0.0
        self.open_error: Exception | None = None
        self.close_error: Exception | None = None
        self.opened = 0
        self.closed = 0
        self.keys: list[str] = []

    async def open(self) -> None:
        self.opened += 1
        if self.open_error is not None:
            raise self.open_error
        if asyncio.get_running_loop().time() < self.down_until_s:
            raise SinkUnavailable("down at start")

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        outcomes = await super().write(batch)
        self.keys += [change.key for change in batch]
        return outcomes

    async def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


class Works:
    """A pipeline of told parts."""

    def __init__(
        self,
        clock: SimulatedClock,
        source: ListSource,
        *sinks: WatchedSink,
        store: ToldStore | None = None,
        policy: RoutePolicy | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.source = source
        self.sinks = sinks or (WatchedSink(),)
        self.store = store or ToldStore()
        self.letters = KeptLetters()
        policy = policy or RoutePolicy(retry_attempts=1, backoff_initial_s=0.01, backoff_max_s=0.1)
        self.pipeline = Pipeline(
            options=PipelineOptions(name="orders", **options),
            source=source,
            source_type="list",
            codec=KeyCodec(),
            checkpoints=self.store,
            dead_letters=self.letters,
            routes=[
                RoutePlan(name=f"route-{number}", sink_type="told", sink=sink, policy=policy)
                for number, sink in enumerate(self.sinks)
            ],
            clock=clock,
            chance=random.Random(0),
        )

    def start(self) -> asyncio.Task[None]:
        self.task = asyncio.ensure_future(self.pipeline.run())
        return self.task

    def positions(self) -> dict[ShardId, Position]:
        return {shard: checkpoint.position for shard, checkpoint in self.store.saved.items()}

    def assert_all_closed(self) -> None:
        assert self.source.told[-1] == "close"
        assert [sink.closed for sink in self.sinks] == [1] * len(self.sinks)
        assert self.letters.closed

    def balance(self) -> None:
        for shard in snapshot(self.pipeline).shards:
            for counts in shard.routes.values():
                assert counts.residue() == 0
