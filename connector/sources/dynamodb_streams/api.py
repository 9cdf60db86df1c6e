"""DynamoDB Streams' API (connector.sources.streams.api.StreamApi)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from connector.change import Record
from connector.sources.dynamodb_streams.config import DynamoDBStreamsConfig
from connector.sources.streams.api import RecordPage, ShardPage, Stream, StreamShard, Unavailable
from connector.sources.streams.aws import AwsJson
from connector.sources.streams.positions import After, Latest, Place, TrimHorizon

T = TypeVar("T")

PAGES_MAX = 100
NO_IDENTITY = msgspec.Raw()


class _ListedStream(msgspec.Struct):
    arn: str = msgspec.field(name="StreamArn")
    label: str = msgspec.field(name="StreamLabel")


class _Streams(msgspec.Struct):
    streams: list[_ListedStream] = msgspec.field(name="Streams", default=[])
    last: str | None = msgspec.field(name="LastEvaluatedStreamArn", default=None)


class _Range(msgspec.Struct):
    ending: str | None = msgspec.field(name="EndingSequenceNumber", default=None)


class _Shard(msgspec.Struct):
    id: str = msgspec.field(name="ShardId")
    range: _Range = msgspec.field(name="SequenceNumberRange", default_factory=_Range)
    parent: str | None = msgspec.field(name="ParentShardId", default=None)


class _Description(msgspec.Struct):
    label: str = msgspec.field(name="StreamLabel")
    status: str = msgspec.field(name="StreamStatus", default="ENABLED")
    shards: list[_Shard] = msgspec.field(name="Shards", default=[])
    last: str | None = msgspec.field(name="LastEvaluatedShardId", default=None)


class _Described(msgspec.Struct):
    stream: _Description = msgspec.field(name="StreamDescription")


class _Iterator(msgspec.Struct):
    iterator: str = msgspec.field(name="ShardIterator")


class _Page(msgspec.Struct, gc=False):
    records: list[msgspec.Raw] = msgspec.field(name="Records", default=[])
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _Body(msgspec.Struct, gc=False):
    sequence_number: str = msgspec.field(name="SequenceNumber")
    created: float = msgspec.field(name="ApproximateCreationDateTime", default=0.0)


class _Entry(msgspec.Struct, gc=False):
    body: _Body = msgspec.field(name="dynamodb")
    identity: msgspec.Raw = msgspec.field(name="userIdentity", default=NO_IDENTITY)


_streams = msgspec.json.Decoder(_Streams).decode
_described = msgspec.json.Decoder(_Described).decode
_iterator = msgspec.json.Decoder(_Iterator).decode
_page = msgspec.json.Decoder(_Page).decode
_entry = msgspec.json.Decoder(_Entry).decode


class DynamoDBStreamsApi:
    """The service, by signed requests. A record's value is the JSON that the service sent, byte for byte, but for the
    names inside ``userIdentity``, which are written as Lambda's events have them."""

    has_timestamps = False

    def __init__(self, config: DynamoDBStreamsConfig) -> None:
        self._config = config
        self._aws = AwsJson(
            "dynamodbstreams",
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
        """The table's streams of the last 24 hours, or the one of the configuration."""
        if self._config.stream_arn is not None:
            label = (await self._describe(self._config.stream_arn, None, 1)).label
            return [self._stream(self._config.stream_arn, label)]
        found: list[_ListedStream] = []
        after = None
        for _ in range(PAGES_MAX):
            arguments = {"TableName": self._config.table_name} | ({"ExclusiveStartStreamArn": after} if after else {})
            page = await self._ask("ListStreams", arguments, _streams)
            found += page.streams
            if (after := page.last) is None:
                break
        return [self._stream(each.arn, each.label) for each in sorted(found, key=lambda each: each.label)]

    async def describe(self, stream: Stream, after: str | None) -> ShardPage:
        """A page of up to 100 shards."""
        described = await self._describe(stream.id, after, 100)
        shards = [
            StreamShard(shard.id, (shard.parent,) if shard.parent else (), shard.range.ending is not None)
            for shard in described.shards
        ]
        return ShardPage(shards, described.last, ended=described.status == "DISABLED")

    async def iterator(self, stream: Stream, shard: str, place: Place) -> str:
        """GetShardIterator."""
        arguments = {"StreamArn": stream.id, "ShardId": shard}
        match place:
            case TrimHorizon():
                arguments["ShardIteratorType"] = "TRIM_HORIZON"
            case Latest():
                arguments["ShardIteratorType"] = "LATEST"
            case After():
                arguments |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": place.text}
            case _:
                raise AssertionError("has_timestamps is False")
        return (await self._ask("GetShardIterator", arguments, _iterator)).iterator

    async def records(self, iterator: str, limit: int) -> RecordPage:
        """GetRecords."""
        page = await self._ask("GetRecords", {"ShardIterator": iterator, "Limit": limit}, _page)
        try:
            return RecordPage([_record(raw) for raw in page.records], page.next_iterator)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unavailable(f"GetRecords: a record cannot be read: {error}") from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._aws.close()

    async def _describe(self, arn: str, after: str | None, limit: int) -> _Description:
        arguments = {"StreamArn": arn, "Limit": limit} | ({"ExclusiveStartShardId": after} if after else {})
        return (await self._ask("DescribeStream", arguments, _described)).stream

    async def _ask(self, operation: str, arguments: dict[str, Any], decode: Callable[[bytes], T]) -> T:
        content = await self._aws.call(operation, arguments)
        try:
            return decode(content)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{operation}: the answer cannot be read: {error}") from error

    def _stream(self, arn: str, label: str) -> Stream:
        return Stream(arn, f"{self._config.table_name}/{label}")


def _record(raw: msgspec.Raw) -> Record:
    entry = _entry(raw)
    value = bytes(raw)
    if entry.identity is not NO_IDENTITY:
        value = _as_lambda_writes(value)
    return Record(int(entry.body.sequence_number), value, timestamp_ms=round(entry.body.created * 1000))


def _as_lambda_writes(value: bytes) -> bytes:
    """The service says ``{"PrincipalId": …, "Type": …}``; Lambda's events, which filters are written for, say
    ``principalId`` and ``type``."""
    record = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    identity = msgspec.json.decode(record["userIdentity"], type=dict[str, Any] | None)
    if identity is None:
        return value
    renamed = {name[:1].lower() + name[1:]: inner for name, inner in identity.items()}
    return msgspec.json.encode(record | {"userIdentity": msgspec.Raw(msgspec.json.encode(renamed))})
