"""The Kinesis source: the machinery of streams with Kinesis' API."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.leases.config import lease_store
from connector.sources.kinesis.api import RETENTION_S, KinesisApi
from connector.sources.kinesis.config import KinesisConfig, StartAt
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.streams.leased import LeasedCheckpoints, LeasedOwner, share
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.source import StreamSource


class KinesisSource:
    """Reads a stream. A shard is ``<stream>/<its creation>/<shard id>``; a position is a sequence number + 1."""

    config_model: ClassVar[type[BaseModel]] = KinesisConfig
    positions_count: ClassVar[bool] = False

    def __init__(self, config: KinesisConfig, context: SourceContext) -> None:
        options = StreamOptions(
            prefix=config.stream_name,
            follows=True,
            start=config.start.timestamp_ms if isinstance(config.start, StartAt) else config.start,
            trimmed=config.trimmed,
            retention_s=RETENTION_S,
            discover_every_s=config.discover_every,
            idle_every_s=config.idle_every,
            calls_at_once=config.calls_at_once,
            bytes_ahead=config.prefetch,
        )
        jitter = random.Random()  # noqa: S311 - nothing secret
        self._checkpoints: LeasedCheckpoints | None = None
        owner: LeasedOwner | None = None
        if config.leases is not None:
            # Without the endpoint, which is Kinesis' own: a lease table is in DynamoDB.
            store = lease_store(config.leases, context.pipeline, region=config.region_name, profile=config.profile)
            self._checkpoints, owner = share(config.leases, store, context.clock, jitter)
        self._api = KinesisApi(config, context.clock)
        self._stream = StreamSource(self._api, options, context, jitter, owner)

    @property
    def retention_s(self) -> float:
        """How long the stream keeps a record at present."""
        return self._api.retention_s

    @property
    def last_error(self) -> str:
        """Why the stream cannot be read at present; empty while it can."""
        return self._stream.last_error

    @property
    def skipped(self) -> int:
        """How often something was lost unread and skipped (``trimmed: skip``)."""
        return self._stream.skipped

    @property
    def assigned_all(self) -> bool:
        """Whether every shard that there is was assigned or is finished."""
        return self._stream.assigned_all

    def own_checkpoints(self) -> CheckpointStore | None:
        """The rows of the leases; None without leases: the pipeline's store keeps them."""
        return self._checkpoints

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Find the stream. Raises ConfigError where there is none."""
        await self._stream.open(listener, checkpoints)

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """What has come of any shards. Raises SourceError."""
        self._stream.retention_s = self._api.retention_s
        return await self._stream.read(records_max, wait_s)

    async def pause(self) -> None:
        """Ask for no more records."""
        await self._stream.pause()

    async def resume(self) -> None:
        """Go on exactly where reading stopped."""
        await self._stream.resume()

    async def ends(self) -> Mapping[ShardId, Position]:
        """Of the shards that are read up to their tips, where they stand."""
        return await self._stream.ends()

    async def close(self) -> None:
        """End all that is under way."""
        await self._stream.close()

    def describe(self) -> str:
        """One line for people: what was found."""
        return self._stream.describe()
