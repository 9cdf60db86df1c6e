"""DynamoDB's record as Streams and Kinesis write it → changes. One pass, the hottest loop of decoding.

At the door a record gives up its key, event name, time and id; images are cut out as bytes and stay unread. They are
copies, not views: measured on records of 1.1 kB, views (``msgspec.Raw``) would save 100 ns and 500 bytes a change in
flight; in return a change holds plain ``bytes`` that can be measured, compared and sliced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from connector.change import Change, EventName, Record, ShardId
from connector.codecs.dynamodb_images import DYNAMODB_IMAGES
from connector.codecs.json_reading import JSON_ERRORS, check_utf8, decode_error
from connector.codecs.key_reader import KeyReader
from connector.codecs.protocol import Decoded, Undecodable
from connector.codecs.stream_times import checked_ms
from connector.errors import DecodeError

_ABSENT = msgspec.Raw()


class Body(msgspec.Struct, gc=False):
    """The ``dynamodb`` object."""

    keys: msgspec.Raw = msgspec.field(name="Keys", default=_ABSENT)
    new_image: msgspec.Raw = msgspec.field(name="NewImage", default=_ABSENT)
    old_image: msgspec.Raw = msgspec.field(name="OldImage", default=_ABSENT)
    time: int | float | str | None = msgspec.field(name="ApproximateCreationDateTime", default=None)
    precision: str | None = msgspec.field(name="ApproximateCreationDateTimePrecision", default=None)


class Entry(msgspec.Struct, gc=False):
    """One stream record."""

    body: Body | None = msgspec.field(name="dynamodb", default=None)
    event_name: EventName | None = msgspec.field(name="eventName", default=None)
    event_id: str | None = msgspec.field(name="eventID", default=None)
    identity: msgspec.Raw = msgspec.field(name="userIdentity", default=_ABSENT)


class Outer(Entry, gc=False):
    """A record's value: a stream record, or Lambda's event around several."""

    entries: list[Entry] | None = msgspec.field(name="Records", default=None)


TimeReader = Callable[[Body], int]
"""The change's time (epoch milliseconds) from a body that has one. Raises DecodeError."""
OrderReader = Callable[[Body], int]
"""What orders the changes of one millisecond, below 2^20, for a format whose log is unordered."""


_decode_outer = msgspec.json.Decoder(Outer).decode
_BRACE = ord("{")


def decode_records(
    shard: ShardId,
    records: Sequence[Record],
    keys: KeyReader,
    read_time: TimeReader,
    read_order: OrderReader | None = None,
) -> Decoded:
    """Decode DynamoDB records of one shard. A record with one undecodable entry is undecodable as a whole."""
    changes: list[Change] = []
    undecodable: list[Undecodable] = []
    empty = 0
    remembered = keys.remembered
    for record in records:
        value = record.value
        if value is None:
            empty += 1
            continue
        kept = len(changes)
        try:
            if not value.isascii():
                check_utf8(value)
            outer = _decode_outer(value)
            entries: Sequence[Entry] = (outer,) if outer.entries is None else outer.entries
            if not entries:
                empty += 1
            for index, entry in enumerate(entries):
                body = entry.body
                event_name = entry.event_name
                if body is None or event_name is None:
                    _refuse_incomplete(body)
                raw_keys = bytes(body.keys)
                key = remembered.get(raw_keys) or keys.read(raw_keys)
                new_image: bytes | None = None
                old_image: bytes | None = None
                identity: bytes | None = None
                if body.new_image is not _ABSENT:
                    new_image = bytes(body.new_image)
                    if new_image[0] != _BRACE:
                        new_image = _no_object(new_image)
                if body.old_image is not _ABSENT:
                    old_image = bytes(body.old_image)
                    if old_image[0] != _BRACE:
                        old_image = _no_object(old_image)
                if entry.identity is not _ABSENT:
                    identity = bytes(entry.identity)
                    if identity[0] != _BRACE:
                        identity = _no_object(identity)
                changes.append(
                    Change(
                        event_name=event_name,
                        key=key[0],
                        keys=key[1],
                        shard=shard,
                        record=record,
                        images=DYNAMODB_IMAGES,
                        index=index,
                        event_id=entry.event_id or f"{record.place(shard)}:{index}",
                        timestamp_ms=checked_ms(record.timestamp_ms) if body.time is None else read_time(body),
                        version=0 if read_order is None or body.time is None else read_order(body),
                        new_image=new_image,
                        old_image=old_image,
                        identity=identity,
                    )
                )
        except DecodeError as error:
            del changes[kept:]
            undecodable.append(Undecodable(record, error))
        except JSON_ERRORS as error:
            undecodable.append(Undecodable(record, _outer_error(value, error)))
    return Decoded(changes, undecodable, empty)


def _refuse_incomplete(body: Body | None) -> NoReturn:
    if body is None:
        raise DecodeError("no_body", "the record has no `dynamodb` object")
    raise DecodeError("unknown_event_name", "the record has no event name")


def _no_object(raw: bytes) -> bytes | None:
    if raw == b"null":
        return None
    raise DecodeError("wrong_shape", "an image or the user identity is not an object")


def _outer_error(value: bytes, error: Exception) -> DecodeError:
    decoded = decode_error(value, error)
    if decoded.code == "wrong_shape" and decoded.message.endswith(".eventName`"):
        return DecodeError("unknown_event_name", "the event name is not INSERT, MODIFY or REMOVE")
    return decoded
