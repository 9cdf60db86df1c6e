"""Kinesis' API behind the StreamApi protocol: signed requests, and what they say of a stream.

Kinesis never says that records are gone (there is no TrimmedDataAccess): from a place whose record was trimmed it goes
on, silently, with the oldest record that is left, or not at all (harlow/kinesis-consumer#125: empty pages, for ever
one retention behind). So reading goes on *at* the last record, not behind it: it comes first, or something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
import structlog

from connector.change import Record
from connector.clock import Clock
from connector.sources.kinesis.aggregation import user_records
from connector.sources.kinesis.config import KinesisConfig
from connector.sources.streams.api import (
    DataTrimmed,
    Denied,
    NotFound,
    RecordPage,
    ShardPage,
    Stream,
    StreamShard,
    Throttled,
    Unavailable,
)
from connector.sources.streams.aws import AwsJson
from connector.sources.streams.positions import After, AtTimestamp, Latest, Place, TrimHorizon

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETENTION_S: Final = 24 * 3600.0
"""How long a stream keeps its records where nobody has raised it."""
SHARDS_A_PAGE: Final = 1000
OLD: Final = 0.9
"""In parts of the retention: where the last record read is gone and the oldest one left is at least so old, the trim
horizon has come past records that nobody has read, or was about to."""


class ShardBusy(Unavailable):
    """The limit of the shard itself (5 reads and 2 MB a second, for all who read it) is reached: it alone is left alone
    for a while, while Throttled means fewer calls to all shards."""


class _Summary(msgspec.Struct):
    arn: str = msgspec.field(name="StreamARN")
    created_s: float = msgspec.field(name="StreamCreationTimestamp")
    retention_h: int = msgspec.field(name="RetentionPeriodHours")
    status: str = msgspec.field(name="StreamStatus")


class _Described(msgspec.Struct):
    summary: _Summary = msgspec.field(name="StreamDescriptionSummary")


class _Range(msgspec.Struct):
    ending: str | None = msgspec.field(name="EndingSequenceNumber", default=None)


class _Shard(msgspec.Struct):
    id: str = msgspec.field(name="ShardId")
    range: _Range = msgspec.field(name="SequenceNumberRange")
    parent: str | None = msgspec.field(name="ParentShardId", default=None)
    other_parent: str | None = msgspec.field(name="AdjacentParentShardId", default=None)


class _Shards(msgspec.Struct):
    shards: list[_Shard] = msgspec.field(name="Shards")
    next_token: str | None = msgspec.field(name="NextToken", default=None)


class _Iterator(msgspec.Struct):
    iterator: str = msgspec.field(name="ShardIterator")


class _Entry(msgspec.Struct, gc=False):
    sequence_number: str = msgspec.field(name="SequenceNumber")
    data: bytes = msgspec.field(name="Data")
    partition_key: str = msgspec.field(name="PartitionKey")
    arrived_s: float = msgspec.field(name="ApproximateArrivalTimestamp", default=0.0)


class _Page(msgspec.Struct, gc=False):
    records: list[_Entry] = msgspec.field(name="Records")
    behind_ms: int = msgspec.field(name="MillisBehindLatest")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """What an iterator is here: the service's own, and what must be known to judge the next page."""

    iterator: str
    arn: str
    shard: str
    last: str = ""
    """The sequence number of the last record read, where nothing was read behind it yet."""
    at_horizon: bool = False
    """It began at the trim horizon because its own place was gone."""


_described = msgspec.json.Decoder(_Described).decode
_shards = msgspec.json.Decoder(_Shards).decode
_iterator = msgspec.json.Decoder(_Iterator).decode
_page = msgspec.json.Decoder(_Page).decode
_cursor = msgspec.json.Decoder(_Cursor).decode


class KinesisApi:
    """The service, by signed requests. A record that a producer has aggregated comes as the records that are in it."""

    has_timestamps = True

    def __init__(self, config: KinesisConfig, clock: Clock) -> None:
        self.retention_s = RETENTION_S
        """How long the stream keeps a record, as far as it was asked."""
        self._config = config
        self._clock = clock
        self._aws = AwsJson(
            "kinesis",
            region=config.region_name,
            endpoint=config.endpoint,
            profile=config.profile,
            timeout_s=config.timeout,
            calls_max=config.calls_at_once,
        )

    async def open(self) -> None:
        """Prepare for calls."""
        await self._aws.open()

    async def streams(self) -> Sequence[Stream]:
        """The stream. One that was deleted and made anew has the same ARN, but not the same time of creation."""
        named = {"StreamARN" if self._config.is_arn else "StreamName": self._config.stream}
        summary = (await self._ask("DescribeStreamSummary", named, _described)).summary
        self.retention_s = summary.retention_h * 3600.0
        if summary.status == "CREATING":
            raise Unavailable(f"{self._config.stream_name} is still being created")
        label = datetime.fromtimestamp(int(summary.created_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return [Stream(summary.arn, f"{self._config.stream_name}/{label}")]

    async def describe(self, stream: Stream, after: str | None) -> ShardPage:
        """ListShards, from a shard on: its own tokens would expire."""
        if after is None:
            await self._check_it_is_still(stream)
        arguments = {"StreamARN": stream.id, "MaxResults": SHARDS_A_PAGE}
        listed = await self._ask("ListShards", arguments | ({"ExclusiveStartShardId": after} if after else {}), _shards)
        shards = [
            StreamShard(
                shard.id,
                tuple(parent for parent in (shard.parent, shard.other_parent) if parent),
                shard.range.ending is not None,
            )
            for shard in listed.shards
        ]
        return ShardPage(shards, shards[-1].id if listed.next_token and shards else None)

    async def iterator(self, stream: Stream, shard: str, place: Place) -> str:
        """GetShardIterator."""
        match place:
            case TrimHorizon():
                return _write(_Cursor(await self._begin(stream.id, shard, "TRIM_HORIZON"), stream.id, shard))
            case Latest():
                return _write(_Cursor(await self._begin(stream.id, shard, "LATEST"), stream.id, shard))
            case AtTimestamp():
                time_s = place.timestamp_ms / 1000
                return _write(
                    _Cursor(await self._begin(stream.id, shard, "AT_TIMESTAMP", Timestamp=time_s), stream.id, shard)
                )
            case After():
                return _write(await self._begin_after(stream, shard, str(place.sequence_number)))

    async def records(self, iterator: str, limit: int) -> RecordPage:
        """GetRecords."""
        cursor = _cursor(iterator)
        try:
            page = await self._ask("GetRecords", {"ShardIterator": cursor.iterator, "Limit": limit}, _page)
        except Throttled as error:
            if "ProvisionedThroughputExceeded" in str(error):
                raise ShardBusy(str(error)) from error
            raise
        entries = page.records
        if cursor.last and entries:
            self._check_nothing_is_missing(cursor, entries[0])
        following: _Cursor | None
        if page.next_iterator is None:
            following = None
        elif entries:
            following = _Cursor(page.next_iterator, cursor.arn, cursor.shard)
        elif page.behind_ms >= self.retention_s * 1000 and not cursor.at_horizon:
            # An iterator that has fallen behind the trim horizon finds nothing any more, and does not say so.
            horizon = await self._begin(cursor.arn, cursor.shard, "TRIM_HORIZON")
            following = msgspec.structs.replace(cursor, iterator=horizon, at_horizon=True)
        else:
            following = msgspec.structs.replace(cursor, iterator=page.next_iterator)
        records = [record for entry in entries for record in user_records(_record(entry))]
        return RecordPage(records, None if following is None else _write(following), page.behind_ms)

    async def close(self) -> None:
        """Let go of connections."""
        await self._aws.close()

    async def _begin(self, arn: str, shard: str, kind: str, **more: str | float) -> str:
        arguments = {"StreamARN": arn, "ShardId": shard, "ShardIteratorType": kind, **more}
        return (await self._ask("GetShardIterator", arguments, _iterator)).iterator

    async def _begin_after(self, stream: Stream, shard: str, last: str) -> _Cursor:
        try:
            begun = await self._begin(stream.id, shard, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=last)
        except Denied as refusal:
            try:  # the place may be gone (InvalidArgument), or everything may be refused
                await self._check_it_is_still(stream)
                begun = await self._begin(stream.id, shard, "TRIM_HORIZON")
            except Denied:
                raise refusal from None
            return _Cursor(begun, stream.id, shard, last, at_horizon=True)
        return _Cursor(begun, stream.id, shard, last)

    async def _check_it_is_still(self, stream: Stream) -> None:
        """Raises NotFound where the stream was made anew meanwhile: a later one has the same ARN and shard ids."""
        if stream not in await self.streams():
            raise NotFound(f"the stream {stream.name} was deleted")

    def _check_nothing_is_missing(self, cursor: _Cursor, first: _Entry) -> None:
        """Raises DataTrimmed where the records behind the last one read may have been trimmed before they were read.

        Not wherever the last one is gone: a shard that was idle for longer than the retention has lost nothing. Nobody
        can tell the two apart for sure; the age of what is left says which it is likely to be.
        """
        if int(first.sequence_number) <= int(cursor.last):
            return
        age_s = self._clock.now_ms() / 1000 - first.arrived_s
        hours = self.retention_s / 3600
        if age_s >= self.retention_s * OLD:
            raise DataTrimmed(
                f"the last record read is gone, and the oldest one left is {age_s / 3600:.1f} h old: the stream keeps "
                f"records for {hours:g} h"
            )
        log.warning(
            "the last record read is not in the stream any more: what came behind it is complete unless reading was "
            "interrupted for longer than the retention",
            shard=cursor.shard,
            retention_h=hours,
        )

    async def _ask(self, operation: str, arguments: dict[str, Any], decode: Callable[[bytes], T]) -> T:
        content = await self._aws.call(operation, arguments)
        try:
            return decode(content)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{operation}: the answer cannot be read: {error}") from error


def _write(cursor: _Cursor) -> str:
    return msgspec.json.encode(cursor).decode()


def _record(entry: _Entry) -> Record:
    return Record(
        int(entry.sequence_number),
        entry.data,
        entry.partition_key.encode("utf-8", "surrogatepass"),
        round(entry.arrived_s * 1000),
    )
