"""The API of a stream, as the machinery here sees it: four questions, and the ways in which they fail.

    StreamApiError          one call failed; its meaning for reading is in its type
    ├── Unavailable         5xx, no connection, a broken answer: it may pass
    ├── Throttled           too many calls: it may pass, and fewer at once
    ├── Denied              credentials, permissions, a refused request: it may pass when a person mends it
    ├── IteratorExpired     take a new iterator from the last position
    ├── DataTrimmed         the records at this place are gone: their retention has passed
    └── NotFound            there is no such stream, or no such shard in it

None of them ever means that a shard has ended: only a page without a next iterator says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from connector.change import Record, ShardId
from connector.errors import MillraceError
from connector.sources.streams.positions import Place


class StreamApiError(MillraceError):
    """One call failed."""


class Unavailable(StreamApiError):
    """It may pass: 5xx, no connection, a timeout, a broken answer."""


class Throttled(StreamApiError):
    """Too many calls (LimitExceeded, ProvisionedThroughputExceeded and their like)."""


class Denied(StreamApiError):
    """Refused: no permission, bad credentials, a request that the service does not take."""


class IteratorExpired(StreamApiError):
    """The iterator is too old (15 minutes for DynamoDB, 5 for Kinesis)."""


class DataTrimmed(StreamApiError):
    """The records at this place are gone."""


class NotFound(StreamApiError):
    """No such stream or shard."""


class Stream(msgspec.Struct, frozen=True):
    """One stream. A table has a new one whenever its stream was disabled and enabled again."""

    id: str
    """What the API calls it: an ARN."""
    name: str
    """The beginning of its shards' names here: ``orders/2026-01-31T12:00:00.000``. Later streams sort later."""

    def shard(self, shard: str) -> ShardId:
        """The name of one of its shards here."""
        return f"{self.name}/{shard}"


class StreamShard(msgspec.Struct, frozen=True):
    """A shard as a listing tells of it."""

    id: str
    parents: tuple[str, ...] = ()
    """The shards that it goes on from: one after a split or rollover, two after a merge. They may be gone already."""
    closed: bool = False
    """It gets no more records."""


class ShardPage(msgspec.Struct, frozen=True):
    """A page of a stream's listing."""

    shards: Sequence[StreamShard]
    next_after: str | None
    """Where the next page begins; None: this was the last one."""
    ended: bool = False
    """The stream is disabled: it gets no more records and no more shards."""


class RecordPage(msgspec.Struct, frozen=True):
    """A page of a shard's records, in order."""

    records: Sequence[Record]
    next_iterator: str | None
    """None: the shard is closed, and this page ends it."""
    behind_ms: int | None = None
    """How far behind the shard's tip the page is, where the API says it."""


class StreamApi(Protocol):
    """Every method is one call of the service, with a timeout of its own and without retries: who calls it backs off.

    Raises StreamApiError. Called by several tasks at once.
    """

    has_timestamps: bool
    """Whether an iterator may begin AtTimestamp."""

    async def open(self) -> None:
        """Prepare for calls; speaks to no server but for credentials. Raises ConfigError."""

    async def streams(self) -> Sequence[Stream]:
        """The streams that there are, the oldest first: of a table those of the last 24 hours."""

    async def describe(self, stream: Stream, after: str | None) -> ShardPage:
        """A page of the stream's listing: the shards that come after this one (None: from the first)."""

    async def iterator(self, stream: Stream, shard: str, place: Place) -> str:
        """An iterator that begins at a place in a shard."""

    async def records(self, iterator: str, limit: int) -> RecordPage:
        """The next page."""

    async def close(self) -> None:
        """Let go of connections."""
