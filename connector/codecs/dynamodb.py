"""Format ``dynamodb``: DynamoDB Streams records as JSON, bare or in a Lambda event (``{"Records": [...]}``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from connector.change import Record, ShardId
from connector.codecs.dynamodb_keys import read_key
from connector.codecs.dynamodb_records import Body, decode_records
from connector.codecs.key_reader import KeyReader
from connector.codecs.protocol import Decoded
from connector.codecs.stream_times import seconds_to_ms


class DynamoDBCodec:
    """Stream records of all four view types, as Lambda gets them, DynamoDB Local gives them or boto3 dumps them.

    ``ApproximateCreationDateTime`` is seconds (a number or its text) or ISO 8601; where it is missing, the record's
    own timestamp counts.
    """

    name: ClassVar[str] = "dynamodb"

    def __init__(self) -> None:
        self._keys = KeyReader(read_key)

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        """Decode records of one shard (connector.codecs.protocol)."""
        return decode_records(shard, records, self._keys, _seconds)


def _seconds(body: Body) -> int:
    time = body.time
    return seconds_to_ms(time) if time is not None else 0
