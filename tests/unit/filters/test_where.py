"""``where:`` says which items belong in a sink."""

from __future__ import annotations

from typing import Any

import pytest

from connector.change import EventName
from connector.filters import Where, compile_where, decide, needed_images_of_where, parse_pattern
from connector.filters.where import ItemPredicate
from connector.sink import Needs
from tests.unit.filters.builders import INSERT, MODIFY, REMOVE, change, decoded


def where(*patterns: dict[str, Any]) -> ItemPredicate:
    return compile_where([parse_pattern(pattern) for pattern in patterns])


NOT_DRAFT = where({"status": {"S": [{"anything-but": ["DRAFT"]}]}})
PAID, DRAFT = {"status": {"S": "PAID"}}, {"status": {"S": "DRAFT"}}
KEEP, GO, DROP, UNKNOWN = Where.KEEP, Where.REMOVE, Where.DROP, Where.IMAGE_MISSING


@pytest.mark.parametrize(
    ("name", "new", "old", "state", "event"),
    [
        (INSERT, PAID, None, KEEP, KEEP),
        (INSERT, DRAFT, None, DROP, DROP),
        (INSERT, None, None, UNKNOWN, UNKNOWN),
        (MODIFY, PAID, PAID, KEEP, KEEP),
        (MODIFY, PAID, DRAFT, KEEP, KEEP),
        (MODIFY, PAID, None, KEEP, KEEP),
        (MODIFY, DRAFT, PAID, GO, DROP),
        (MODIFY, DRAFT, DRAFT, DROP, DROP),
        (MODIFY, DRAFT, None, GO, DROP),
        (MODIFY, None, PAID, UNKNOWN, UNKNOWN),
        (MODIFY, None, None, UNKNOWN, UNKNOWN),
        (REMOVE, None, PAID, KEEP, KEEP),
        (REMOVE, None, DRAFT, DROP, DROP),
        (REMOVE, None, None, KEEP, UNKNOWN),
    ],
)
def test_what_becomes_of_a_change(name: EventName, new: Any, old: Any, state: Where, event: Where) -> None:
    assert decide(NOT_DRAFT, change(name, new=new, old=old), state=True) is state
    assert decide(NOT_DRAFT, change(name, new=new, old=old), state=False) is event


def test_a_sink_that_follows_the_decisions_holds_exactly_the_items_that_belong() -> None:
    """Every history of up to five steps of one item, with and without old images."""
    for with_old in (True, False):
        histories: list[list[Any]] = [[]]
        for _ in range(5):
            histories = [[*history, item] for history in histories for item in (PAID, DRAFT, None)]
        for history in histories:
            before: Any = None
            held = False
            for after in history:
                if before is None and after is None:
                    continue
                name = INSERT if before is None else REMOVE if after is None else MODIFY
                decision = decide(NOT_DRAFT, change(name, new=after, old=before if with_old else None), state=True)
                if decision is KEEP:
                    held = name is not REMOVE
                elif decision is GO:
                    held = False
                assert held is (after is PAID), (history, with_old)
                before = after


def test_the_code_of_an_unknown_answer_is_its_value() -> None:
    assert Where.IMAGE_MISSING.value == "image_missing"


def test_patterns_on_the_key_alone_decode_no_image() -> None:
    orders = where({"pk": {"S": [{"prefix": "ORDER#"}]}})
    order = change(MODIFY, keys={"pk": "ORDER#1"}, key={"pk": {"S": "ORDER#1"}})
    customer = change(REMOVE, keys={"pk": "C#1"}, key={"pk": {"S": "C#1"}}, old=PAID)
    for state in (True, False):
        assert decide(orders, order, state=state) is KEEP
        assert decide(orders, customer, state=state) is DROP
    assert decoded(order) == decoded(customer) == []


def test_each_image_is_decoded_once_and_the_old_one_only_when_it_counts() -> None:
    stays, goes = change(MODIFY, new=PAID, old=DRAFT), change(MODIFY, new=DRAFT, old=PAID)
    decide(NOT_DRAFT, stays, state=True)
    decide(NOT_DRAFT, goes, state=True)
    assert decoded(stays) == ["matchable new"]
    assert decoded(goes) == ["matchable new", "matchable old"]


def test_the_attributes_that_are_asked_about_include_those_in_or() -> None:
    predicate = where({"a": ["x"], "$or": [{"b": ["x"]}, {"$or": [{"c": ["x"]}, {"d": {"S": ["x"]}}]}]}, {"e": ["x"]})
    assert predicate.attributes == {"a", "b", "c", "d", "e"}


def test_items_in_debeziums_plain_shape_are_matched_as_they_are() -> None:
    paid = where({"status": ["PAID"]})
    assert decide(paid, change(INSERT, new={"status": "PAID"}), state=True) is KEEP
    assert decide(paid, change(INSERT, new={"status": "OPEN"}), state=True) is DROP


def test_the_images_that_are_needed_depend_on_sink_and_route() -> None:
    patterns = [parse_pattern({"status": {"S": ["PAID"]}})]
    on_key = [parse_pattern({"pk": {"S": ["PAID"]}})]
    assert needed_images_of_where(patterns, state=True) == Needs.NEW_IMAGE
    assert needed_images_of_where(patterns, state=False) == Needs.NEW_IMAGE | Needs.OLD_IMAGE
    assert needed_images_of_where(patterns, state=False, event_names=frozenset({INSERT})) == Needs.NEW_IMAGE
    assert needed_images_of_where(patterns, state=False, event_names=frozenset({REMOVE})) == Needs.OLD_IMAGE
    assert needed_images_of_where(patterns, state=True, event_names=frozenset({REMOVE})) == Needs.NOTHING
    assert needed_images_of_where(on_key, state=False, key_attributes={"pk", "sk"}) == Needs.NOTHING
    assert needed_images_of_where(on_key, state=True) == Needs.NEW_IMAGE
