"""Format ``debezium``: Debezium's change events as its JSON converter writes them, with and without ``schema``.

What rightly carries no change counts as empty: tombstones, schema changes, heartbeats, transaction boundaries, logical
messages (``op`` m) and truncates (``op`` t: they name no key, so that no sink can follow them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from connector.change import Change, EventName, Record, ShardId
from connector.codecs.connect_schema import read_schema
from connector.codecs.debezium_images import EVENT_NAMES, PLAIN_IMAGES, DebeziumImages
from connector.codecs.debezium_keys import read_key
from connector.codecs.json_reading import JSON_ERRORS, check_utf8, decode_error, read_object
from connector.codecs.key_reader import KeyReader
from connector.codecs.protocol import Decoded, Undecodable
from connector.codecs.stream_times import checked_ms
from connector.errors import DecodeError

SCHEMAS_REMEMBERED_MAX = 256
"""A topic has a handful; each change of a table makes one more."""

_ABSENT = msgspec.Raw()
_NULL = b"null"
_EMPTY_OPS = {"t", "m"}


class Source(msgspec.Struct, gc=False):
    """Where the change was made."""

    ts_ms: int | None = None


class Payload(msgspec.Struct, gc=False):
    """Debezium's envelope."""

    op: str | None = None
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    source: Source | None = None
    ts_ms: int | None = None


class Outer(Payload, gc=False):
    """A record's value: the envelope, or the JSON converter's schema and payload."""

    schema: msgspec.Raw = _ABSENT
    payload: Payload | msgspec.UnsetType | None = msgspec.UNSET


_decode_outer = msgspec.json.Decoder(Outer).decode


class DebeziumCodec:
    """Change events of Debezium's relational connectors. The key is the Kafka record's key."""

    name: ClassVar[str] = "debezium"

    def __init__(self) -> None:
        self._keys = KeyReader(read_key)
        self._images: dict[bytes, DebeziumImages] = {}

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        """Decode records of one shard (connector.codecs.protocol)."""
        changes: list[Change] = []
        undecodable: list[Undecodable] = []
        empty = 0
        for record in records:
            value = record.value
            if value is None or value == _NULL:
                empty += 1
                continue
            try:
                check_utf8(value)
                change = self._change(shard, record, value)
            except DecodeError as error:
                undecodable.append(Undecodable(record, error))
                continue
            except JSON_ERRORS as error:
                undecodable.append(Undecodable(record, decode_error(value, error)))
                continue
            if change is None:
                empty += 1
            else:
                changes.append(change)
        return Decoded(changes, undecodable, empty)

    def _change(self, shard: ShardId, record: Record, value: bytes) -> Change | None:
        outer = _decode_outer(value)
        payload = outer.payload if outer.payload is not msgspec.UNSET else outer
        if payload is None:
            return None  # a tombstone in the JSON converter's words
        op = payload.op
        event_name = EVENT_NAMES.get(op or "")
        if event_name is None:
            _check_empty(op, value)
            return None
        if not record.key:
            raise DecodeError("no_key", "the record has no key: the table has none, or the producer dropped it")
        new_image, old_image = _image(payload.after), _image(payload.before)
        if new_image is None and event_name is not EventName.REMOVE:
            raise DecodeError("no_image", "the record says that a row was written, but not which")
        key = self._keys.remembered.get(record.key) or self._keys.read(record.key)
        return Change(
            event_name=event_name,
            key=key[0],
            keys=key[1],
            shard=shard,
            record=record,
            images=PLAIN_IMAGES if outer.schema is _ABSENT else self._images_of(bytes(outer.schema)),
            event_id=f"{record.place(shard)}:0",
            timestamp_ms=_time_ms(payload, record),
            new_image=new_image,
            old_image=old_image,
        )

    def _images_of(self, schema: bytes) -> DebeziumImages:
        images = self._images.get(schema)
        if images is None:
            images = DebeziumImages(read_schema(schema))
            if len(self._images) >= SCHEMAS_REMEMBERED_MAX:
                self._images.clear()
            self._images[schema] = images
        return images


def _image(raw: msgspec.Raw) -> bytes | None:
    image = bytes(raw)
    if not image or image == _NULL:
        return None
    if not image.startswith(b"{"):
        raise DecodeError("wrong_shape", "an image is not an object")
    return image


def _time_ms(payload: Payload, record: Record) -> int:
    """When the database made the change; failing that, when Debezium saw it; failing that, the record's own time."""
    if payload.source is not None and payload.source.ts_ms is not None:
        return checked_ms(payload.source.ts_ms)
    return checked_ms(record.timestamp_ms if payload.ts_ms is None else payload.ts_ms)


def _check_empty(op: str | None, value: bytes) -> None:
    """Raises DecodeError unless the record is one of those that rightly carry no change of a row."""
    if op in _EMPTY_OPS:
        return
    if op is not None:
        raise DecodeError("unknown_event_name", "the record's `op` is none of Debezium's")
    whole = read_object(value)
    payload: Any = whole.get("payload", whole)
    if type(payload) is not dict:
        raise DecodeError("wrong_shape", "the payload is not an object")
    is_schema_change = "ddl" in payload or "tableChanges" in payload
    is_transaction = payload.get("status") in ("BEGIN", "END") and "id" in payload
    is_heartbeat = "ts_ms" in payload and payload.keys() <= {"ts_ms", "ts_us", "ts_ns"}
    if not (is_schema_change or is_transaction or is_heartbeat):
        raise DecodeError("no_envelope", "the record is not a Debezium envelope (a flattening transform was used?)")
