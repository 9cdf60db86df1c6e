"""Format ``kinesis-dynamodb``: the envelope of Kinesis Data Streams for DynamoDB, one record a change.

It differs from a stream record in its time, which is in milliseconds or microseconds. Kinesis may hold a record twice
(with the same ``eventID``) and out of order.
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

    def __init__(self) -> None:
        self._keys = KeyReader(read_key)

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        """Decode records of one shard (connector.codecs.protocol)."""
        return decode_records(shard, records, self._keys, _milliseconds)


def _milliseconds(body: Body) -> int:
    units = _UNITS_PER_MS.get(body.precision)
    if units is None or not isinstance(body.time, int):
        raise DecodeError("bad_time", "the change's time is not a whole number of milliseconds or microseconds")
    return checked_ms(body.time // units)
