"""The format ``debezium``: change events with and without schema."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connector.change import EventName
from connector.codecs.debezium import DebeziumCodec
from connector.documents import Numbers
from connector.errors import DecodeError, DocumentError
from tests.samples import keyed_sample
from tests.unit.codecs.builders import SHARD, change_of, decode, record, refusal_of

KEY = {"id": 1}


def event(op: Any = "c", *, after: Any = None, before: Any = None, **more: Any) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": {"ts_ms": 1_777_626_000_000}, "ts_ms": 5} | more


def schema_of(*columns: dict[str, Any]) -> dict[str, Any]:
    row = {"type": "struct", "fields": list(columns)}
    return {"type": "struct", "fields": [row | {"field": "before"}, row | {"field": "after"}]}


def decimal_column(field: str, scale: Any) -> dict[str, Any]:
    name = "org.apache.kafka.connect.data.Decimal"
    return {"type": "bytes", "name": name, "parameters": {"scale": scale}, "field": field}


def with_schema(row: dict[str, Any], *columns: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema_of(*columns), "payload": event(after=row)}


def values_of(row: dict[str, Any], *columns: dict[str, Any]) -> Any:
    return change_of(DebeziumCodec(), with_schema(row, *columns), key=KEY).new_values()


def refused_when_read(row: dict[str, Any], *columns: dict[str, Any]) -> str:
    change = change_of(DebeziumCodec(), with_schema(row, *columns), key=KEY)
    with pytest.raises(DecodeError) as caught:
        change.new_values()
    return caught.value.code


def test_a_recorded_row_of_postgresql_lives_through_read_update_and_delete() -> None:
    decoded = decode(DebeziumCodec(), *keyed_sample("debezium_postgresql"))
    read, update, full_update, delete = decoded.changes

    assert [change.event_name for change in decoded.changes] == ["INSERT", "MODIFY", "MODIFY", "REMOVE"]
    assert {change.key for change in decoded.changes} == {'{"id":1001}'}
    assert read.keys == {"id": 1001}
    assert read.timestamp_ms == 1_777_626_000_000
    assert [change.event_id for change in decoded.changes] == [f"{SHARD}:{place}:0" for place in range(4)]
    assert decoded.empty == 1, "the tombstone"
    assert read.old_image is None
    assert update.old_image is None
    assert full_update.old_values() == {
        "id": 1001,
        "customer": "Zoë",
        "total": Decimal("129.95"),
        "weight": Decimal("1E-7"),
        "created_at": 1_777_625_999_000_000,
        "note": None,
    }
    assert delete.new_image is None
    assert delete.old_values() == dict.fromkeys(["customer", "total", "weight", "created_at", "note"]) | {"id": 1001}


def test_a_schema_says_which_texts_are_decimals_and_which_are_binary() -> None:
    create, update, delete = decode(DebeziumCodec(), *keyed_sample("debezium_postgresql_schema")).changes

    assert create.key == '{"id":1001}'
    assert create.new_values() == {
        "id": 1001,
        "customer": "Zoë",
        "total": Decimal("129.95"),
        "measure": Decimal("-3.14159"),
        "thumbnail": b"\x00\xff\x10",
        "prices": [Decimal("0.001"), None, Decimal("-2.5")],
    }
    assert update.new_document(Numbers.STRING) == {
        "id": 1001,
        "customer": "Zoë",
        "total": "12345678901234567890123456.78",
        "measure": -3.14159,
        "thumbnail": "AP8Q",
        "prices": [0.001, None, -2.5],
    }
    assert delete.old_values() == update.new_values()


def test_a_recorded_row_of_mysql_keeps_its_unsigned_bigint_and_its_composite_key() -> None:
    create, _update, delete = decode(DebeziumCodec(), *keyed_sample("debezium_mysql")).changes

    assert create.key == '{"id":7,"tenant":"acme"}'
    assert create.new_values() == {"tenant": "acme", "id": 7, "total": "129.95", "active": 1, "big": 2**64 - 1}
    document = create.new_document(Numbers.NUMBER)
    assert document is not None
    assert document["big"] == Decimal(2**64 - 1)
    assert delete.event_name is EventName.REMOVE


def test_keys_with_and_without_schema_are_the_same_keys() -> None:
    plain = decode(DebeziumCodec(), *keyed_sample("debezium_mysql")).changes
    explained = decode(DebeziumCodec(), *keyed_sample("debezium_mysql_schema")).changes

    assert {change.key for change in plain + explained} == {'{"id":7,"tenant":"acme"}'}


def test_what_carries_no_change_of_a_row_is_empty() -> None:
    records = keyed_sample("debezium_without_changes")
    decoded = decode(DebeziumCodec(), *records)

    assert decoded.empty == len(records) == 8
    assert decode(DebeziumCodec(), record(b"null"), record(None)).empty == 2


def test_filters_see_the_plain_row_and_the_payload_with_the_event_name() -> None:
    create, *_ = decode(DebeziumCodec(), *keyed_sample("debezium_postgresql_schema")).changes
    assert create.new_image is not None

    row = create.images.matchable(create.new_image)
    assert row["total"] == Decimal("129.95")
    assert row["thumbnail"] == "AP8Q"
    envelope = create.images.envelope(create.record, 0)
    assert envelope["eventName"] == "INSERT"
    assert envelope["op"] == "c"
    assert envelope["after"] == row
    assert envelope["source"]["table"] == "orders"


def test_an_envelope_without_schema_is_the_payload_itself() -> None:
    change = change_of(DebeziumCodec(), event("d", before={"id": 1}), key=KEY)

    assert change.images.envelope(change.record, 0) == event("d", before={"id": 1}) | {"eventName": "REMOVE"}


def test_numbers_are_exact_whatever_json_they_came_as() -> None:
    value = b'{"op":"c","after":{"a":12345678901234567890123,"b":0.12345678901234567890,"c":1.50,"d":1e2}}'
    change = change_of(DebeziumCodec(), value, key=KEY)

    assert change.new_values() == {
        "a": 12345678901234567890123,
        "b": Decimal("0.12345678901234567890"),
        "c": Decimal("1.50"),
        "d": Decimal("1E+2"),
    }
    assert change.new_document(Numbers.STRING) == {
        "a": "12345678901234567890123",
        "b": "0.12345678901234567890",
        "c": 1.5,
        "d": 100.0,
    }
    with pytest.raises(DocumentError) as caught:
        change.new_document(Numbers.REJECT)
    assert caught.value.code == "number_not_exact"


def test_a_value_that_the_database_did_not_log_never_becomes_a_document() -> None:
    row = {"id": 1, "body": "__debezium_unavailable_value"}
    change = change_of(DebeziumCodec(), event("u", after=row), key=KEY)

    with pytest.raises(DocumentError) as caught:
        change.new_document(Numbers.NUMBER)
    assert caught.value.code == "value_unavailable"


def test_the_time_is_the_databases_then_debeziums_then_the_records() -> None:
    codec = DebeziumCodec()
    assert change_of(codec, event(after={}), key=KEY).timestamp_ms == 1_777_626_000_000
    assert change_of(codec, event(after={}, source={}), key=KEY).timestamp_ms == 5
    assert change_of(codec, event(after={}, source=None, ts_ms=None), key=KEY, timestamp_ms=9).timestamp_ms == 9


@pytest.mark.parametrize("key", [b'{"id":1}', b'{"id":1.0}', b'{ "id": 10e-1 }', b'{"schema":null,"payload":{"id":1}}'])
def test_equal_keys_are_equal_texts(key: Any) -> None:
    assert change_of(DebeziumCodec(), event(after={}), key=key).key == '{"id":1}'


def test_a_decimal_key_is_a_number_and_a_binary_key_is_bytes() -> None:
    columns = [decimal_column("n", "2"), {"type": "bytes", "field": "b"}]
    key = {"schema": {"type": "struct", "fields": columns}, "payload": {"n": "AfQ=", "b": "AQI="}}
    change = change_of(DebeziumCodec(), event(after={}), key=key)

    assert change.key == '{"b":"AQI=","n":5}'
    assert change.keys == {"n": Decimal(5), "b": b"\x01\x02"}


def test_a_table_may_have_columns_named_schema_and_payload() -> None:
    key = {"schema": "public", "payload": "x"}
    assert change_of(DebeziumCodec(), event(after={}), key=key).keys == key


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "no_key"),
        (b"", "no_key"),
        ({}, "no_key"),
        ({"schema": None, "payload": {}}, "no_key"),
        ({"id": None}, "key_empty"),
        ({"id": [1]}, "key_type"),
        ({"id": {}}, "key_type"),
        (b'{"id":1,"id":2}', "key_duplicate"),
        ({"schema": {"type": "int32"}, "payload": 5}, "not_an_object"),
        ({"schema": None, "payload": None}, "not_an_object"),
        ({"schema": {"type": 5}, "payload": {"id": 1}}, "wrong_shape"),
        (5, "not_an_object"),
        (b"plain text", "not_json"),
        (b"\xff", "not_utf8"),
        (b'{"id":1e999}', "number_range"),
    ],
)
def test_a_record_without_a_usable_key_is_undecodable(key: Any, code: str) -> None:
    assert refusal_of(DebeziumCodec(), event(after={"id": 1}), key=key) == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (event("x", after={}), "unknown_event_name"),
        (event("", after={}), "unknown_event_name"),
        ({"id": 1, "customer": "flattened"}, "no_envelope"),
        ({}, "no_envelope"),
        ({"schema": None, "payload": {"id": 1}}, "no_envelope"),
        ({"payload": 5}, "wrong_shape"),
        (event("c"), "no_image"),
        (event("u", before={}), "no_image"),
        (event("c", after="{}"), "wrong_shape"),
        (event("d", before=[]), "wrong_shape"),
        (event(5), "wrong_shape"),
        (event(after={}, source={"ts_ms": "now"}), "wrong_shape"),
        (event(after={}, source={"ts_ms": 1_777_626_000_000_000}), "time_out_of_range"),
        (event(after={}, source={"ts_ms": -1}), "time_out_of_range"),
        ({"schema": 5, "payload": event(after={})}, "wrong_shape"),
        ({"schema": schema_of(decimal_column("n", "two")), "payload": event(after={})}, "wrong_shape"),
        ([], "wrong_shape"),
        (b"", "not_json"),
        (b"\x00\x00\x00\x00\x01avro", "not_json"),
    ],
)
def test_what_is_no_change_event_is_refused_with_a_stable_code(value: Any, code: str) -> None:
    assert refusal_of(DebeziumCodec(), value, key=KEY) == code


@pytest.mark.parametrize(
    ("text", "scale", "number"),
    [("AA==", "0", "0"), ("gA==", "0", "-128"), ("AQ==", "400", "1E-400"), ("Cg==", "-3", "10E3"), ("", "2", "0.00")],
)
def test_a_decimal_is_a_big_endian_integer_with_the_schemas_scale(text: str, scale: str, number: str) -> None:
    assert values_of({"n": text}, decimal_column("n", scale)) == {"n": Decimal(number)}


def test_a_column_that_is_null_stays_null_whatever_its_schema() -> None:
    columns = [
        decimal_column("n", "2"),
        {"type": "bytes", "field": "b"},
        {"type": "struct", "field": "s", "fields": []},
    ]
    assert values_of({"n": None, "b": None, "s": None}, *columns) == {"n": None, "b": None, "s": None}


def test_maps_and_structs_inside_a_row_are_converted_too() -> None:
    binary = {"type": "bytes"}
    columns: list[dict[str, Any]] = [
        {"type": "map", "keys": {"type": "string"}, "values": binary, "field": "m"},
        {"type": "struct", "fields": [binary | {"field": "b"}], "field": "s"},
    ]
    assert values_of({"m": {"x": "AQ==", "y": None}, "s": {"b": "Ag=="}}, *columns) == {
        "m": {"x": b"\x01", "y": None},
        "s": {"b": b"\x02"},
    }


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        ({"n": 5}, decimal_column("n", "2"), "wrong_shape"),
        ({"n": "no base64"}, decimal_column("n", "2"), "base64"),
        ({"n": "AAAA" * 100}, decimal_column("n", "2"), "number_digits"),
        ({"n": "AQ=="}, decimal_column("n", "999"), "number_digits"),
        ({"n": {"value": "AQ=="}}, {"name": "io.debezium.data.VariableScaleDecimal", "field": "n"}, "wrong_shape"),
        ({"n": 5}, {"type": "array", "items": {"type": "bytes"}, "field": "n"}, "wrong_shape"),
        ({"n": 5}, {"type": "struct", "fields": [{"type": "bytes", "field": "b"}], "field": "n"}, "wrong_shape"),
    ],
)
def test_a_value_that_does_not_fit_its_schema_is_found_when_the_image_is_read(
    row: dict[str, Any], column: dict[str, Any], code: str
) -> None:
    assert refused_when_read(row, column) == code


def test_a_schema_nested_without_end_is_refused() -> None:
    column: dict[str, Any] = {"type": "bytes"}
    for _ in range(40):
        column = {"type": "array", "items": column}
    value = with_schema({}, column | {"field": "n"})
    assert refusal_of(DebeziumCodec(), value, key=KEY) == "nested_too_deep"


def test_a_row_nested_without_end_never_becomes_a_document() -> None:
    nested: Any = "x"
    for _ in range(100):
        nested = [nested]
    change = change_of(DebeziumCodec(), event(after={"n": nested}), key=KEY)
    with pytest.raises(DecodeError) as caught:
        change.new_document(Numbers.NUMBER)
    assert caught.value.code == "nested_too_deep"
