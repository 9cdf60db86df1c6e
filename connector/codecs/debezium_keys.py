"""The keys of Debezium's records (the Kafka record's own key) → canonical text and Python values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from connector.attributes import canonical_number
from connector.codecs.connect_schema import converter, read_schema
from connector.codecs.json_reading import JSON_ERRORS, check_utf8, decode_error, read_exact_object, refuse_duplicates
from connector.codecs.key_reader import Key
from connector.errors import DecodeError

_encode_sorted = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


class _Wrapped(msgspec.Struct, gc=False):
    schema: msgspec.Raw
    payload: msgspec.Raw


_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode


def read_key(raw: bytes) -> Key:
    """A key with schema (``{"schema": …, "payload": {…}}``) or without. Equal numbers give equal text.

    Raises DecodeError: ``no_key``, ``key_type`` (a column that is no scalar), ``key_empty`` (null),
    ``key_duplicate``, and those of connector.codecs.json_reading.
    """
    check_utf8(raw)
    columns = read_exact_object(raw)
    refuse_duplicates(raw)
    if columns.keys() == {"schema", "payload"} and isinstance(columns["schema"], dict | None):
        columns = _explained(raw)
    if not columns:
        raise DecodeError("no_key", "the record's key names no column")
    canonical: dict[str, Any] = {}
    for name, value in columns.items():
        if value is None:
            raise DecodeError("key_empty", "a key column is null")
        if isinstance(value, dict | list):
            raise DecodeError("key_type", "a key column is not a scalar")
        canonical[name] = Decimal(canonical_number(value)) if type(value) is Decimal else value
    return _encode_sorted(canonical).decode(), columns


def _explained(raw: bytes) -> dict[str, Any]:
    try:
        wrapped = _decode_wrapped(raw)
        convert = converter(read_schema(bytes(wrapped.schema)), binary=True)
    except JSON_ERRORS as error:
        raise decode_error(raw, error) from None
    columns = read_exact_object(bytes(wrapped.payload))
    if convert is not None:
        convert(columns)
    return columns
