"""The failure record: a dead letter as Lambda shapes one for its destinations, plus our own envelope.

Whoever consumes the records of a Lambda event source mapping's on-failure destination can go on: the fields are those
of its invocation record (``requestContext``, ``responseContext``, ``version``, ``timestamp``, and for streams
``DDBStreamBatchInfo`` or ``KinesisBatchInfo``), of a batch of one. What Lambda has no word for is under ``millrace``:
the letter with its record, as every destination of ours keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.deadletter.lines import LetterLine, decode, encode
from connector.errors import DeadLetterError

BATCH_INFO: Final[Mapping[str, str]] = {
    "dynamodb": "DDBStreamBatchInfo",
    "kinesis-dynamodb": "KinesisBatchInfo",
}
"""By the record's format. Lambda has no such words for others."""


class _Ours(msgspec.Struct):
    millrace: LetterLine


def failure_record(letter: DeadLetter, *, with_record: bool = True, with_payload: bool = False) -> bytes:
    """The failure record of one letter, as JSON.

    ``with_payload``: the record also as readable text, as Lambda adds it in S3. Without the record
    (``with_record=False``) the letter says all but the change itself: like Lambda's own record in a queue.
    """
    kept = letter if with_record else _without_record(letter)
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": str(UUID(hex=letter.id)),
            "functionArn": f"millrace:{letter.pipeline}/{letter.route or 'decode'}",
            "condition": "RecordAgeExceeded" if letter.kind is ErrorKind.TOO_OLD else "RetryAttemptsExhausted",
            "approximateInvokeCount": letter.attempts,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": _time(letter.last_failed_ms),
    }
    if (info := BATCH_INFO.get(letter.format)) is not None:
        document[info] = _batch_info(letter)
    if with_payload and (payload := _text(letter.record.value)) is not None:
        document["payload"] = payload
    document["millrace"] = LetterLine(kept)
    return encode(document)


def letter_of(text: bytes) -> DeadLetter:
    """The letter in a failure record. Raises DeadLetterError for what is none, or has no record."""
    try:
        ours: _Ours = decode(text, _Ours)
    except msgspec.DecodeError as error:
        raise DeadLetterError(f"not a failure record of ours: {error}") from error
    return ours.millrace.letter


def _batch_info(letter: DeadLetter) -> dict[str, Any]:
    stream, _, shard = letter.shard.rpartition("/")
    arrived = _time(letter.record.timestamp_ms)
    return {
        "shardId": shard,
        "startSequenceNumber": str(letter.position),
        "endSequenceNumber": str(letter.position),
        "approximateArrivalOfFirstRecord": arrived,
        "approximateArrivalOfLastRecord": arrived,
        "batchSize": 1,
        "streamArn": stream,
    }


def _without_record(letter: DeadLetter) -> DeadLetter:
    bare = msgspec.structs.replace(letter.record, value=None, key=None, headers=())
    return msgspec.structs.replace(letter, record=bare)


def _time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
