"""The keys of DynamoDB items: raw JSON → canonical text and Python values."""

from __future__ import annotations

from typing import Any

import msgspec

from connector.attributes import canonical_number, to_value
from connector.codecs.json_reading import JSON_ERRORS, decode_error, refuse_duplicates
from connector.codecs.key_reader import Key
from connector.errors import DecodeError

_decode_keys = msgspec.json.Decoder(dict[str, dict[str, str]]).decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def read_key(raw: bytes) -> Key:
    """The canonical text of a ``Keys`` object (names sorted, type tags kept, numbers normalised), and its values.

    Raises DecodeError: ``no_keys``, ``key_type`` (a key is S, N or B), ``key_empty``, ``key_duplicate``, and those of
    connector.attributes.
    """
    if not raw:
        raise DecodeError("no_keys", "the record has no `Keys`")
    try:
        typed = _decode_keys(raw)
    except JSON_ERRORS as error:
        raise decode_error(raw, error) from None
    if not typed:
        raise DecodeError("no_keys", "the record names no key attribute")
    # Equal names would let two readers see two keys. Without escapes, a key object has six quotation marks an
    # attribute, so that counting them proves that none was dropped.
    if b"\\" in raw or raw.count(b'"') != 6 * len(typed):
        refuse_duplicates(raw)
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
