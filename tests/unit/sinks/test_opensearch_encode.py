"""Changes become bulk lines; what would make OpenSearch refuse a whole bulk is rejected before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.change import Change, EventName
from connector.codecs.dynamodb_images import DynamoDBImages
from connector.documents import Numbers
from connector.sink import Rejected
from sinks.opensearch import OpenSearchConfig, OpenSearchSink
from sinks.opensearch.encode import Actions, bodies
from sinks.opensearch.indexes import AllowList, creation_body, name_fault
from sinks.testing import BASE_VERSION, change, context, insert, modify, remove


def encoded(*batch: Change, **config: Any) -> Actions:
    settings = {"url": "http://localhost:9200", "index": "items", "id": "{pk}", **config}
    sink = OpenSearchSink(OpenSearchConfig.model_validate(settings), context())
    return sink._encoder.encode(batch)


def lines(*batch: Change, **config: Any) -> list[Any]:
    actions = encoded(*batch, **config)
    assert all(outcome is None for outcome in actions.outcomes), actions.outcomes
    return [json.loads(line) for line in b"".join(actions.lines).splitlines()]


def place(index: str, id: str, version: int, **more: str) -> dict[str, Any]:
    return {
        "_index": index,
        "_id": id,
        **more,
        "version": BASE_VERSION + version,
        "version_type": "external_gte",
    }


def reason(one: Change, **config: Any) -> str:
    actions = encoded(one, **config)
    assert actions.lines == []
    (outcome,) = actions.outcomes
    assert isinstance(outcome, Rejected)
    return outcome.reason


def test_every_action_carries_its_version() -> None:
    assert lines(insert("a", {"n": 1}, version=1), modify("b", {"n": 2}, version=2), remove("c", version=3)) == [
        {"index": place("items", "a", 1)},
        {"pk": "a", "n": 1},
        {"index": place("items", "b", 2)},
        {"pk": "b", "n": 2},
        {"delete": place("items", "c", 3)},
    ]


def test_an_item_that_moves_house_is_cleared_at_the_old_place_first() -> None:
    moved = modify("a", {"team": "red"}, old={"team": "blue"}, version=4)
    assert lines(moved, id="{team}|{pk}") == [
        {"delete": place("items", "blue|a", 4)},
        {"index": place("items", "red|a", 4)},
        {"pk": "a", "team": "red"},
    ]


def test_an_item_whose_routing_changes_moves_house_too() -> None:
    moved = modify("a", {"team": "red"}, old={"team": "blue"}, version=4)
    assert lines(moved, routing="{team}")[:2] == [
        {"delete": place("items", "a", 4, routing="blue")},
        {"index": place("items", "a", 4, routing="red")},
    ]


def test_an_item_that_stays_where_it_is_is_only_written() -> None:
    stays = modify("a", {"team": "red", "n": 2}, old={"team": "red", "n": 1}, version=4)
    assert lines(stays, id="{team}|{pk}") == [
        {"index": place("items", "red|a", 4)},
        {"pk": "a", "team": "red", "n": 2},
    ]


def test_items_choose_among_the_allowed_indexes_only() -> None:
    config = {"index": "items-{team}", "allow_indexes": ["items-r*"]}
    assert lines(insert("a", {"team": "red"}), **config)[0] == {"index": place("items-red", "a", 1)}
    assert reason(insert("a", {"team": "blue"}), **config) == "index_not_allowed"
    assert reason(insert("a", {"team": "red,x"}), **config) == "index_invalid"


def test_an_old_place_that_is_not_allowed_is_left_alone() -> None:
    moved = modify("a", {"team": "red"}, old={"team": "blue"})
    assert [*lines(moved, index="items-{team}", allow_indexes=["items-r*"])[0]] == ["index"]


@pytest.mark.parametrize(
    ("one", "config", "expected"),
    [
        (change(EventName.MODIFY, "a"), {}, "image_missing"),
        (change(EventName.INSERT, "a"), {"id": "{team}"}, "image_missing"),
        (remove("a"), {"id": "{team}"}, "image_missing"),
        (insert("a"), {"id": "{team}"}, "attribute_missing"),
        (insert("x" * 513), {}, "id_invalid"),
        (insert("ö" * 257), {}, "id_invalid"),
        (remove("x" * 513), {}, "id_invalid"),
        (insert("a", {"n": 10**37 + 1}), {}, "number_not_exact"),
    ],
)
def test_what_cannot_be_written_is_rejected_with_its_reason(one: Change, config: dict[str, Any], expected: str) -> None:
    assert reason(one, **config) == expected


def test_an_id_of_512_bytes_is_the_longest() -> None:
    assert lines(insert("ö" * 256))[0]["index"]["_id"] == "ö" * 256


class TooOddForJSON(DynamoDBImages):
    """The images of a codec that lets through what ours refuse."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        return self._document


def test_half_a_surrogate_pair_is_rejected() -> None:
    one = insert("a")
    one.images = TooOddForJSON({"text": "\ud800"})
    assert reason(one) == "document_not_unicode"


def test_a_document_that_is_nested_too_deep_is_rejected() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    one = insert("a")
    one.images = TooOddForJSON(deep)
    assert reason(one) == "document_too_deep"


def test_a_document_may_be_part_of_an_item() -> None:
    item = {"name": "Ann", "secret": "x", "other": 1}
    assert lines(insert("a", item), fields={"include": ["name", "secret"], "exclude": ["secret"]})[1] == {"name": "Ann"}
    assert lines(insert("a", item), fields={"exclude": ["secret"]})[1] == {"pk": "a", "name": "Ann", "other": 1}


@pytest.mark.parametrize(
    ("numbers", "written"), [("number", b'"n":10000000000000000000001'), ("string", b'"n":"10000000000000000000001"')]
)
def test_numbers_are_written_by_policy(numbers: str, written: bytes) -> None:
    (line,) = encoded(insert("a", {"n": 10**22 + 1}), numbers=numbers).lines
    assert written in line


def test_the_attributes_that_decide_the_place_are_told() -> None:
    config = OpenSearchConfig.model_validate(
        {
            "url": "http://localhost:9200",
            "index": "items-{team}",
            "allow_indexes": ["*"],
            "id": "{pk}|{address.city}",
            "routing": "{tenant}",
        }
    )
    sink = OpenSearchSink(config, context())
    assert sink.place_attributes == {"team", "pk", "address", "tenant"}


def test_bodies_hold_as_many_lines_as_fit() -> None:
    assert list(bodies([b"1234", b"5678", b"9"], 8)) == [(0, 2), (2, 3)]
    assert list(bodies([b"longer than any", b"1", b"2"], 3)) == [(0, 1), (1, 3)]
    assert list(bodies([b"1", b"longer than any"], 3)) == [(0, 1), (1, 2)]
    assert list(bodies([], 3)) == []


@pytest.mark.parametrize(
    "name", ["", "Upper", "a b", "a,b", "*", "../x", "_x", "-x", "+x", ".", "..", "a#b", "a:b", "a\n", "x" * 256]
)
def test_names_that_no_index_can_have_are_known(name: str) -> None:
    assert name_fault(name) is not None


@pytest.mark.parametrize("name", ["orders", "orders-2024.01", "größe", ".hidden", "x" * 255])
def test_names_that_an_index_can_have_are_known(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("orders-*", "orders-2024", True),
        ("orders-*", "my-orders-2024", False),
        ("*-eu", "orders-eu", True),
        ("a*b*c", "abbc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("*a*a*a*a*a*a*a*a*b", "a" * 250, False),
        ("*", "anything", True),
        ("*", ".opendistro_security", False),
        (".kibana*", ".kibana_1", True),
    ],
)
def test_patterns_of_allowed_indexes(pattern: str, name: str, allowed: bool) -> None:
    assert (AllowList([pattern]).fault(name) is None) is allowed


def test_a_created_index_remembers_deletions_unless_the_user_says_otherwise() -> None:
    assert json.loads(creation_body({}, {"number_of_shards": 2}, 3600)) == {
        "settings": {"number_of_shards": 2, "index.gc_deletes": "3600000ms"}
    }
    choices: list[dict[str, object]] = [
        {"gc_deletes": "1m"},
        {"index.gc_deletes": "1m"},
        {"index": {"gc_deletes": "1m"}},
    ]
    for settings in choices:
        assert json.loads(creation_body({"properties": {}}, settings, 3600)) == {
            "mappings": {"properties": {}},
            "settings": settings,
        }
