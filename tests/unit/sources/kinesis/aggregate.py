"""Aggregating records as the Kinesis Producer Library does."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5

from connector.sources.kinesis.aggregation import MAGIC


def aggregate(told: Sequence[tuple[str, bytes]]) -> bytes:
    """One record out of partition keys and data."""
    return sealed(message(told))


def sealed(body: bytes) -> bytes:
    """A message between the magic number and its checksum."""
    return MAGIC + body + md5(body).digest()


def message(told: Sequence[tuple[str, bytes]]) -> bytes:
    """The protobuf message, with each key once in its table."""
    keys = list(dict.fromkeys(key for key, _ in told))
    table = b"".join(field(1, key.encode()) for key in keys)
    return table + b"".join(field(3, field(1, keys.index(key)) + field(3, data)) for key, data in told)


def field(number: int, value: int | bytes) -> bytes:
    """One field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number in protobuf's writing."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
