"""Records in one line, for the codecs' tests."""

from __future__ import annotations

import json
from typing import Any

from connector.change import Change, Record
from connector.codecs.protocol import Codec, Decoded

SHARD = "orders.changes/0"
KEYS: dict[str, Any] = {"pk": {"S": "CUSTOMER#42"}}


def stream_record(
    event_name: str | None = "MODIFY", *, keys: Any = KEYS, time: Any = 1_777_626_000, more: Any = None, **images: Any
) -> dict[str, Any]:
    """A DynamoDB stream record; ``new`` and ``old`` are its images, ``more`` goes beside ``dynamodb``."""
    body = {
        "Keys": keys,
        "ApproximateCreationDateTime": time,
        "NewImage": images.get("new"),
        "OldImage": images.get("old"),
    }
    whole = {"eventName": event_name, "dynamodb": {name: value for name, value in body.items() if value is not None}}
    return {name: value for name, value in whole.items() if value is not None} | (more or {})


def record(value: Any, *, position: int = 7, key: Any = None, timestamp_ms: int = 0) -> Record:
    """A source's record: ``value`` and ``key`` as bytes, or as what is to be written as JSON."""
    return Record(position, _bytes(value), _bytes(key), timestamp_ms)


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False).encode()


def decode(codec: Codec, *records: Record) -> Decoded:
    """What the codec makes of records of one shard; every record is accounted for."""
    decoded = codec.decode(SHARD, records)
    carrying = {change.record.position for change in decoded.changes}
    assert len(carrying) + len(decoded.undecodable) + decoded.empty == len(records)
    return decoded


def change_of(codec: Codec, value: Any, *, key: Any = None, timestamp_ms: int = 0) -> Change:
    """The one change in a record."""
    decoded = decode(codec, record(value, key=key, timestamp_ms=timestamp_ms))
    assert not decoded.undecodable, decoded.undecodable[0].error
    (change,) = decoded.changes
    return change


def refusal_of(codec: Codec, value: Any, *, key: Any = None) -> str:
    """The code with which a record is refused; it is handed back whole, and nothing else comes out of it."""
    refused = record(value, key=key)
    decoded = decode(codec, refused)
    assert decoded.changes == []
    (undecodable,) = decoded.undecodable
    assert undecodable.record is refused
    assert undecodable.error.message
    return undecodable.error.code
