"""What a source is: shards of records, with positions to go on from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Protocol

import msgspec
from pydantic import BaseModel

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.clock import Clock


class SourceContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is told of the place it works in."""

    pipeline: str
    clock: Clock


class ShardListener(Protocol):
    """The pipeline, as a source sees it. All are awaited by the source before it goes on."""

    async def assigned(self, shards: Mapping[ShardId, Checkpoint | None]) -> None:
        """These shards are ours from now on, read from these checkpoints (None: from the configured start).

        Called before the first record of any of them is returned by ``read``.
        """

    async def revoked(self, shards: Collection[ShardId]) -> None:
        """These shards will be somebody else's: drain what is in flight for a bounded time, save the checkpoints.

        After it returns nothing of them is in flight or will be saved.
        """

    async def lost(self, shards: Collection[ShardId]) -> None:
        """These shards are somebody else's already: drop what is in flight, save nothing."""

    async def ended(self, shards: Collection[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """These shards were read to their end: ``read`` has given a batch whose ``next_position`` is SHARD_END.

        Returns those of which everything is finished and the SHARD_END checkpoint is saved; the pipeline has let go of
        them. Never waits for what is in flight: ask again for the others. What depends on a shard's end (its children)
        may begin now, with the checkpoint's clock.
        """


class Source(Protocol):
    """Where changes come from. Found by an entry point in the group ``millrace.sources``.

    Made as ``SourceClass(config, context)``; making it does no I/O. Life: ``open`` once, then ``read`` in a loop (one
    call at a time), then ``close`` once.

    Checkpoints: the source asks ``checkpoints.load`` (or its own group, for Kafka) where to go on when it gets a
    shard. ``own_checkpoints()`` gives a store where the source keeps them itself (Kafka's group offsets), else None
    and the pipeline's configured store is used.

    Attributes that a source may have beside these, and what holds without them: ``last_error`` (why it cannot be read
    at present, in words; empty), ``describe()`` (one line for people, after ``open``), ``assigned_all`` (whether every
    shard that there is has been assigned, so that nothing is left to read but of the owned ones; what is assigned is
    all), ``ends_elsewhere()`` (a coroutine: the ends of the shards that other processes own, for which a batch job
    waits too), ``positions_count`` (whether the difference of two positions is a number of records; True),
    ``retention_s`` (how long the log keeps a record before it is lost unread; unknown) and ``skipped`` (how often
    something was lost unread and skipped because the configuration says so; 0).
    """

    config_model: ClassVar[type[BaseModel]]

    def own_checkpoints(self) -> CheckpointStore | None:
        """The source's own checkpoint store, if it has one."""

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Connect and begin. Raises ConfigError for what only a person can mend, SourceError for what it cannot do,
        SinkUnavailable never; a server that is down is waited for inside ``read`` where the client does so."""

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """The next records of any shards, at most ``records_max`` in all; empty after ``wait_s`` without any.

        None: the source has ended for good (a file without ``follow``). Calls the listener on the way.
        """

    async def pause(self) -> None:
        """Fetch no more, but stay a member (heartbeats, rebalances): ``read`` goes on being called and returns
        nothing."""

    async def resume(self) -> None:
        """The opposite of ``pause``: reading goes on exactly where it was, nothing skipped, nothing twice."""

    async def ends(self) -> Mapping[ShardId, Position]:
        """The present end of each owned shard: the position that ``next_position`` reaches when all is read.

        A shard is absent while its end is not known: a stream tells none, and only reading that finds nothing more
        says that the end is where reading stands.
        """

    async def close(self) -> None:
        """Leave, giving up all shards (the listener's ``revoked`` has been called by the pipeline before)."""
