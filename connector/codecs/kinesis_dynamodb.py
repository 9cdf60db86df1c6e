"""Format ``kinesis-dynamodb``: the envelope of Kinesis Data Streams for DynamoDB, one record a change.

It differs from a stream record in its time, which is in milliseconds or microseconds. Kinesis may hold a record twice
(with the same ``eventID``) and out of order; the time orders them ("Using Kinesis Data Streams to capture changes to
DynamoDB", AWS). So the log is unordered (``ordered``): a change's version is its own time, never where it was read.

    an older change read later     has the lower version: a versioned sink answers "stale", superseding leaves it out
    the same change read again     has the same version: written twice, it is the same
    two changes of one time        keep the order in which they are read, the later one wins. An item is hardly written
                                   twice in a microsecond, but it may be in a millisecond: choose MICROSECOND
    a sink without versions        cannot tell: an invalidated cache key is invalidated either way, while an audit
                                   table, which is to hold every change, holds the time of each
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from connector.change import Record, ShardId
from connector.codecs.dynamodb_keys import read_key
from connector.codecs.dynamodb_records import Body, decode_records
from connector.codecs.key_reader import KeyReader
from connector.codecs.protocol import Decoded
from connector.codecs.stream_times import checked_ms
from connector.errors import DecodeError

_UNITS_PER_MS = {None: 1, "MILLISECOND": 1, "MICROSECOND": 1000}
"""By ``ApproximateCreationDateTimePrecision``; records from before that field existed are in milliseconds."""


class KinesisDynamoDBCodec:
    """Envelopes as Kinesis Data Streams for DynamoDB writes them (``recordFormat`` application/json)."""

    name: ClassVar[str] = "kinesis-dynamodb"
    ordered: ClassVar[bool] = False

    def __init__(self) -> None:
        self._keys = KeyReader(read_key)

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        """Decode records of one shard (connector.codecs.protocol)."""
        return decode_records(shard, records, self._keys, _milliseconds, _microsecond)


def _milliseconds(body: Body) -> int:
    units = _UNITS_PER_MS.get(body.precision)
    if units is None or not isinstance(body.time, int):
        raise DecodeError("bad_time", "the change's time is not a whole number of milliseconds or microseconds")
    return checked_ms(body.time // units)


def _microsecond(body: Body) -> int:
    """Which microsecond of its millisecond the change happened in."""
    assert isinstance(body.time, int), "the time was read before"
    return body.time % 1000 if body.precision == "MICROSECOND" else 0
