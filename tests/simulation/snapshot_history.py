"""A seeded history of one snapshot beside its stream, with writes, failures and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass

from connector.codecs.dynamodb import DynamoDBCodec
from connector.delivery.policy import RoutePolicy
from connector.pipeline import Pipeline, PipelineOptions, RoutePlan
from connector.reporting import snapshot
from connector.snapshot.feed import FeedOptions, SnapshotFeed
from connector.snapshot.routes import keep_items_out
from connector.snapshot.source import SnapshotCheckpoints, SnapshotThenStream
from connector.snapshot.state import PIPELINE
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run
from tests.simulation.parts import Killed, Life
from tests.simulation.snapshot_world import (
    ModelAudit,
    ModelCheckpoints,
    ModelIndex,
    ModelSnapshots,
    ModelStreamSource,
    World,
)
from tests.unit.pipeline_parts import KeptLetters

KEYS = [f"item-{number:03}" for number in range(120)]
PATIENCE_S = 3600.0


@dataclass
class Told:
    """What happened, in numbers."""

    writes: int
    pages: int
    starts: int
    versions: int


class SnapshotHistory:
    """One history. ``play`` raises AssertionError where the index is not the table."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._loop = SimulatedLoop()
        self._clock = SimulatedClock(self._loop)
        self.world = World(self._chance, self._clock)
        self._starts = 0
        self._segments = self._chance.choice([1, 2, 5])
        self._page_items = self._chance.choice([1, 7, 50])
        self._crashes = self._chance.choice([0, 0, 1, 4])
        self._writes = self._chance.choice([0, 30, 400])
        self._write_every_s = self._chance.choice([0.0, 0.01, 0.3])

    def play(self) -> Told:
        run(self._play(), self._loop)
        return Told(self._writes, self.world.pages, self._starts, len(self.world.index))

    async def _play(self) -> None:
        for key in KEYS:
            if self._chance.random() < 0.7:
                self.world.write(key)
        writing = asyncio.ensure_future(self._write())
        for _ in range(self._crashes):
            await self._live(until_done=False)
        await self._live(until_done=True, writing=writing)
        self._judge()

    async def _write(self) -> None:
        for _ in range(self._writes):
            await self._clock.sleep(self._chance.random() * self._write_every_s)
            key = self._chance.choice(KEYS)
            self.world.write(key, delete=self._chance.random() < 0.3)

    async def _live(self, *, until_done: bool, writing: asyncio.Future[None] | None = None) -> None:
        """One process, until it is killed, or has nothing more to do."""
        life = Life(f"process-{self._starts}")
        self._starts += 1
        pipeline = self._pipeline(life)
        running = asyncio.ensure_future(pipeline.run())
        if until_done:
            assert writing is not None
            await writing
            await self._until(lambda: self._is_over(pipeline), running)
            for shard in snapshot(pipeline).shards:
                assert {counts.residue() for counts in shard.routes.values()} == {0}
            timed = pipeline.routes[0].tally.end_to_end_seconds.count()
            assert timed <= len(self.world.stream) - (self.world.pinned_at or 0), "items are no changes of a moment"
            pipeline.stop()
            await running
            return
        await asyncio.wait([running], timeout=self._chance.random() * self._chance.choice([1.0, 10.0, 100.0]))
        life.alive = False
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, Killed, BaseExceptionGroup):
            await running

    def _is_over(self, pipeline: Pipeline) -> bool:
        status = snapshot(pipeline).snapshot
        done = status is not None and status.state == "done"
        ledgers = list(pipeline.shards.owned.values())
        return done and all(ledger.idle and ledger.finished_position == len(self.world.stream) for ledger in ledgers)

    async def _until(self, holds: object, running: asyncio.Future[None]) -> None:
        deadline = self._clock.monotonic() + PATIENCE_S
        assert callable(holds)
        while not holds():
            if running.done():
                running.result()
                raise AssertionError("the pipeline ended by itself")
            assert self._clock.monotonic() < deadline, "it does not come to an end"
            await self._clock.sleep(0.5)

    def _pipeline(self, life: Life) -> Pipeline:
        world, clock, chance = self.world, self._clock, self._chance
        stream = ModelStreamSource(world, life)
        feed = SnapshotFeed(
            stream.table_scanner(segments=self._segments, page_items=self._page_items),
            ModelSnapshots(world, life),
            FeedOptions(
                kind=PIPELINE,
                what="orders",
                segments_at_once=chance.choice([1, 5]),
                units_per_s=chance.choice([None, 5.0, 100.0]),
            ),
            clock=clock,
            chance=chance,
        )
        policy = RoutePolicy(
            lanes=chance.choice([1, 3]),
            batch_size=chance.choice([1, 10, 100]),
            retry_attempts=None,
            backoff_initial_s=0.1,
            backoff_max_s=2.0,
        )
        return Pipeline(
            options=PipelineOptions(name="orders", checkpoint_every_s=chance.choice([0.1, 2.0]), records_max=100),
            source=SnapshotThenStream(stream, feed, once=True, clock=clock),
            source_type="model",
            codec=DynamoDBCodec(),
            checkpoints=SnapshotCheckpoints(ModelCheckpoints(world, life), feed),
            dead_letters=KeptLetters(),
            routes=[
                RoutePlan(name="search", sink_type="model", sink=ModelIndex(world, life), policy=policy),
                RoutePlan(
                    name="audit",
                    sink_type="model",
                    sink=ModelAudit(world, life),
                    policy=policy,
                    sieve=keep_items_out(None),
                ),
            ],
            clock=clock,
            chance=chance,
        )

    def _judge(self) -> None:
        world = self.world
        assert world.live() == world.table, "the index is not the table"
        assert world.pinned_at is not None
        streamed = {f"event-{number + 1}" for number in range(world.pinned_at, len(world.stream))}
        assert world.events.keys() == streamed, "the audit table has not each streamed event and nothing else"
