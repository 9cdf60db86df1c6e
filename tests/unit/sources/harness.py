"""A pipeline's stand-in for tests of sources: it listens, and keeps checkpoints in a dict."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from connector.change import Record, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.clock import SystemClock
from connector.sources.protocol import Source, SourceContext

CONTEXT = SourceContext(pipeline="orders", clock=SystemClock())


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.owned: dict[ShardId, Checkpoint | None] = {}

    async def assigned(self, shards: Mapping[ShardId, Checkpoint | None]) -> None:
        self.told.append(("assigned", dict(shards)))
        self.owned.update(shards)

    async def revoked(self, shards: Collection[ShardId]) -> None:
        self.told.append(("revoked", sorted(shards)))
        self._drop(shards)

    async def lost(self, shards: Collection[ShardId]) -> None:
        self.told.append(("lost", sorted(shards)))
        self._drop(shards)

    async def ended(self, shards: Collection[ShardId]) -> Mapping[ShardId, Checkpoint]:
        raise AssertionError("neither files nor partitions have an end")

    def _drop(self, shards: Collection[ShardId]) -> None:
        for shard in shards:
            self.owned.pop(shard, None)


class MemoryCheckpoints:
    """A checkpoint store that forgets when the test ends."""

    def __init__(self) -> None:
        self.saved: dict[ShardId, Checkpoint] = {}

    async def open(self) -> None: ...

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        return {shard: self.saved[shard] for shard in shards if shard in self.saved}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        self.saved.update(checkpoints)

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        return dict(self.saved)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        for shard in shards:
            self.saved.pop(shard, None)

    async def close(self) -> None: ...


class Reading:
    """What was read of a source so far: records and the next position of each shard."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.records: dict[ShardId, list[Record]] = {}
        self.next_positions: dict[ShardId, int] = {}
        self.ended = False

    async def once(self, records_max: int = 1000, wait_s: float = 0.05) -> int:
        """One call of ``read``; how many records it gave."""
        batches = await self.source.read(records_max, wait_s)
        if batches is None:
            self.ended = True
            return 0
        for batch in batches:
            positions = [self.next_positions.get(batch.shard, 0), *(record.position for record in batch.records)]
            assert positions == sorted(positions), "records come in order, and none comes twice"
            assert batch.next_position > positions[-1] or (not batch.records and batch.next_position == positions[0])
            self.records.setdefault(batch.shard, []).extend(batch.records)
            self.next_positions[batch.shard] = batch.next_position
        return sum(len(batch.records) for batch in batches)

    async def to_the_end(self, records_max: int = 1000) -> None:
        """Read until the source ends for good."""
        async with asyncio.timeout(60):
            while not self.ended:
                await self.once(records_max)

    async def until(self, records: int, *, records_max: int = 1000) -> None:
        """Read until so many records have been read in all."""
        async with asyncio.timeout(60):
            while self.count < records:
                await self.once(records_max)

    async def for_a_while(self, calls: int = 5) -> None:
        """A few calls more, for what should not come."""
        for _ in range(calls):
            await self.once()

    @property
    def count(self) -> int:
        return sum(len(records) for records in self.records.values())

    @property
    def values(self) -> list[bytes | None]:
        """The values of all shards, one shard after the other."""
        return [record.value for records in self.records.values() for record in records]
