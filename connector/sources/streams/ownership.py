"""Whose shards are read here: all of them, with the pipeline's checkpoint store; or, with leases, our share of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from connector.change import ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.sources.streams.positions import TRIM_HORIZON


class Reading(Protocol):
    """The reading of shards, as whoever decides on them sees it."""

    async def begin(self, shards: Mapping[ShardId, Checkpoint]) -> None:
        """These are ours: read them from here on."""

    async def give_up(self, shards: Collection[ShardId]) -> None:
        """Stop reading these, drain what is in flight for a bounded time, and save."""

    async def lose(self, shards: Collection[ShardId]) -> None:
        """Stop reading these at once; save nothing."""

    def children(self, shard: ShardId) -> list[ShardId]:
        """The shards that go on from this one, as far as they are known."""


class Ownership(Protocol):
    """Which shards are ours. ``open`` once, ``close`` once."""

    @property
    def last_error(self) -> str:
        """Why it is not known at present whose the shards are; empty where it is."""

    @property
    def rows(self) -> Mapping[ShardId, Checkpoint]:
        """Every shard that has a checkpoint, as last seen: a new mapping whenever something changed elsewhere."""

    @property
    def foreign(self) -> Collection[ShardId]:
        """Shards that somebody else reads."""

    async def open(self, reading: Reading) -> None:
        """Begin."""

    async def place(self, shards: Mapping[ShardId, Checkpoint], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """Save where these begin, unless somebody has already. Raises CheckpointError."""

    async def offer(self, shards: Collection[ShardId], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """The turn of these has come (all of them, each time): they begin when ours. Raises CheckpointError."""

    def owns(self, shard: ShardId) -> bool:
        """Whether it is ours at this very moment."""

    def finished(self, shard: ShardId, checkpoint: Checkpoint) -> None:
        """Its end is saved."""

    async def forget(self, shards: Collection[ShardId]) -> None:
        """Delete the checkpoints of finished shards. Raises CheckpointError."""

    async def close(self) -> None:
        """Let go of everything, after the pipeline has saved."""


class SoleOwner:
    """One process reads everything."""

    last_error = ""
    foreign: Collection[ShardId] = ()

    def __init__(self, checkpoints: CheckpointStore) -> None:
        self.rows: dict[ShardId, Checkpoint] = {}
        self._checkpoints = checkpoints
        self._begun: set[ShardId] = set()

    async def open(self, reading: Reading) -> None:
        """Load what is saved."""
        self._reading = reading
        self.rows = dict(await self._checkpoints.all())

    async def place(self, shards: Mapping[ShardId, Checkpoint], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """Save where these begin."""
        if shards:
            await self._checkpoints.save(shards)
            self.rows |= shards

    async def offer(self, shards: Collection[ShardId], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """They begin at once."""
        new = [shard for shard in shards if shard not in self._begun]
        if new:
            self._begun.update(new)
            await self._reading.begin({shard: self.rows.get(shard, Checkpoint(TRIM_HORIZON)) for shard in new})

    def owns(self, shard: ShardId) -> bool:
        """Always."""
        return True

    def finished(self, shard: ShardId, checkpoint: Checkpoint) -> None:
        """Its end is saved."""
        self.rows[shard] = checkpoint

    async def forget(self, shards: Collection[ShardId]) -> None:
        """Delete their checkpoints."""
        await self._checkpoints.reset(list(shards))
        for shard in shards:
            self.rows.pop(shard, None)

    async def close(self) -> None:
        """Nothing is held."""
