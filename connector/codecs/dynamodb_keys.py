"""The keys of DynamoDB items: raw JSON → canonical text and Python values, remembered for hot keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from connector.attributes import canonical_number, to_value
from connector.codecs.json_reading import JSON_ERRORS, decode_error
from connector.errors import DecodeError

KEYS_REMEMBERED_MAX = 16_384
RAW_REMEMBERED_MAX = 512
"""Bytes: longer keys (DynamoDB allows 3 kB) are read anew each time, so that memory stays bounded by a few MB."""

Key = tuple[str, Mapping[str, Any]]
"""The canonical text of a key, and its attributes as Python values."""

_decode_keys = msgspec.json.Decoder(dict[str, dict[str, str]]).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class KeyReader:
    """Reads ``Keys`` objects; the same bytes are read once as long as they are remembered."""

    def __init__(self, remembered_max: int = KEYS_REMEMBERED_MAX) -> None:
        self.remembered: dict[bytes, Key] = {}
        self._remembered_max = remembered_max

    def read(self, raw: bytes) -> Key:
        """The key in ``raw``. Raises DecodeError. Callers look into ``remembered`` themselves first."""
        if not raw:
            raise DecodeError("no_keys", "the record has no `Keys`")
        key = read_key(raw)
        if len(raw) <= RAW_REMEMBERED_MAX:
            if len(self.remembered) >= self._remembered_max:
                self.remembered.clear()
            self.remembered[raw] = key
        return key


def read_key(raw: bytes) -> Key:
    """The canonical text of a ``Keys`` object (names sorted, type tags kept, numbers normalised), and its values.

    Raises DecodeError: ``no_keys``, ``key_type`` (a key is S, N or B), ``key_empty``, ``key_duplicate``, and those of
    connector.attributes.
    """
    try:
        typed = _decode_keys(raw)
    except JSON_ERRORS as error:
        raise decode_error(raw, error) from None
    if not typed:
        raise DecodeError("no_keys", "the record names no key attribute")
    # Equal names would let two readers see two keys. Without escapes, a key object has six quotation marks an
    # attribute, so that counting them proves that none was dropped.
    if b"\\" in raw or raw.count(b'"') != 6 * len(typed):
        _refuse_duplicates(raw)
    values: dict[str, Any] = {}
    for name, attribute in typed.items():
        if len(attribute) == 1 and (text := attribute.get("S")):
            values[name] = text
        else:
            values[name] = value = to_value(attribute)
            if "N" in attribute:
                attribute["N"] = canonical_number(value)
            elif not value:
                raise DecodeError("key_empty", "a key attribute is empty")
            elif "B" not in attribute:
                raise DecodeError("key_type", "a key attribute is not a string, number or binary")
    return _encode_sorted(typed).decode(), values


def _refuse_duplicates(raw: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise DecodeError("key_duplicate", "the record's key names an attribute twice")
        return names

    json.loads(raw, object_pairs_hook=unique)
