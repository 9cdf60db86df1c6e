"""One simulated process: a real pipeline between model parts, each of which knows whether the process still lives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping

from connector.change import ShardId
from connector.clock import Clock
from connector.delivery.policy import RoutePolicy
from connector.pipeline import Pipeline, PipelineOptions, RoutePlan
from tests.simulation.member import ModelSource
from tests.simulation.parts import Life, ModelCheckpoints, ModelCodec, ModelLetters, ModelSink, sieve_for
from tests.simulation.world import World


class Process:
    """A pipeline with its own life and memory, in the world."""

    def __init__(
        self,
        name: str,
        world: World,
        policies: Mapping[str, RoutePolicy],
        options: PipelineOptions,
        clock: Clock,
        *,
        places: Mapping[str, frozenset[str]],
    ) -> None:
        self.life = Life(name)
        self.source = ModelSource(world, self.life)
        self.pipeline = Pipeline(
            options=options,
            source=self.source,
            source_type="model",
            codec=ModelCodec(world),
            checkpoints=ModelCheckpoints(world, self.life, self.source.generations),
            dead_letters=ModelLetters(world, self.life),
            routes=[
                RoutePlan(
                    name=route,
                    sink_type="model",
                    sink=ModelSink(world, self.life, route, places.get(route, frozenset())),
                    policy=policies[route],
                    sieve=sieve_for(world, route),  # type: ignore[arg-type]
                )
                for route in world.routes
            ],
            clock=clock,
            chance=random.Random(world.faults.chance.random()),
        )
        self.task: asyncio.Task[None] = asyncio.ensure_future(self.pipeline.run())

    @property
    def running(self) -> bool:
        return not self.task.done()

    def ledgers_balance(self) -> None:
        """The conservation identity, for every shard and route, right now."""
        shards = self.pipeline.shards
        for ledger in [*shards.owned.values(), *shards.leaving]:
            for number, counts in enumerate(ledger.counts):
                assert counts.residue() == 0, (
                    f"{self.life.name} {ledger.shard} route {number}: {counts.residue()} astray"
                )
                assert counts.in_flight >= 0

    async def kill(self) -> None:
        """SIGKILL: from now on nothing that the process does has an effect."""
        self.life.alive = False
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def lose(self, shards: Collection[ShardId], deaf_until: float) -> None:
        """The group gives these shards away; the process hears of it later (it was stopped, or cut off)."""
        self.source.taken |= set(shards)
        self.source.deaf_until = deaf_until
