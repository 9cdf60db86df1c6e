"""Records that a producer has aggregated (the Kinesis Producer Library's format), taken apart again.

    F3 89 9A C2 | a protobuf message AggregatedRecord | the MD5 of that message

    message AggregatedRecord { repeated string partition_key_table = 1;
                               repeated string explicit_hash_key_table = 2;
                               repeated Record records = 3; }
    message Record { required uint64 partition_key_index = 1; optional uint64 explicit_hash_key_index = 2;
                     required bytes data = 3; repeated Tag tags = 4; }

(``aggregation-format.md`` of awslabs/amazon-kinesis-producer.) As in the Kinesis Client Library, what has the magic
number but not the checksum is somebody's own record. Unlike there, records of a key that another shard of a resharded
stream would get now are not dropped: their producer may send them again, but nobody can know that it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

from connector.change import Record

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Malformed(Exception):
    """It is no such message."""


def user_records(record: Record) -> list[Record]:
    """The records in a record: itself, or those that were aggregated in it.

    They all have its position, since reading can only go on behind all of them; ``part`` is each one's place.
    """
    value = record.value
    if value is None or not value.startswith(MAGIC) or len(value) < len(MAGIC) + _DIGEST_BYTES:
        return [record]
    message = value[len(MAGIC) : -_DIGEST_BYTES]
    if md5(message, usedforsecurity=False).digest() != value[-_DIGEST_BYTES:]:
        return [record]
    try:
        parts = _parts(message)
    except _Malformed:
        return [record]
    return [
        Record(record.position, data, key, record.timestamp_ms, record.headers, part)
        for part, (key, data) in enumerate(parts)
    ]


def _parts(message: bytes) -> list[tuple[bytes, bytes]]:
    """The partition key and the data of each. Raises _Malformed."""
    keys: list[bytes] = []
    found: list[tuple[int, bytes]] = []
    for field, value in _fields(message):
        if field == 1 and isinstance(value, bytes):
            keys.append(value)
        elif field == 3 and isinstance(value, bytes):
            found.append(_part(value))
    try:
        return [(keys[index], data) for index, data in found]
    except IndexError:
        raise _Malformed from None


def _part(message: bytes) -> tuple[int, bytes]:
    index: int | None = None
    data: bytes | None = None
    for field, value in _fields(message):
        if field == 1 and isinstance(value, int):
            index = value
        elif field == 3 and isinstance(value, bytes):
            data = value
    if index is None or data is None:
        raise _Malformed
    return index, data


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, in order."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield field, number
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _Malformed
        if at + size > end:
            raise _Malformed
        yield field, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        if at >= len(message):
            raise _Malformed
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise _Malformed
