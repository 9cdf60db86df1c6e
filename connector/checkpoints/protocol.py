"""What a checkpoint store is: where each shard's reading goes on after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from connector.change import Position, ShardId

SHARD_END: Final[Position] = 10**64
"""The position behind the last record of a shard that has an end (a stream's closed shard): nothing comes after it.
Beyond every sequence number (Kinesis' have 56 digits)."""


class Checkpoint(msgspec.Struct, frozen=True):
    """A shard's saved watermark: everything before ``position`` is finished, for every route."""

    position: Position
    """Where reading goes on: the next offset, the next byte, the last sequence number + 1; or SHARD_END."""
    clock: int = 0
    """The version clock's last stamp at the watermark, so that a replay stamps the same versions again."""


class CheckpointStore(Protocol):
    """Keeps checkpoints durably, namespaced by pipeline.

    Found by name: ``source`` (the source's own) or ``sqlite``. Errors: CheckpointError (tried again) and
    CheckpointLost (never again for that shard).
    """

    async def open(self) -> None:
        """Connect; create what is missing."""

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """The saved checkpoints of these shards; a shard without one is absent from the answer."""

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Save durably before returning. Raises CheckpointLost when a shard is no longer ours."""

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        """Every saved checkpoint of the pipeline, for ``millrace checkpoints show``."""

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """Forget these shards' checkpoints: reading starts from the configured start again."""

    async def close(self) -> None:
        """Let go of connections."""
