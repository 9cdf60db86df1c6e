"""One seeded history of several processes that share shards by leases, with trouble first and quiet afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import msgspec

from connector.leases.balance import parents_finished
from connector.leases.protocol import TRIM_HORIZON, Lease, LeaseStore
from tests.simulation.lease_faults import Books, Machine, Trouble, Wire
from tests.simulation.lease_workers import ChangeLog, Shard, Worker
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run

DURATION_S = 10.0

MakeTable = Callable[[], LeaseStore]


class Size(msgspec.Struct, frozen=True):
    """How much happens in a history."""

    workers_max: int = 5
    shards_max: int = 9
    trouble_s: float = 120.0
    events: int = 14
    quiet_s: float = 12 * DURATION_S
    saves_part: float = 0.6
    """How often a worker saves when it has worked."""


SHORT = Size(workers_max=3, shards_max=3, trouble_s=35.0, events=5, quiet_s=5 * DURATION_S, saves_part=0.25)
"""For tables where each call costs milliseconds of real time."""


class LeaseHistory:
    """The same seed gives the same history, on whatever table."""

    def __init__(self, seed: int, table: LeaseStore, size: Size) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._size = size
        self.books = Books(table)
        self._trouble = Trouble()
        self._log = ChangeLog()
        self._workers: list[Worker] = []
        self._hired = 0
        self._loop = SimulatedLoop()
        self.happened: Counter[str] = Counter()

    def play(self) -> tuple[int, int, int]:
        """Play it, and assert the promise; returns how many saves, takes and refused saves there were."""
        run(self._play(), self._loop)
        return self.books.saves, self.books.takes, self.books.refusals

    async def _play(self) -> None:
        chance, size = self._chance, self._size
        await self._make_shards(chance.randint(2, size.shards_max))
        for _ in range(chance.randint(2, size.workers_max)):
            self._hire()
            await asyncio.sleep(chance.choice([0, 0, 1, 7]))
        self._trouble.lost_part = chance.choice([0.0, 0.02, 0.15])
        self._trouble.slow_part = chance.choice([0.0, 0.1, 0.4])
        self._trouble.zombie_part = chance.choice([0.0, 0.02, 0.1])
        self._trouble.zombie_s = chance.choice([1.2, 2.0]) * DURATION_S
        self._trouble.slow_s = chance.choice([1.0, DURATION_S / 2, DURATION_S * 1.5])
        watching = asyncio.create_task(self._watch())
        for _ in range(size.events):
            await asyncio.sleep(chance.uniform(0, 2 * size.trouble_s / size.events))
            await self._happen()
        self._trouble.lost_part = self._trouble.slow_part = self._trouble.zombie_part = 0.0
        self._log.flows = False  # what is closed later brings its children later: the shares are equal in the end
        for worker in self._workers:
            worker.machine.thaw()
            worker.wire.cut = False
        await asyncio.sleep(size.quiet_s)
        if watching.done():
            watching.result()  # it ends only by what it saw
        watching.cancel()
        await self._assert_quiet()

    async def _make_shards(self, count: int) -> None:
        for number in range(count):
            key = f"shard-{number}"
            if self._chance.random() < 0.4:
                split = self._chance.random() < 0.5
                children = (f"{key}-a", f"{key}-b") if split else (f"{key}-a",)
                self._log.shards[key] = Shard(self._chance.randint(50, 2_000), children)
                self._log.shards |= {child: Shard(10**9) for child in children}
            else:
                self._log.shards[key] = Shard(10**9)
        roots = [Lease(key=f"shard-{number}", checkpoint=TRIM_HORIZON) for number in range(count)]
        await self.books.create(roots)

    def _hire(self) -> None:
        self._hired += 1
        chance = random.Random(f"{self._seed}/{self._hired}")
        machine = Machine(SimulatedClock(self._loop), chance.uniform(-1e6, 1e6))
        wire = Wire(self.books, machine, self._trouble, chance)
        drains_max_s = chance.choice([0.5, 4.0, 2 * DURATION_S])
        name = f"worker-{self._hired}"
        self._workers.append(
            Worker(
                name,
                wire,
                machine,
                self._log,
                chance,
                duration_s=DURATION_S,
                drains_max_s=drains_max_s,
                saves_part=self._size.saves_part,
            )
        )

    async def _happen(self) -> None:
        event = self._chance.choice(["freeze", "freeze", "cut", "crash", "leave", "hire", "swap"])
        worker = self._chance.choice(self._workers)
        others = len(self._workers) > 1
        after_s = self._chance.choice([0.5, 0.9, 1.1, 2.5]) * DURATION_S
        if event == "freeze":
            worker.machine.freeze()
            self._loop.call_later(after_s, worker.machine.thaw)
        elif event == "cut":
            worker.wire.cut = True
            self._loop.call_later(after_s, setattr, worker.wire, "cut", False)
        elif event in ("crash", "swap") and (others or event == "swap"):
            self._workers.remove(worker)
            worker.crash()
            if event == "swap":
                self._hire()
        elif event == "leave" and others:
            self._workers.remove(worker)
            await worker.leave()
        elif event == "hire" and len(self._workers) < self._size.workers_max:
            self._hire()
        else:
            return
        self.happened[event] += 1

    async def _watch(self) -> None:
        """At no moment do two processes believe that they own the same shard, frozen ones included."""
        while True:
            for key in self._log.shards:
                owners = [worker.name for worker in self._workers if worker.keeper.owns(key)]
                assert len(owners) <= 1, f"{owners} own {key}"
            for worker in self._workers:
                worker.check()
            await asyncio.sleep(0.5)

    async def _assert_quiet(self) -> None:
        """Every shard is owned again, the shares are equal, and what the processes believe is what the table says."""
        rows = await self.books.all()
        due = {key for key in parents_finished(rows) if not rows[key].finished}
        loads = {worker.name: 0 for worker in self._workers}
        for worker in self._workers:
            worker.check()
            loads[worker.name] = len(worker.keeper.held)
            assert worker.positions.keys() == {lease.key for lease in worker.keeper.held}
        owned = {lease.key: worker.name for worker in self._workers for lease in worker.keeper.held}
        assert owned.keys() == due, f"owned: {owned}, due: {due}"
        assert owned == {key: rows[key].owner for key in due}
        assert max(loads.values()) - min(loads.values()) <= 1, f"not balanced: {loads}"
