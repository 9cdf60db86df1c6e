"""The DynamoDB Streams source: the machinery of streams with DynamoDB's API."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.leases.config import lease_store
from connector.snapshot.table import TableScanner
from connector.sources.dynamodb_streams.api import DynamoDBStreamsApi
from connector.sources.dynamodb_streams.config import DynamoDBStreamsConfig
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.streams.leased import LeasedCheckpoints, LeasedOwner, share
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.source import StreamSource

RETENTION_S = 24 * 3600.0
"""How long DynamoDB keeps a stream's records, for everybody."""


class DynamoDBStreamsSource:
    """Reads a table's stream. A shard is ``<table>/<stream label>/<shard id>``; a position is a sequence number + 1."""

    config_model: ClassVar[type[BaseModel]] = DynamoDBStreamsConfig
    positions_count: ClassVar[bool] = False
    retention_s: ClassVar[float] = RETENTION_S

    def __init__(self, config: DynamoDBStreamsConfig, context: SourceContext) -> None:
        options = StreamOptions(
            prefix=config.table_name,
            follows=config.table is not None,
            start=config.start,
            trimmed=config.trimmed,
            retention_s=RETENTION_S,
            discover_every_s=config.discover_every,
            idle_every_s=config.idle_every,
            calls_at_once=config.calls_at_once,
            bytes_ahead=config.prefetch,
        )
        self._config = config
        jitter = random.Random()  # noqa: S311 - nothing secret
        self._checkpoints: LeasedCheckpoints | None = None
        owner: LeasedOwner | None = None
        if config.leases is not None:
            place = {"region": config.region_name, "endpoint": config.endpoint, "profile": config.profile}
            store = lease_store(config.leases, context.pipeline, **place)
            self._checkpoints, owner = share(config.leases, store, context.clock, jitter)
        self._stream = StreamSource(DynamoDBStreamsApi(config), options, context, jitter, owner)

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

    @property
    def pinned(self) -> bool:
        """Whether the position of every shard is taken (connector.snapshot.protocol.Scannable)."""
        return self._stream.pinned

    @property
    def table_name(self) -> str:
        """The table."""
        return self._config.table_name

    def pin_exactly(self) -> None:
        """A snapshot depends on the positions."""
        self._stream.pin_exactly()

    def table_scanner(self, *, segments: int, page_items: int) -> TableScanner:
        """The table's items."""
        config = self._config
        return TableScanner(
            config.table_name,
            segments=segments,
            page_items=page_items,
            region=config.region_name,
            endpoint=config.endpoint,
            profile=config.profile,
            timeout_s=config.timeout,
        )

    def own_checkpoints(self) -> CheckpointStore | None:
        """The rows of the leases; None without leases: the pipeline's store keeps them."""
        return self._checkpoints

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Find the stream. Raises ConfigError where there is none."""
        await self._stream.open(listener, checkpoints)

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """What has come of any shards. None when a ``stream_arn``'s stream is over. Raises SourceError."""
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
