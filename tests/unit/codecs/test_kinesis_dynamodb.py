"""The format ``kinesis-dynamodb``: the envelope of Kinesis Data Streams for DynamoDB."""

from __future__ import annotations

from typing import Any

import pytest

from connector.change import EventName
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.kinesis_dynamodb import KinesisDynamoDBCodec
from tests.samples import sample
from tests.unit.codecs.builders import change_of, decode, record, refusal_of, stream_record


def test_times_in_milliseconds_are_kept_and_milliseconds_is_what_an_old_record_means() -> None:
    insert, modify = decode(KinesisDynamoDBCodec(), *sample("kinesis_dynamodb_milliseconds")).changes

    assert (insert.timestamp_ms, modify.timestamp_ms) == (1_777_626_000_123, 1_777_626_000_456)
    assert insert.event_name is EventName.INSERT
    assert insert.key == '{"pk":{"S":"CUSTOMER#42"},"sk":{"S":"ORDER#1"}}'
    assert modify.old_values() == insert.new_values()
    assert insert.identity is None
    assert insert.images.envelope(insert.record, 0)["tableName"] == "orders"


def test_times_in_microseconds_become_milliseconds() -> None:
    insert, remove = decode(KinesisDynamoDBCodec(), *sample("kinesis_dynamodb_microseconds")).changes

    assert (insert.timestamp_ms, remove.timestamp_ms) == (1_777_626_000_123, 1_777_626_000_456)
    assert remove.identity is not None


def test_the_records_own_time_counts_where_the_change_has_none() -> None:
    assert change_of(KinesisDynamoDBCodec(), stream_record(time=None), timestamp_ms=99).timestamp_ms == 99


def test_the_microsecond_orders_what_happened_in_one_millisecond() -> None:
    codec = KinesisDynamoDBCodec()
    value = stream_record(time=1_777_626_000_123_456)
    value["dynamodb"]["ApproximateCreationDateTimePrecision"] = "MICROSECOND"
    assert not codec.ordered
    assert change_of(codec, value).version == 456
    assert change_of(codec, stream_record(time=1_777_626_000_123)).version == 0
    assert change_of(codec, stream_record(time=None), timestamp_ms=99).version == 0


def test_a_record_that_kinesis_holds_twice_has_one_event_id() -> None:
    twice = sample("kinesis_dynamodb_milliseconds")[0]
    changes = decode(KinesisDynamoDBCodec(), record(twice.value, position=1), record(twice.value, position=2)).changes

    assert changes[0].event_id == changes[1].event_id == "7c0e4a0e-6f5a-4c0e-9d3c-000000000001"


@pytest.mark.parametrize(
    ("time", "precision", "code"),
    [
        (1_777_626_000_123_456, "MILLISECOND", "time_out_of_range"),
        (1_777_626_000_123_456, None, "time_out_of_range"),
        (-1, "MICROSECOND", "time_out_of_range"),
        (1_777_626_000, "SECOND", "bad_time"),
        (1.5, "MILLISECOND", "bad_time"),
        ("1777626000123", "MILLISECOND", "bad_time"),
    ],
)
def test_a_time_in_another_unit_is_refused(time: Any, precision: str | None, code: str) -> None:
    value = stream_record(time=time)
    if precision is not None:
        value["dynamodb"]["ApproximateCreationDateTimePrecision"] = precision
    assert refusal_of(KinesisDynamoDBCodec(), value) == code


def test_the_stream_codec_refuses_a_kinesis_envelope_because_of_its_time() -> None:
    value = sample("kinesis_dynamodb_microseconds")[0].value
    assert refusal_of(DynamoDBCodec(), value) == "time_out_of_range"
