"""A seeded history of one table's streams and a process that reads them, with everything that goes wrong on the way.

The same seed gives the same history. ``python -m tests.simulation.streams SEED`` plays one and tells it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from connector.change import EventName
from connector.checkpoints.protocol import SHARD_END
from connector.delivery.policy import RoutePolicy
from connector.pipeline import PipelineOptions
from connector.sources.streams.options import StreamOptions
from tests.simulation.lease_table import Rows
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run
from tests.simulation.streams.model import ApiFaults, ModelStreams
from tests.simulation.streams.process import StreamProcess
from tests.simulation.streams.truth import TABLE, Shape, Truth
from tests.simulation.world import BrokenPromise, Faults, World

STATE_ROUTES = ["search"]
EVENT_ROUTES = ["audit"]
REST_S = 3600.0


@dataclass
class Told:
    """What happened in a history, in numbers."""

    seed: int
    events: int = 0
    shards: int = 0
    streams: int = 0
    starts: int = 0
    calls: int = 0
    forgotten: int = 0
    simulated_s: float = 0.0


def make_shape(chance: random.Random) -> Shape:
    return Shape(
        shards=chance.choice([1, 2, 5]),
        writes=chance.choice([10, 60, 200]),
        keys=chance.choice([3, 20, 100]),
        bursts=chance.choice([1, 2, 3]),
        burst_s=chance.choice([2.0, 20.0]),
        quiet_s=chance.choice([0.0, 20.0, 400.0]),
        turnover_every_s=chance.choice([1.0, 5.0, 30.0]),
        merges=chance.random() < 0.5,
        switches=chance.choice([0, 0, 0, 1, 2]),
        routes=(*STATE_ROUTES, *EVENT_ROUTES),
    )


def make_api_faults(chance: random.Random) -> ApiFaults:
    """Each kind of fault is absent in some histories and frequent in others."""

    def rate(most: float) -> float:
        return chance.choice([0.0, most / 10, most])

    # Where records are kept for five minutes only, the service must not be so bad that nobody could read them in time.
    retention_s = chance.choice([300.0, 86_400.0])
    badly = 0.2 if retention_s > 300 else 0.04
    return ApiFaults(
        throttled=rate(badly),
        unavailable=rate(badly),
        denied=rate(badly / 2),
        expired=rate(badly),
        shard_not_found=rate(0.1),
        unlisted=rate(0.1),
        empty=rate(0.5),
        slow=rate(0.1),
        iterator_lives_s=chance.choice([0.5, 30.0, 900.0]),
        retention_s=retention_s,
        page_shards=chance.choice([1, 3, 100]),
        page_records=chance.choice([1, 3, 1000]),
    )


def make_faults(chance: random.Random) -> Faults:
    def rate(most: float) -> float:
        return chance.choice([0.0, most / 10, most])

    return Faults(
        chance=chance,
        unavailable=rate(0.2),
        throttled=rate(0.1),
        retry=rate(0.03),
        slow=rate(0.1),
        checkpoint_fails=rate(0.3),
        half_applied=rate(0.1),
    )


class History:
    """Plays one seed."""

    def __init__(self, seed: int, shape: Shape | None = None, *, replicas: int = 0) -> None:
        self.chance = chance = random.Random(seed)
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        self.truth = Truth(chance, shape or make_shape(chance))
        self.world = World(make_faults(chance), self.truth.events, STATE_ROUTES, EVENT_ROUTES)
        self.model = ModelStreams(self.truth, make_api_faults(chance), self.world, self.loop.time)
        self.timestamps = chance.random() < 0.5
        self.policies = {route: self._policy() for route in self.world.routes}
        self.told = Told(seed, len(self.truth.events), len(self.truth.shards), len(self.truth.streams))
        self.processes: list[StreamProcess] = []
        self.rows: Rows | None = {} if replicas else None
        """The table of leases, where replicas share the shards."""
        self._replicas = max(1, replicas)

    def play(self) -> Told:
        """Run to the end and check the promise. Raises BrokenPromise (or any other AssertionError)."""
        run(self._play(), self.loop)
        return self.told

    async def _play(self) -> None:
        for _ in range(self._replicas):
            self._start()
        until = self.truth.end_s
        troubles = self.chance.randint(0, 8)
        for moment in sorted(self.chance.random() * until for _ in range(troubles)):
            await self._watch(moment - self.loop.time())
            await self._trouble()
        await self._watch(until - self.loop.time())
        self.world.faults.calm = True
        self.model.down = ""
        await self._come_to_rest()
        for process in list(self.processes):
            await self._stop(process)
        self._check_end()
        self.told.calls = sum(self.model.calls.values())
        self.told.forgotten = len(self.model.forgotten)
        self.told.simulated_s = self.loop.time()

    def _policy(self) -> RoutePolicy:
        chance = self.chance
        return RoutePolicy(
            lanes=chance.choice([1, 3]),
            batch_size=chance.choice([1, 7, 50]),
            batch_bytes=1000,
            retry_attempts=50,
            backoff_initial_s=0.01,
            backoff_max_s=chance.choice([0.1, 2.0]),
            breaker_failures=chance.choice([1, 3]),
            write_timeout_s=60.0,
        )

    def _start(self) -> None:
        chance = self.chance
        self.told.starts += 1
        pipeline = PipelineOptions(
            name="orders",
            records_max=chance.choice([1, 5, 1000]),
            read_wait_s=0.1,
            changes_in_flight=chance.choice([1, 20, 10_000]),
            checkpoint_every_s=chance.choice([0.05, 1.0]),
            drain_s=chance.choice([0.0, 0.1, 30.0]),
        )
        stream = StreamOptions(
            prefix=TABLE,
            follows=True,
            start="earliest",
            trimmed="stop",
            retention_s=self.model.faults.retention_s,
            discover_every_s=chance.choice([1.0, 10.0, 30.0]),
            idle_every_s=chance.choice([0.5, 2.0]),
            calls_at_once=chance.choice([1, 4, 16]),
            bytes_ahead=chance.choice([1, 1_000_000]),
        )
        name = f"process-{self.told.starts}"
        process = StreamProcess(
            name,
            self.model,
            policies=self.policies,
            pipeline=pipeline,
            stream=stream,
            clock=self.clock,
            timestamps=self.timestamps,
            rows=self.rows,
        )
        self.processes.append(process)

    async def _stop(self, process: StreamProcess) -> None:
        self.processes.remove(process)
        process.pipeline.stop()
        await process.task

    async def _watch(self, seconds: float) -> None:
        """Let time pass, looking at the books on the way."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(1.0, max(until - self.loop.time(), 0.001)))
            for process in self.processes:
                process.ledgers_balance()
                if process.task.done():
                    process.task.result()
                    raise BrokenPromise("the pipeline ended by itself")

    async def _trouble(self) -> None:
        process = self.chance.choice(self.processes)
        match self.chance.choice(["crash", "crash", "stop", "denied"]):
            case "crash":
                self.processes.remove(process)
                await process.kill()
                await self._watch(self.chance.random() * 5)
                self._start()
            case "stop":
                await self._stop(process)
                await self._watch(self.chance.random() * 5)
                self._start()
            case "denied":
                self.model.down = "no permission for now"
                await self._watch(self.chance.random() * 20)
                self.model.down = ""

    async def _come_to_rest(self) -> None:
        until = self.loop.time() + REST_S
        while left := self._left():
            await self._watch(1.0)
            if self.loop.time() > until:
                said = [process.source.last_error for process in self.processes]
                raise BrokenPromise(f"stuck: {left} are not finished; {self.world.checkpoints}; {said!r}")

    def _left(self) -> list[str]:
        """Closed shards whose end is not saved, and open ones whose last record is not."""
        left = []
        for name, shard in self.truth.shards.items():
            if name in self.model.forgotten:
                continue
            saved = self.world.checkpoints.get(name)
            closed = shard.closed_s < float("inf")
            wanted = SHARD_END if closed else shard.records[-1].position + 1 if shard.records else 0
            if wanted and (saved is None or saved.position < wanted):
                left.append(name)
        return left

    def _check_end(self) -> None:
        """What every sink must hold now, told from the table's history alone."""
        for route in STATE_ROUTES:
            state: dict[str, int | None] = {}
            for event in self.truth.events:
                if route not in event.filtered_by:
                    state[event.key] = None if event.name is EventName.REMOVE else event.number
            items = {key: number for key, (_, number) in self.world.states[route].items.items()}
            assert items == state, f"{route}: {items} instead of {state}"
        for route in EVENT_ROUTES:
            order: dict[str, list[int]] = {}
            for event in self.truth.events:
                if route not in event.filtered_by:
                    order.setdefault(event.key, []).append(event.number)
            assert dict(self.world.events[route].order) == order, route
        assert not self.world.letters, "nothing was poison"
        last: dict[str, int] = {}
        for event in self.truth.events:
            version = self.world.versions.get(event.number)
            if version is not None:
                assert version > last.get(event.key, 0), f"{event}: {version} does not grow, over all shards"
                last[event.key] = version
