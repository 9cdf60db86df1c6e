"""Processes that share a lease table in simulated time, each step of which a test decides."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec

from connector.change import ShardId
from connector.errors import CheckpointError
from connector.leases.balance import parents_finished
from connector.leases.keeper import Keeper
from connector.leases.protocol import TRIM_HORIZON, Lease, LeaseStore
from tests.simulation.lease_faults import Machine
from tests.simulation.lease_table import LeaseTable, Rows
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run

P = ParamSpec("P")

DURATION_S = 10.0


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in simulated time."""

    @functools.wraps(test)
    def play(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs), SimulatedLoop())

    return play


def table(*keys: str, owner: str | None = None) -> Rows:
    """A table with these shards, all of one owner or of none."""
    epoch = 0 if owner is None else 1
    return {key: Lease(key=key, checkpoint=TRIM_HORIZON, owner=owner, epoch=epoch) for key in keys}


class Line:
    """The way to a table: how long calls of a kind take to it and back, and which of them fail."""

    def __init__(self, rows: Rows) -> None:
        self.there_s: dict[str, float] = {}
        self.back_s: dict[str, float] = {}
        self.failing: set[str] = set()
        self.losing_answers: set[str] = set()
        self._table = LeaseTable(rows)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*values: Any, **named: Any) -> Any:
            await asyncio.sleep(self.there_s.get(name, 0))
            if name in self.failing:
                raise CheckpointError("throttled")
            answer = await getattr(self._table, name)(*values, **named)
            await asyncio.sleep(self.back_s.get(name, 0))
            if name in self.losing_answers:
                raise CheckpointError("connection reset")
            return answer

        return call


class Process:
    """A keeper, and a listener that writes down what it is told."""

    def __init__(self, rows: Rows, name: str, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.loop = loop
        self.line = Line(rows)
        self.machine = Machine(SimulatedClock(loop), offset_s=-5e5)
        self.told: list[tuple[str, list[str]]] = []
        self.told_at_s: list[float] = []
        self.hearing_s: dict[str, float] = {}
        """How long it takes the listener to take in each kind of word."""
        self.drained: Callable[[Collection[ShardId]], Coroutine[Any, Any, None]] | None = None
        store: LeaseStore | Any = self.line
        self.keeper = Keeper(
            store,
            name,
            self,
            eligible=parents_finished,
            clock=self.machine,
            chance=random.Random(name),
            duration_s=DURATION_S,
            handover_s=options.pop("handover_s", 30.0),
            **options,
        )
        self.running = asyncio.create_task(self.keeper.run())

    async def gained(self, leases: Sequence[Lease]) -> None:
        await self._hear("gained", [lease.key for lease in leases])

    async def lost(self, keys: Collection[ShardId]) -> None:
        await self._hear("lost", keys)

    async def asked_to_release(self, keys: Collection[ShardId]) -> None:
        await self._hear("asked", keys)
        if self.drained is not None:
            await self.drained(keys)

    async def _hear(self, word: str, keys: Collection[ShardId]) -> None:
        self.told_at_s.append(self.loop.time())
        self.told.append((word, sorted(keys)))
        await self.machine.sleep(self.hearing_s.get(word, 0))

    @property
    def owned(self) -> set[str]:
        """What it believes to own."""
        return {lease.key for lease in self.keeper.held}

    def crash(self) -> None:
        """End without a word."""
        self.running.cancel()


async def until(loads: Mapping[str, int], rows: Rows, within_s: float) -> None:
    """Wait until each owner has so many unfinished leases."""
    async with asyncio.timeout(within_s):
        while True:
            owners = [row.owner for row in rows.values() if not row.finished]
            if {name: owners.count(name) for name in loads} == dict(loads):
                return
            await asyncio.sleep(0.1)
