"""Hostile records: none may crash a codec or go unaccounted, at the door or when an image is read later."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.change import Change, Record
from connector.codecs.debezium import DebeziumCodec
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.kinesis_dynamodb import KinesisDynamoDBCodec
from connector.codecs.protocol import Codec
from connector.documents import Numbers, encode_document
from connector.errors import DecodeError, DocumentError
from tests.unit.codecs.builders import decode, stream_record

CODECS: list[Callable[[], Codec]] = [DynamoDBCodec, KinesisDynamoDBCodec, DebeziumCodec]


def read_everything(change: Change) -> None:
    """What filters, templates and sinks do with a change; only the two errors of delivery may come out."""
    images = [image for image in (change.new_image, change.old_image) if image is not None]
    for image in images:
        for read in (
            change.images.matchable,
            change.images.values,
            lambda image: encode_document(change.images.document(image, Numbers.NUMBER)),
            lambda image: encode_document(change.images.document(image, Numbers.STRING)),
            lambda image: change.images.document(image, Numbers.REJECT),
        ):
            with suppress(DecodeError, DocumentError):
                read(image)
    with suppress(DecodeError):
        change.images.envelope(change.record, change.index)


def fate(codec: Codec, value: bytes, key: bytes | None = b'{"id":1}') -> str:
    """The code with which a record is refused at the door or when its new image is read; "" where it is taken."""
    decoded = decode(codec, Record(1, value, key))
    for undecodable in decoded.undecodable:
        return undecodable.error.code
    for change in decoded.changes:
        read_everything(change)
        try:
            change.new_document(Numbers.STRING)
        except (DecodeError, DocumentError) as error:
            return error.code
    return ""


def in_dynamodb(attribute: bytes) -> bytes:
    return b'{"eventName":"INSERT","dynamodb":{"Keys":{"pk":{"S":"a"}},"NewImage":{"a":' + attribute + b"}}}"


def in_debezium(value: bytes) -> bytes:
    return b'{"op":"c","after":{"a":' + value + b"}}"


def in_both(dynamodb: bytes, debezium: bytes) -> list[tuple[Codec, bytes]]:
    return [
        (DynamoDBCodec(), in_dynamodb(dynamodb)),
        (KinesisDynamoDBCodec(), in_dynamodb(dynamodb)),
        (DebeziumCodec(), in_debezium(debezium)),
    ]


def fates(dynamodb: bytes, debezium: bytes) -> set[str]:
    return {fate(codec, value) for codec, value in in_both(dynamodb, debezium)}


def test_json_nested_a_hundred_thousand_deep_is_refused() -> None:
    bomb = b"[" * 100_000 + b"]" * 100_000

    assert fates(bomb, bomb) == {"nested_too_deep"}
    for codec in CODECS:
        assert fate(codec(), bomb) in {"wrong_shape", "nested_too_deep"}
        assert fate(codec(), b"[" * 100_000) in {"wrong_shape", "nested_too_deep", "not_json"}
        assert fate(codec(), b'{"x":' * 100_000) == "nested_too_deep"


@pytest.mark.parametrize("levels", [33, 100, 400, 2000])
def test_attribute_values_nested_too_deep_are_refused(levels: int) -> None:
    nested = b'{"L":[' * levels + b'{"S":"x"}' + b"]}" * levels
    assert fate(DynamoDBCodec(), in_dynamodb(nested)) == "nested_too_deep"


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    digits = b"9" * 5000
    assert fate(DynamoDBCodec(), in_dynamodb(b'{"N":"' + digits + b'"}')) == "number_syntax"
    assert fate(DynamoDBCodec(), in_dynamodb(b'{"N":' + digits + b"}")) == "number_range"
    assert fate(DebeziumCodec(), in_debezium(digits)) == "number_range"
    time = b'{"eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":' + digits + b',"Keys":{"a":{"S":"x"}}}}'
    assert fate(DynamoDBCodec(), time) == "number_range"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1e99999999999999999999"])
def test_a_number_that_overflows_a_double_never_becomes_infinity(number: bytes) -> None:
    if number == b"-1e400":
        assert fate(DebeziumCodec(), in_debezium(number)) == "", "as a decimal it is still exact"
    assert fate(DynamoDBCodec(), in_dynamodb(b'{"N":"' + number + b'"}')) in {"number_range", "number_syntax"}
    assert fate(DynamoDBCodec(), in_dynamodb(number)) in {"number_range", "attribute_shape"}


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_and_infinity_are_no_json(word: bytes) -> None:
    assert fates(word, word) == {"not_json"}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_anything_but_utf8_without_a_byte_order_mark_is_refused(codec: Callable[[], Codec], encoding: str) -> None:
    value = json.dumps(stream_record(new={"a": {"S": "ö"}}), ensure_ascii=False).encode(encoding)
    assert fate(codec(), value) in {"not_utf8", "not_json"}


def test_bytes_that_are_no_utf8_are_refused_also_inside_an_image() -> None:
    assert fates(b'{"S":"\xff"}', b'"\xff"') == {"not_utf8"}
    assert fates(b'{"S":"\xed\xa0\x80"}', b'"\xed\xa0\x80"') == {"not_utf8"}, "a surrogate written as UTF-8"


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00", rb"\udc00\ud800", rb"\ud800x", rb"\ud800\u0041"])
def test_a_lone_surrogate_is_refused(escape: bytes) -> None:
    assert fates(b'{"S":"' + escape + b'"}', b'"' + escape + b'"') == {"not_json"}


def test_the_nul_character_is_kept() -> None:
    for codec, value in in_both(rb'{"S":"a\u0000b"}', rb'"a\u0000b"'):
        (change,) = decode(codec, Record(1, value, b'{"id":1}')).changes
        assert change.new_values() == {"a": "a\x00b"}


def test_where_a_name_stands_twice_every_reader_sees_the_last() -> None:
    value = in_dynamodb(b'{"S":"first"},"a":{"S":"last"}')
    (change,) = decode(DynamoDBCodec(), Record(1, value)).changes
    assert change.new_image is not None

    assert change.new_values() == change.new_document(Numbers.NUMBER) == {"a": "last"}
    assert change.images.matchable(change.new_image) == {"a": {"S": "last"}}
    assert change.images.envelope(change.record, 0)["dynamodb"]["NewImage"] == {"a": {"S": "last"}}


@pytest.mark.parametrize(
    "text", ["a\r\nb", "\x1b[31mred", "\u202etxt", "*?[]", "{}", "'; DROP TABLE x", "x" * 1_000_000]
)
def test_any_text_is_a_key_and_a_value(text: str) -> None:
    value = json.dumps(stream_record("INSERT", keys={"pk": {"S": text}}, new={"pk": {"S": text}})).encode()
    (change,) = decode(DynamoDBCodec(), Record(1, value)).changes

    assert change.keys == {"pk": text}
    assert json.loads(change.key) == {"pk": {"S": text}}
    assert change.new_document(Numbers.REJECT) == {"pk": text}


@pytest.mark.parametrize("codec", CODECS)
def test_no_message_of_an_error_repeats_what_is_in_the_record(codec: Callable[[], Codec]) -> None:
    for value in [
        {"eventName": "secret", "dynamodb": {"Keys": {"pk": {"S": "secret"}}}, "op": "secret"},
        {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"N": "secret"}}}, "op": "c", "after": "secret"},
        {"eventName": "INSERT", "dynamodb": "secret", "op": ["secret"]},
    ]:
        decoded = decode(codec(), Record(1, json.dumps(value).encode(), b'{"id":"secret"}'))
        assert len(decoded.undecodable) == 1
        assert "secret" not in str(decoded.undecodable[0].error)


pieces = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"1e999", b"-", b"\\ud800", b"\xff", b"\x00", b"S", b"N", b"op"]
)
valid = [
    json.dumps(stream_record("INSERT", new={"a": {"N": "1"}}, old={"b": {"SS": ["x"]}})).encode(),
    json.dumps({"Records": [stream_record(), stream_record("REMOVE", old={"m": {"M": {"l": {"L": []}}}})]}).encode(),
    b'{"schema":{"fields":[{"field":"after","type":"struct","fields":[{"type":"bytes","field":"b"}]}]},'
    b'"payload":{"op":"c","after":{"id":1,"b":"AQ==","n":1.5}}}',
    b'{"op":"u","before":{"id":1},"after":{"id":2,"big":123456789012345678901},"source":{"ts_ms":1}}',
]


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    value = draw(st.sampled_from(valid))
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, min(len(value), start + 12)))
    return value[:start] + draw(st.binary(max_size=3) | pieces) + value[end:]


@pytest.mark.parametrize("codec", CODECS)
@given(value=st.one_of(mutilated(), st.binary(), st.lists(pieces).map(b"".join)), key=st.none() | st.binary(max_size=9))
@example(value=valid[0], key=None)
@example(value=valid[2], key=b'{"id":1}')
def test_no_bytes_whatever_raise_or_go_unaccounted(codec: Callable[[], Codec], value: bytes, key: bytes | None) -> None:
    instance: Any = codec()
    for record_key in (key, b'{"id":1}'):
        for change in decode(instance, Record(1, value, record_key)).changes:
            read_everything(change)
