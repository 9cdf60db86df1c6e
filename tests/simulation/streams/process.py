"""One simulated process that reads the model of a stream: the real pipeline, the real stream source, model parts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Position, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint, CheckpointStore
from connector.clock import Clock
from connector.codecs.protocol import Decoded
from connector.delivery.policy import RoutePolicy
from connector.errors import CheckpointError, CheckpointLost
from connector.leases.config import LeaseTerms
from connector.leases.protocol import Lease, Progress
from connector.pipeline import Pipeline, PipelineOptions, RoutePlan
from connector.sources.protocol import SourceContext
from connector.sources.streams.leased import share
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.positions import from_words
from connector.sources.streams.source import StreamSource
from tests.simulation.lease_table import LeaseTable, Rows
from tests.simulation.parts import Life, ModelCodec, ModelLetters, ModelSink, NoConfig, sieve_for
from tests.simulation.streams.model import ModelApi, ModelStreams
from tests.simulation.world import BrokenPromise

LEASE_S = 6.0


class ModelStore:
    """The world's checkpoints, for one process at a time."""

    def __init__(self, model: ModelStreams, life: Life) -> None:
        self._model = model
        self._world = model.world
        self._life = life

    async def open(self) -> None:
        self._life.check()

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        saved = await self.all()
        return {shard: saved[shard] for shard in shards if shard in saved}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        await self._call()
        self._world.save(self._life.name, dict(checkpoints))

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        self._life.check()
        return dict(self._world.checkpoints)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """Only what is finished, with finished children, and listed no more, may be forgotten."""
        await self._call()
        self._model.forget(shards)

    async def close(self) -> None:
        pass

    async def _call(self) -> None:
        self._life.check()
        await asyncio.sleep(0.001)
        self._life.check()
        if self._world.faults.strike(self._world.faults.checkpoint_fails):
            raise CheckpointError("the store is down")


class ModelLeases(LeaseTable):
    """The replicas' table. What it takes is held to the promise, as what a single process saves is."""

    def __init__(self, model: ModelStreams, life: Life, rows: Rows) -> None:
        super().__init__(rows)
        self._model = model
        self._life = life

    async def all(self) -> Mapping[ShardId, Lease]:
        await self._call()
        return await super().all()

    async def create(self, leases: Sequence[Lease]) -> None:
        await self._call()
        await super().create(leases)

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        await self._call()
        return await super().take(lease, owner)

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        await self._call()
        return await super().renew(leases)

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        await self._call()
        try:
            await super().save(owner, progress)
        except CheckpointLost as error:
            self._note({key: one for key, one in progress.items() if key not in error.shards})
            raise
        self._note(progress)

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        await self._call()
        await super().finish(lease, clock=clock, children=children, ended_ms=ended_ms)
        self._model.world.save(self._life.name, {lease.key: Checkpoint(SHARD_END, clock)})

    async def delete(self, leases: Sequence[Lease]) -> None:
        await self._call()
        self._model.forget([lease.key for lease in leases if lease.key in self.rows])
        await super().delete(leases)

    def _note(self, progress: Mapping[ShardId, Progress]) -> None:
        self._model.world.save(
            self._life.name,
            {key: Checkpoint(from_words(one.checkpoint, 1), one.clock) for key, one in progress.items()},
        )

    async def _call(self) -> None:
        self._life.check()
        await asyncio.sleep(self._model.world.faults.chance.random() * 0.02)
        self._life.check()
        if self._model.world.faults.strike(self._model.world.faults.checkpoint_fails / 3):
            raise CheckpointError("the lease table is down")


class TimedCodec(ModelCodec):
    """As DynamoDB says it: the change's time in whole seconds."""

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        decoded = super().decode(shard, records)
        for change in decoded.changes:
            change.timestamp_ms = change.record.timestamp_ms // 1000 * 1000
        return decoded


class ModelStreamSource(StreamSource):
    """A stream source over the model's API."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def begin(self, shards: Mapping[ShardId, Checkpoint]) -> None:
        for shard in shards:
            self.read_so_far.pop(shard, None)
        await super().begin(shards)

    read_so_far: dict[ShardId, Position]
    """By shard, as far as it was read since it was ours the last time."""


class StreamProcess:
    """A pipeline with its own life and memory."""

    def __init__(
        self,
        name: str,
        model: ModelStreams,
        *,
        policies: Mapping[str, RoutePolicy],
        pipeline: PipelineOptions,
        stream: StreamOptions,
        clock: Clock,
        timestamps: bool,
        rows: Rows | None = None,
    ) -> None:
        world = model.world
        chance = random.Random(world.faults.chance.random())
        self.life = Life(name)
        api = ModelApi(model, self.life.check, chance, timestamps=timestamps)
        context = SourceContext(pipeline=pipeline.name, clock=clock)
        store: CheckpointStore = ModelStore(model, self.life)
        owner = None
        if rows is not None:
            store, owner = share(
                LeaseTerms(duration=LEASE_S, handover=20.0), ModelLeases(model, self.life, rows), clock, chance
            )
        self.source = ModelStreamSource(api, stream, context, chance, owner)
        self.source.read_so_far = {}
        self.pipeline = Pipeline(
            options=pipeline,
            source=Watched(self.source),
            source_type="model",
            codec=TimedCodec(world),
            checkpoints=store,
            dead_letters=ModelLetters(world, self.life),
            routes=[
                RoutePlan(
                    name=route,
                    sink_type="model",
                    sink=ModelSink(world, self.life, route, frozenset()),
                    policy=policies[route],
                    sieve=sieve_for(world, route),  # type: ignore[arg-type]
                )
                for route in world.routes
            ],
            clock=clock,
            chance=chance,
        )
        self.task: asyncio.Task[None] = asyncio.ensure_future(self.pipeline.run())

    def ledgers_balance(self) -> None:
        """The conservation identity, for every shard and route, right now."""
        shards = self.pipeline.shards
        for ledger in [*shards.owned.values(), *shards.leaving]:
            for number, counts in enumerate(ledger.counts):
                assert counts.residue() == 0, f"{ledger.shard} route {number}: {counts.residue()} astray"
                assert counts.in_flight >= 0

    async def kill(self) -> None:
        """SIGKILL: from now on nothing that the process does has an effect."""
        self.life.alive = False
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Watched:
    """The source, seen by somebody who checks that nothing is read twice or out of order within one process."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, source: ModelStreamSource) -> None:
        self._source = source
        self.own_checkpoints = source.own_checkpoints
        self.open, self.close = source.open, source.close
        self.pause, self.resume, self.ends = source.pause, source.resume, source.ends

    @property
    def assigned_all(self) -> bool:
        return self._source.assigned_all

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        batches = await self._source.read(records_max, wait_s)
        assert sum(len(batch.records) for batch in batches or ()) <= records_max
        for batch in batches or ():
            before = self._source.read_so_far.get(batch.shard, 0)
            positions = [record.position for record in batch.records]
            if positions != sorted(set(positions)) or (positions and positions[0] < before):
                raise BrokenPromise(f"{batch.shard} was read out of order")
            if before == SHARD_END:
                raise BrokenPromise(f"{batch.shard} was read behind its end")
            self._source.read_so_far[batch.shard] = batch.next_position
        return batches
