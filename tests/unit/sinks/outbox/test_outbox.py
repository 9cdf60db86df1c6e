"""Outbox items → messages, and what a user may write for ``type: outbox``."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from connector.change import Change
from connector.config.load import load_text
from connector.config.problems import ConfigErrors
from connector.sink import Outcome, Rejected, Stale
from sinks.notify.publishers.protocol import Message
from sinks.outbox import OutboxSink
from sinks.outbox.config import OutboxSinkConfig
from sinks.outbox.messages import OutboxMessages
from sinks.testing import insert, modify, remove

KAFKA = {"brokers": ["localhost:9092"]}
BASE: dict[str, Any] = {"kafka": KAFKA, "destinations": {"orders": "shop.orders"}, "key": "{pk}"}
ITEM = {"destination": "orders", "type": "OrderPaid", "payload": {"total": Decimal("9.90"), "tags": ["a"]}}


def made(change: Change, **options: Any) -> Message | Outcome:
    return OutboxMessages(OutboxSinkConfig.model_validate(BASE | options)).make(change)


def message(change: Change, **options: Any) -> Message:
    result = made(change, **options)
    assert isinstance(result, Message), result
    return result


def reason(change: Change, **options: Any) -> str:
    result = made(change, **options)
    assert isinstance(result, Rejected), result
    return result.reason


# Items


def test_an_item_becomes_a_message() -> None:
    one = message(insert("order-1", ITEM, event_id="e1"))
    assert (one.id, one.key, one.to, one.type) == ("e1", "order-1", "shop.orders", "OrderPaid")
    assert json.loads(one.body) == {"total": 9.9, "tags": ["a"]}


def test_a_payload_that_is_text_is_sent_as_it_is() -> None:
    text = '{ "total": 9.90, "n": 12345678901234567890123 }'
    assert message(insert("1", {**ITEM, "payload": text})).body == text.encode()


def test_a_payload_that_is_a_map_keeps_each_digit() -> None:
    one = message(insert("1", {**ITEM, "payload": {"n": 10**37 + 1}}))
    assert one.body == b'{"n":10000000000000000000000000000000000001}'


def test_headers_come_from_attributes_where_the_item_has_them() -> None:
    item = {**ITEM, "tenant": "t1", "try": 2, "live": True}
    headers = {"tenant": "tenant", "attempt": "try", "live": "live", "trace": "trace_id"}
    assert message(insert("1", item), headers=headers).headers == (("tenant", "t1"), ("attempt", "2"), ("live", "true"))


def test_attributes_may_have_other_names() -> None:
    item = {"topic": "orders", "event": "Paid", "data": {"a": 1}, "message_id": "m1", "order": "o1"}
    names = {"destination": "topic", "event_type": "event", "payload": "data", "id": "{message_id}", "key": "{order}"}
    one = message(insert("1", item), **names)
    assert (one.id, one.key, one.type, one.body) == ("m1", "o1", "Paid", b'{"a":1}')


def test_an_item_without_a_destination_goes_to_the_default() -> None:
    item = {name: value for name, value in ITEM.items() if name != "destination"}
    assert message(insert("1", item), default="orders").to == "shop.orders"
    assert reason(insert("1", item)) == "destination_missing"


@pytest.mark.parametrize("said", ["shop.orders", "other", 5, None, {"a": "b"}])
def test_only_a_destination_of_the_list_is_written_to(said: Any) -> None:
    result = reason(insert("1", {**ITEM, "destination": said}))
    assert result == ("destination_missing" if said is None else "destination_unknown")


@pytest.mark.parametrize("change", [modify("1", ITEM, old=ITEM), remove("1", old=ITEM)])
def test_only_an_insert_is_published(change: Change) -> None:
    assert made(change) == Stale("not_an_insert")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"payload": "no json"}, "payload_not_json"),
        ({"payload": ""}, "payload_not_json"),
        ({"payload": 5}, "payload_unusable"),
        ({"payload": None}, "payload_unusable"),
        ({"type": ""}, "type_unusable"),
        ({"type": 5}, "type_unusable"),
        ({"type": "x" * 257}, "type_unusable"),
        ({"tenant": ["list"]}, "header_unusable"),
    ],
)
def test_an_item_that_is_no_message_is_rejected(item: dict[str, Any], expected: str) -> None:
    assert reason(insert("1", {**ITEM, **item}), headers={"tenant": "tenant"}) == expected


def test_an_item_without_its_aggregate_is_rejected() -> None:
    assert reason(insert("1", ITEM), key="{order}") == "attribute_missing"


def test_a_record_without_the_item_is_rejected() -> None:
    change = insert("1", ITEM)
    change.new_image = None
    assert reason(change) == "image_missing"


@pytest.mark.parametrize("name", ["type", "payload"])
def test_half_a_surrogate_pair_is_rejected(name: str) -> None:
    change = insert("1", {**ITEM, name: "HERE"})
    assert change.new_image is not None
    change.new_image = change.new_image.replace(b"HERE", b"\\ud800")
    assert isinstance(made(change), Rejected)


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kafka": None}, "exactly one of 'kafka' and 'sqs'"),
        ({"sqs": {}}, "exactly one of 'kafka' and 'sqs'"),
        ({"destinations": {}}, "at least 1"),
        ({"destinations": {"orders": "a b"}}, "not a topic's name"),
        ({"kafka": None, "sqs": {}}, "not a queue's URL"),
        ({"default": "other"}, "not among the destinations"),
        ({"key": "{open"}, "never closed"),
        ({"headers": {"event_id": "x"}}, "not yours"),
        ({"headers": {"a b": "x"}}, "no name of a header"),
        ({"headers": {"AWS.x": "x"}}, "no name of a header"),
        ({"headers": {f"h{n}": "x" for n in range(9)}}, "at most 8"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OutboxSinkConfig.model_validate(BASE | options)


CONFIG = """
pipelines:
  shop:
    source: {type: file, path: changes.jsonl, format: dynamodb}
    checkpoints: {path: checkpoints.db}
    dead_letter: {type: file, path: letters}
    routes:
      outbox:
        lanes: LANES
        sink: {type: outbox, kafka: {brokers: ["localhost:9092"]}, destinations: {orders: shop.orders}, key: "{pk}"}
"""


def test_every_option_can_be_written_in_a_file(tmp_path: Any) -> None:
    """``type`` is the sink's own there."""
    text = CONFIG.replace("LANES", "1").replace('key: "{pk}"', 'key: "{pk}", event_type: kind, rate: 5/s')
    route = load_text(text.encode(), file="c.yaml", folder=tmp_path, env={}).pipelines["shop"].routes["outbox"]
    assert isinstance(route.sink.options, OutboxSinkConfig)
    assert (route.sink.options.event_type, route.sink.options.rate) == ("kind", 5.0)


def test_more_than_one_lane_would_lose_an_aggregates_order(tmp_path: Any) -> None:
    assert OutboxSink.lanes_default == 1
    assert load_text(CONFIG.replace("LANES", "1").encode(), file="c.yaml", folder=tmp_path, env={})
    with pytest.raises(ConfigErrors, match=r"routes\.outbox: lanes: with more than 1"):
        load_text(CONFIG.replace("LANES", "2").encode(), file="c.yaml", folder=tmp_path, env={})
