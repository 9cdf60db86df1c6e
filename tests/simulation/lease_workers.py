"""A process that shares shards by leases: a keeper, and a listener that works on what it gains as a source would."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence

import msgspec

from connector.change import ShardId
from connector.errors import CheckpointError
from connector.leases.balance import parents_finished
from connector.leases.keeper import Keeper
from connector.leases.protocol import TRIM_HORIZON, Lease
from tests.simulation.lease_faults import Machine, Wire


class Shard(msgspec.Struct, frozen=True):
    """A shard of the change log: how many records are in it before it is closed, and which shards follow."""

    length: int
    children: tuple[ShardId, ...] = ()


class ChangeLog:
    """The shards that there are or will be, and whether anything is written to them at present."""

    def __init__(self) -> None:
        self.shards: dict[ShardId, Shard] = {}
        self.flows = True


class Worker:
    """The LeaseListener, and the work on what it gains: reading on, saving now and then, finishing closed shards."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        machine: Machine,
        change_log: ChangeLog,
        chance: random.Random,
        *,
        duration_s: float,
        drains_max_s: float,
        saves_part: float,
    ) -> None:
        self.name = name
        self.machine = machine
        self.wire = wire
        self.positions: dict[ShardId, int] = {}
        """What it works on, and how far it is."""
        self.keeper = Keeper(
            wire,
            name,
            self,
            eligible=parents_finished,
            clock=machine,
            chance=chance,
            duration_s=duration_s,
            handover_s=duration_s,
        )
        self._change_log = change_log
        self._chance = chance
        self._drains_max_s = drains_max_s
        self._saves_part = saves_part
        self._saved: dict[ShardId, int] = {}
        self._saving = asyncio.Lock()
        self._tasks = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self._work_for_ever())]

    async def gained(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            assert lease.key not in self.positions, "what was lost was said to be lost before it is gained again"
            self.positions[lease.key] = 0 if lease.checkpoint == TRIM_HORIZON else int(lease.checkpoint)

    async def lost(self, keys: Collection[ShardId]) -> None:
        assert not any(self.keeper.owns(key) for key in keys)
        for key in keys:
            self.positions.pop(key, None)

    async def asked_to_release(self, keys: Collection[ShardId]) -> None:
        await self.machine.sleep(self._chance.uniform(0, self._drains_max_s))
        await self._save(keys)
        for key in keys:
            self.positions.pop(key, None)

    async def leave(self) -> None:
        """End in good order, as at a deployment."""
        await self._save(list(self.positions))
        self.crash()
        await self.keeper.close()

    def crash(self) -> None:
        """End without a word."""
        for task in self._tasks:
            task.cancel()

    def check(self) -> None:
        """Raise what its tasks raised."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _work_for_ever(self) -> None:
        while True:
            await self.machine.sleep(self._chance.uniform(0.3, 2.0))
            for key in list(self.positions):
                if key not in self.positions or not self.keeper.owns(key):
                    continue  # it may be lost while the one before it is finished
                self.positions[key] += self._chance.randrange(50) if self._change_log.flows else 0
                if self.positions[key] >= self._change_log.shards[key].length:
                    await self._finish(key)
            if self._chance.random() < self._saves_part:
                await self._save(list(self.positions))

    async def _save(self, keys: Collection[ShardId]) -> None:
        async with self._saving:
            positions = {key: self.positions[key] for key in keys if key in self.positions}
            due = {key: position for key, position in positions.items() if position != self._saved.get(key)}
            try:
                await self.keeper.save({key: (str(position), position) for key, position in due.items()})
            except CheckpointError:
                return  # lost, or tried again at the next turn
            self._saved |= due

    async def _finish(self, key: ShardId) -> None:
        shard = self._change_log.shards[key]
        children = [Lease(key=child, checkpoint=TRIM_HORIZON, parents=frozenset({key})) for child in shard.children]
        try:
            if children:
                await self.wire.create(children)
            async with self._saving:
                if key in self.positions:
                    await self.keeper.finish(key, clock=shard.length, children=shard.children)
        except CheckpointError:
            return  # lost, or tried again at the next turn
        self.positions.pop(key, None)
        await self.keeper.look()
