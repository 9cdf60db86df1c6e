"""The failure record: Lambda's words where Lambda has some, our letter whole beside them."""

from __future__ import annotations

import itertools
import json

import pytest

from connector.change import Record
from connector.deadletter.envelope import ErrorKind
from connector.deadletter.failure_record import failure_record, letter_of
from connector.errors import DeadLetterError
from tests.unit.deadletter.letters import letter

STREAM = "orders/2026-01-31T12:00:00.000/shardId-00000001-abc"


def test_a_record_of_a_stream_says_what_lambda_s_would() -> None:
    record = json.loads(failure_record(letter(7, shard=STREAM)))
    assert record.pop("millrace")["letter"]["code"] == "mapper_parsing_exception"
    assert record == {
        "requestContext": {
            "requestId": "{}-{}-{}-{}-{}".format(*_parts(letter(7, shard=STREAM).id)),
            "functionArn": "millrace:orders/search",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2023-11-14T22:13:20.002Z",
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000001-abc",
            "startSequenceNumber": "7",
            "endSequenceNumber": "7",
            "approximateArrivalOfFirstRecord": "2023-11-14T22:13:20.000Z",
            "approximateArrivalOfLastRecord": "2023-11-14T22:13:20.000Z",
            "batchSize": 1,
            "streamArn": "orders/2026-01-31T12:00:00.000",
        },
    }


def _parts(hex_: str) -> list[str]:
    bounds = [0, 8, 12, 16, 20, 32]
    return [hex_[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize(
    ("format_", "info"), [("dynamodb", "DDBStreamBatchInfo"), ("kinesis-dynamodb", "KinesisBatchInfo"), ("mine", None)]
)
def test_the_batch_has_lambda_s_name_for_it_if_there_is_one(format_: str, info: str | None) -> None:
    record = json.loads(failure_record(letter(7, format=format_)))
    assert [name for name in record if name.endswith("BatchInfo")] == ([info] if info else [])


def test_an_old_change_is_told_by_lambda_s_word() -> None:
    record = json.loads(failure_record(letter(7, kind=ErrorKind.TOO_OLD)))
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"


def test_the_payload_is_there_where_it_is_asked_for_and_is_text() -> None:
    assert json.loads(failure_record(letter(7), with_payload=True))["payload"] == '{"n":7}'
    binary = letter(7, record=Record(7, b"\xff"))
    assert "payload" not in json.loads(failure_record(binary, with_payload=True))
    assert letter_of(failure_record(binary, with_payload=True)) == binary


def test_without_its_record_a_letter_says_all_but_the_change() -> None:
    bare = letter_of(failure_record(letter(7), with_record=False))
    assert (bare.record.value, bare.record.key, bare.record.timestamp_ms) == (None, None, 1_700_000_000_000)
    assert (bare.key, bare.position) == (letter(7).key, 7)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"millrace": {"type": "mark"}}'])
def test_what_is_no_failure_record_of_ours_is_refused(text: bytes) -> None:
    with pytest.raises(DeadLetterError, match="not a failure record of ours"):
        letter_of(text)
