"""Changes → messages."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from connector.change import Change
from connector.documents import Numbers
from connector.sink import Rejected
from sinks.notify.messages import Messages
from sinks.notify.publishers.protocol import Message
from sinks.testing import insert, modify, remove


def made(change: Change, message: str | dict[str, str] | None = None, **more: Any) -> Message | Rejected:
    options: dict[str, Any] = {
        "to": "there",
        "message_id": "{$event_id}",
        "message_type": "{$event_name}",
        "missing": "reject",
        "numbers": Numbers.NUMBER,
        "route": "paid",
        "id_inside": False,
    }
    result = Messages(message, **(options | more)).make(change)
    assert isinstance(result, Message | Rejected)
    return result


def body(change: Change, message: str | dict[str, str] | None = None, **more: Any) -> Any:
    result = made(change, message, **more)
    assert isinstance(result, Message), result
    return json.loads(result.body) if result.content_type == "application/json" else result.body.decode()


def test_without_a_template_the_whole_change_is_told() -> None:
    change = modify("1", {"n": 2}, old={"n": 1}, event_id="e1", timestamp_ms=1_750_000_000_123)
    assert body(change) == {
        "event_name": "MODIFY",
        "key": {"pk": "1"},
        "version": change.version,
        "route": "paid",
        "shard": "contract/0",
        "position": 2,
        "event_id": "e1",
        "time": "2025-06-15T15:06:40.123+00:00",
        "new": {"pk": "1", "n": 2},
        "old": {"pk": "1", "n": 1},
    }


def test_a_message_has_the_changes_key_id_and_name() -> None:
    change = insert("1", event_id="e1")
    result = made(change)
    assert isinstance(result, Message)
    assert (result.id, result.key, result.type, result.to) == ("e1", change.key, "INSERT", "there")


def test_a_text_is_filled_from_the_item() -> None:
    assert body(insert("1", {"total": Decimal("9.90")}), "order {pk}: {total}, {$event_name}") == "order 1: 9.9, INSERT"


def test_a_mapping_becomes_an_object_of_texts() -> None:
    assert body(insert("1", {"total": 5}), {"order": "{pk}", "total": "{total}"}) == {"order": "1", "total": "5"}


def test_a_removal_is_told_from_the_item_as_it_was() -> None:
    assert body(remove("1", old={"name": "Ann"}), "{name} left") == "Ann left"


def test_what_the_item_lacks_rejects_the_change_or_is_null() -> None:
    change, fields = insert("1"), {"note": "{note}"}
    result = made(change, fields)
    assert isinstance(result, Rejected)
    assert result.reason == "attribute_missing"
    assert body(change, fields, missing="null") == {"note": None}


def test_no_image_is_opened_for_the_keys_own_attributes() -> None:
    change = insert("1")
    change.new_image = b"no image at all"
    assert body(change, "order {pk}") == "order 1"


@pytest.mark.parametrize("change", [remove("1"), modify("1", None)])
def test_a_change_without_the_image_that_is_needed_is_rejected(change: Change) -> None:
    change.new_image = None
    result = made(change, "{name}")
    assert isinstance(result, Rejected)
    assert result.reason == "image_missing"


def test_an_id_may_be_the_routes_own() -> None:
    result = made(insert("1", event_id="e1"), message_id="paid:{$event_id}")
    assert isinstance(result, Message)
    assert result.id == "paid:e1"


def test_an_id_stands_inside_where_the_place_has_no_other_room() -> None:
    assert body(insert("1", event_id="e1"), {"a": "{pk}"}, id_inside=True) == {"a": "1", "event_id": "e1"}


def test_half_a_surrogate_pair_is_rejected() -> None:
    change = insert("1")
    change.new_image = b'{"pk":{"S":"1"},"name":{"S":"\\ud800"}}'
    result = made(change, {"name": "{name}"})
    assert isinstance(result, Rejected)


def test_a_number_that_no_type_holds_is_rejected_where_that_is_the_policy() -> None:
    result = made(insert("1", {"n": 10**37 + 1}), numbers=Numbers.REJECT)
    assert isinstance(result, Rejected)
    assert result.reason == "number_not_exact"
