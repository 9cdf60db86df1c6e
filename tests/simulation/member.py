"""A simulated process' member of the world's consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.sources.protocol import ShardListener
from tests.simulation.parts import Life, NoConfig
from tests.simulation.world import World


class ModelSource:
    """A member of the world's consumer group. The group's coordinator moves shards by calling ``give`` and ``take``;
    the member learns of it at its next read, or (a zombie) only after a while."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, world: World, life: Life) -> None:
        self.positions: dict[ShardId, Position] = {}
        self.asked_to_leave: set[ShardId] = set()
        self.given: list[tuple[ShardId, int]] = []
        self.generations: dict[ShardId, int] = {}
        """The generation in which this member holds each shard, as far as it has heard."""
        self.taken: set[ShardId] = set()
        self.deaf_until = 0.0
        self._world = world
        self._life = life
        self._paused = False
        self._listener: ShardListener | None = None
        self._store: CheckpointStore | None = None

    def own_checkpoints(self) -> CheckpointStore | None:
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        self._life.check()
        self._listener, self._store = listener, checkpoints

    async def _rebalance(self) -> None:
        assert self._listener is not None
        assert self._store is not None
        if asyncio.get_running_loop().time() < self.deaf_until:
            return
        if self.taken:
            lost, self.taken = self.taken, set()
            for shard in lost:
                self.positions.pop(shard, None)
            await self._listener.lost(lost)
        if self.asked_to_leave:
            leaving = {shard for shard in self.asked_to_leave if shard in self.positions}
            self.asked_to_leave = set()
            await self._listener.revoked(leaving)
            for shard in leaving:
                self.positions.pop(shard, None)
                self._leave(shard)
        while self.given:
            shard, generation = self.given.pop()
            if self._world.generations[shard] != generation:
                continue
            self.generations[shard] = generation
            # What was taken before it was given again (while this member drained, say) is no loss any more.
            self.taken.discard(shard)
            checkpoint = (await self._store.load([shard])).get(shard)
            self.positions[shard] = checkpoint.position if checkpoint else 0
            await self._listener.assigned({shard: checkpoint})

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        self._life.check()
        await self._rebalance()
        chance = self._world.faults.chance
        await asyncio.sleep(wait_s * chance.random())
        self._life.check()
        if self._paused:
            return []
        batches = []
        for shard in sorted(self.positions):
            batch = self._world.records(shard, self.positions[shard], chance.randint(1, records_max))
            if batch is not None and chance.random() < 0.8:
                self.positions[shard] = batch.next_position
                batches.append(batch)
        return batches

    async def pause(self) -> None:
        assert not self._paused, "paused twice"
        self._paused = True
        self._world.pauses += 1

    async def resume(self) -> None:
        assert self._paused, "resumed without a pause"
        self._paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        return {shard: self._world.ends[shard] for shard in self.positions}

    async def close(self) -> None:
        if self._life.alive and self._listener is not None:
            await self._listener.revoked(list(self.positions))
        for shard in self.positions:
            self._leave(shard)

    def _leave(self, shard: ShardId) -> None:
        if self._world.generations[shard] == self.generations.get(shard):
            self._world.owner.pop(shard, None)
            self._world.generations[shard] += 1
