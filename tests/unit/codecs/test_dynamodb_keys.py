"""Keys: equal keys are equal texts, and no other keys are."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.codecs.dynamodb_keys import read_key
from connector.codecs.key_reader import RAW_REMEMBERED_MAX, KeyReader
from connector.errors import DecodeError


def key_of(keys: Any) -> str:
    return read_key(json.dumps(keys).encode())[0]


def test_a_key_is_json_with_sorted_names_and_type_tags() -> None:
    text, values = read_key(b'{ "sk": {"B": "AQI="}, "pk": {"S": "Zo\\u00eb"} }')

    assert text == '{"pk":{"S":"Zoë"},"sk":{"B":"AQI="}}'
    assert values == {"pk": "Zoë", "sk": b"\x01\x02"}


@pytest.mark.parametrize("text", ["5", "5.0", "5E0", "05", "+5", "0.5E1", "50E-1"])
def test_equal_numbers_are_equal_keys(text: str) -> None:
    assert key_of({"pk": {"N": text}}) == '{"pk":{"N":"5"}}'


@pytest.mark.parametrize("text", ["0", "-0", "0.00", "0E5"])
def test_there_is_one_zero(text: str) -> None:
    assert key_of({"pk": {"N": text}}) == '{"pk":{"N":"0"}}'


def test_a_string_and_a_number_and_a_binary_of_the_same_text_are_different_keys() -> None:
    assert len({key_of({"pk": {tag: "5555"}}) for tag in "SNB"}) == 3


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{}", "no_keys"),
        (b"", "no_keys"),
        (b'{"pk":{"S":""}}', "key_empty"),
        (b'{"pk":{"B":""}}', "key_empty"),
        (b'{"pk":{"NULL":true}}', "wrong_shape"),
        (b'{"pk":{"BOOL":true}}', "wrong_shape"),
        (b'{"pk":{"SS":["a"]}}', "wrong_shape"),
        (b'{"pk":{"M":{}}}', "wrong_shape"),
        (b'{"pk":{"M":"a"}}', "attribute_content"),
        (b'{"pk":null}', "wrong_shape"),
        (b'{"pk":{"S":null}}', "wrong_shape"),
        (b'{"pk":"a"}', "wrong_shape"),
        (b'{"pk":{}}', "attribute_shape"),
        (b'{"pk":{"S":"a","N":"1"}}', "attribute_shape"),
        (b'{"pk":{"X":"a"}}', "attribute_tag"),
        (b'{"pk":{"N":"a"}}', "number_syntax"),
        (b'{"pk":{"B":"a"}}', "base64"),
        (b'{"pk":{"S":"a"},"pk":{"S":"b"}}', "key_duplicate"),
        (b'{"pk":{"S":"a","S":"b"}}', "key_duplicate"),
        (b'{"pk":{"S":"a"},"p\\u006b":{"S":"b"}}', "key_duplicate"),
    ],
)
def test_what_is_no_key_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_key(raw)
    assert caught.value.code == code


def test_escapes_in_a_key_are_no_duplicates() -> None:
    assert key_of({"pk": {"S": 'a"b\\'}}) == '{"pk":{"S":"a\\"b\\\\"}}'


def test_a_key_is_read_once_while_it_is_remembered_and_the_memory_is_bounded() -> None:
    read: list[bytes] = []

    def counting(raw: bytes) -> tuple[str, dict[str, Any]]:
        read.append(raw)
        return raw.decode(), {}

    keys = KeyReader(counting, remembered_max=2)
    for raw in [b"a", b"b", b"c"]:
        keys.read(raw)
        assert keys.remembered[raw] == (raw.decode(), {})
        assert len(keys.remembered) <= 2
    keys.read(b"x" * (RAW_REMEMBERED_MAX + 1))
    assert list(keys.remembered) == [b"c"]


numbers = st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**20), max_value=10**20)
attributes = st.one_of(
    st.text(min_size=1).map(lambda text: {"S": text}),
    numbers.map(lambda number: {"N": str(number)}),
    st.sampled_from([{"B": "AQ=="}, {"B": "AQI="}]),
)
key_objects = st.dictionaries(st.text(), attributes, min_size=1, max_size=2)


@given(key_objects, st.booleans())
def test_a_key_is_the_same_in_any_order_and_with_any_blanks(keys: dict[str, Any], ascii_only: bool) -> None:
    turned = dict(reversed(keys.items()))

    one = json.dumps(keys, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    other = json.dumps(turned, ensure_ascii=not ascii_only, indent=2).encode()
    assert read_key(one) == read_key(other)


@given(key_objects, key_objects)
def test_texts_are_equal_exactly_where_the_keys_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    def meaning(keys: dict[str, Any]) -> Any:
        pairs = [(name, tag, text) for name, attribute in keys.items() for tag, text in attribute.items()]
        return {(name, tag, Decimal(text) if tag == "N" else text) for name, tag, text in pairs}

    assert (key_of(one) == key_of(other)) is (meaning(one) == meaning(other))
