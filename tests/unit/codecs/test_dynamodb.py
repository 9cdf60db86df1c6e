"""The format ``dynamodb``: stream records, bare and in Lambda's event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connector.change import EventName
from connector.codecs.dynamodb import DynamoDBCodec
from connector.documents import Numbers
from connector.errors import DecodeError
from tests.samples import sample
from tests.unit.codecs.builders import SHARD, change_of, decode, record, refusal_of, stream_record

VIEWS = ["keys_only", "new_image", "old_image", "new_and_old_images"]


@pytest.mark.parametrize("view", VIEWS)
def test_the_recorded_life_of_an_item_is_an_insert_a_modify_and_a_remove_of_one_key(view: str) -> None:
    decoded = decode(DynamoDBCodec(), *sample(f"dynamodb_{view}"))

    assert [change.event_name for change in decoded.changes] == ["INSERT", "MODIFY", "REMOVE"]
    assert {change.key for change in decoded.changes} == {'{"pk":{"S":"CUSTOMER#42"},"sk":{"N":"7"}}'}
    assert all(change.keys == {"pk": "CUSTOMER#42", "sk": 7} for change in decoded.changes)
    assert all(change.timestamp_ms > 1_700_000_000_000 for change in decoded.changes)
    assert len({change.event_id for change in decoded.changes}) == 3


@pytest.mark.parametrize(
    ("view", "new", "old"),
    [
        ("keys_only", [False, False, False], [False, False, False]),
        ("new_image", [True, True, False], [False, False, False]),
        ("old_image", [False, False, False], [False, True, True]),
        ("new_and_old_images", [True, True, False], [False, True, True]),
    ],
)
def test_a_view_type_gives_the_images_that_it_has(view: str, new: list[bool], old: list[bool]) -> None:
    changes = decode(DynamoDBCodec(), *sample(f"dynamodb_{view}")).changes

    assert [change.new_image is not None for change in changes] == new
    assert [change.old_image is not None for change in changes] == old
    assert [change.new_values() is not None for change in changes] == new
    assert [change.old_document(Numbers.NUMBER) is not None for change in changes] == old


def test_a_recorded_image_has_every_type_of_attribute_exactly() -> None:
    insert, modify, _remove = decode(DynamoDBCodec(), *sample("dynamodb_new_and_old_images")).changes

    assert insert.new_values() == {
        "pk": "CUSTOMER#42",
        "sk": 7,
        "name": "Zoë Ødegård 🛠",
        "note": "",
        "total": Decimal("12345678901234567890.123456789012345678"),
        "huge": 99 * 10**124,
        "tiny": Decimal("-1E-130"),
        "thumbnail": b"\x00\xff\x10",
        "active": True,
        "deleted": None,
        "address": {"city": "Graz", "geo": [Decimal("47.07"), Decimal("15.44")]},
        "lines": [{"sku": "A-1", "quantity": 2}, [], {}],
        "tags": frozenset({"new", "gift"}),
        "sizes": frozenset({10, Decimal("9.5"), -1}),
        "blobs": frozenset({b"\x02", b"\x01\x02"}),
    }
    assert modify.old_values() == insert.new_values()
    document = modify.new_document(Numbers.STRING)
    assert document is not None
    assert document["total"] == "12345678901234567890.123456789012345678"
    assert document["sizes"] == [-1, 9.5, 10]
    assert document["active"] is False
    assert "note" not in document


def test_filters_see_an_image_with_its_type_tags_and_an_envelope_whole() -> None:
    value = stream_record("INSERT", new={"pk": {"S": "CUSTOMER#42"}, "n": {"N": "5.0"}}, more={"awsRegion": "eu"})
    change = change_of(DynamoDBCodec(), value)

    assert change.new_image is not None
    assert change.images.matchable(change.new_image) == {"pk": {"S": "CUSTOMER#42"}, "n": {"N": "5.0"}}
    assert change.images.envelope(change.record, 0) == value


def test_a_lambda_event_carries_many_changes_each_with_its_place() -> None:
    (event,) = sample("dynamodb_lambda_event")
    changes = decode(DynamoDBCodec(), event).changes

    assert [(change.index, change.event_name) for change in changes] == [
        (0, EventName.INSERT),
        (1, EventName.MODIFY),
        (2, EventName.INSERT),
        (3, EventName.REMOVE),
    ]
    assert all(change.record is event for change in changes)
    assert [change.images.envelope(event, change.index)["eventID"][-1] for change in changes] == ["1", "1", "2", "1"]
    assert [change.timestamp_ms for change in changes] == [1_777_626_000_000 + second * 1000 for second in range(4)]


def test_one_bad_record_of_an_event_makes_the_event_undecodable_as_a_whole() -> None:
    event = {"Records": [stream_record(), stream_record(keys={}), stream_record()]}
    assert refusal_of(DynamoDBCodec(), event) == "no_keys"


def test_an_event_without_records_and_a_tombstone_are_empty() -> None:
    assert decode(DynamoDBCodec(), record({"Records": []}), record(None)).empty == 2


def test_a_ttl_delete_says_who_did_it() -> None:
    (change,) = decode(DynamoDBCodec(), *sample("dynamodb_ttl_delete")).changes

    assert change.event_name is EventName.REMOVE
    assert change.identity == b'{"type":"Service","principalId":"dynamodb.amazonaws.com"}'


def test_a_change_that_a_user_made_has_no_identity() -> None:
    assert change_of(DynamoDBCodec(), stream_record()).identity is None
    assert change_of(DynamoDBCodec(), stream_record(more={"userIdentity": None})).identity is None


def test_the_command_lines_output_is_read_with_its_iso_times() -> None:
    (change,) = decode(DynamoDBCodec(), *sample("dynamodb_aws_cli")).changes

    assert change.timestamp_ms == 1_777_626_000_000


def test_the_sources_event_id_is_kept_and_one_is_made_of_the_place_where_there_is_none() -> None:
    with_id = change_of(DynamoDBCodec(), stream_record(more={"eventID": "abc"}))
    event = {"Records": [stream_record(), stream_record(more={"eventID": ""})]}
    without = decode(DynamoDBCodec(), record(event, position=12)).changes

    assert with_id.event_id == "abc"
    assert [change.event_id for change in without] == [f"{SHARD}:12:0", f"{SHARD}:12:1"]


def test_the_records_own_time_counts_where_the_change_has_none() -> None:
    assert change_of(DynamoDBCodec(), stream_record(time=None), timestamp_ms=99).timestamp_ms == 99
    assert change_of(DynamoDBCodec(), stream_record(time=5), timestamp_ms=99).timestamp_ms == 5000


def test_the_same_records_give_the_same_changes_at_every_replay() -> None:
    records = [*sample("dynamodb_new_and_old_images"), *sample("dynamodb_lambda_event")]
    codec = DynamoDBCodec()

    assert codec.decode(SHARD, records) == codec.decode(SHARD, records) == DynamoDBCodec().decode(SHARD, records)


def test_changes_keep_the_order_of_their_records_around_bad_ones() -> None:
    records = [record(stream_record(), position=1), record(b"{", position=2), record(stream_record(), position=3)]
    decoded = decode(DynamoDBCodec(), *records)

    assert [change.position for change in decoded.changes] == [1, 3]
    assert [undecodable.record.position for undecodable in decoded.undecodable] == [2]


@pytest.mark.parametrize("image", [None, {}])
def test_a_modify_before_any_insert_and_a_remove_without_an_old_image_are_changes_like_others(image: Any) -> None:
    assert change_of(DynamoDBCodec(), stream_record("MODIFY", new=image)).event_name is EventName.MODIFY
    assert change_of(DynamoDBCodec(), stream_record("REMOVE", old=image)).event_name is EventName.REMOVE


def test_an_image_that_is_null_is_no_image() -> None:
    value = {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": "a"}}, "NewImage": None, "OldImage": None}}
    change = change_of(DynamoDBCodec(), value)
    assert change.new_image is change.old_image is None


def test_a_bad_attribute_is_found_when_the_image_is_read() -> None:
    change = change_of(DynamoDBCodec(), stream_record("INSERT", new={"a": {"N": "five"}}))

    with pytest.raises(DecodeError) as caught:
        change.new_values()
    assert caught.value.code == "number_syntax"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "no_body"),
        ({"eventName": "INSERT"}, "no_body"),
        (stream_record(None), "unknown_event_name"),
        (stream_record("UPSERT"), "unknown_event_name"),
        (stream_record("insert"), "unknown_event_name"),
        ({"eventName": 5, "dynamodb": {}}, "unknown_event_name"),
        ({"Records": [stream_record("UPSERT")]}, "unknown_event_name"),
        (stream_record("INSERT", keys=None), "no_keys"),
        (stream_record(keys={}), "no_keys"),
        ({"eventName": "INSERT", "dynamodb": {"Keys": None}}, "wrong_shape"),
        (stream_record(keys=[]), "wrong_shape"),
        (stream_record(keys="pk"), "wrong_shape"),
        (stream_record(new=[]), "wrong_shape"),
        (stream_record(old="x"), "wrong_shape"),
        (stream_record(more={"userIdentity": "me"}), "wrong_shape"),
        (stream_record(more={"eventID": 5}), "wrong_shape"),
        ({"eventName": "INSERT", "dynamodb": []}, "wrong_shape"),
        ({"Records": {}}, "wrong_shape"),
        ({"Records": [5]}, "wrong_shape"),
        (stream_record(time=True), "wrong_shape"),
        (stream_record(time={}), "wrong_shape"),
        (stream_record(time="yesterday"), "bad_time"),
        (stream_record(time=-1), "time_out_of_range"),
        (stream_record(time=1_777_626_000_123), "time_out_of_range"),
        ([], "wrong_shape"),
        (5, "wrong_shape"),
        (b"null", "wrong_shape"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{}{}", "not_json"),
    ],
)
def test_what_is_no_stream_record_is_refused_with_a_stable_code(value: Any, code: str) -> None:
    assert refusal_of(DynamoDBCodec(), value) == code
