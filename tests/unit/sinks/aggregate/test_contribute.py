"""What an item adds, what makes it poison, and what a user may not write."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from connector.change import Change, EventName
from connector.sink import APPLIED, Needs, Outcome, Rejected, Semantics
from sinks.aggregate import AggregateSink
from sinks.aggregate.config import AggregateSinkConfig
from sinks.aggregate.contribute import Contribution, Plan
from sinks.testing import change, context, insert, remove

URL = "sqlite:///totals.db"


def read(measure: dict[str, Any], *changes: Change, **more: Any) -> tuple[list[Contribution], list[Outcome]]:
    told = {"url": URL, "table": "t", "measures": {"m": measure}, **more}
    plan = Plan(AggregateSinkConfig.model_validate(told), pipeline="p", route="r")
    found, _, outcomes = plan.contributions(changes, now_ms=9)
    return found, outcomes


def added(measure: dict[str, Any], item: dict[str, Any]) -> Any:
    (found,), outcomes = read(measure, insert("1", item))
    assert outcomes == [APPLIED]
    return found.row.item.values[0]


def reason(measure: dict[str, Any], item: dict[str, Any], **more: Any) -> str:
    found, (outcome,) = read(measure, insert("1", item), **more)
    assert found == []
    assert isinstance(outcome, Rejected)
    return outcome.reason


SUM = {"kind": "sum", "of": "total"}


def test_a_number_is_read_wherever_it_stands() -> None:
    assert added(SUM, {"total": Decimal("1.5")}) == Decimal("1.5")
    assert added({"kind": "max", "of": "a.b"}, {"a": {"b": 3}}) == 3
    assert added({"kind": "min", "of": "lines.1.price"}, {"lines": [{"price": 1}, {"price": 2}]}) == 2


def test_what_becomes_of_a_missing_number_is_the_users_choice() -> None:
    for item in ({}, {"total": None}):
        assert reason(SUM, item) == "attribute_missing"
        assert added({**SUM, "missing": "skip"}, item) is None
        assert added({**SUM, "missing": "zero"}, item) == 0
    assert reason({**SUM, "of": "lines.9.price"}, {"lines": []}) == "attribute_missing"


@pytest.mark.parametrize("value", ["12", True, b"1", [1], {"a": 1}, frozenset({1})])
def test_what_is_there_but_no_number_is_poison_whatever_is_said_of_missing_ones(value: Any) -> None:
    for missing in ("reject", "skip", "zero"):
        assert reason({**SUM, "missing": missing}, {"total": value}) == "not_a_number"


class _Values:
    """Images that hold what DynamoDB could not, as other formats may."""

    def __init__(self, item: dict[str, Any]) -> None:
        self._item = item

    def values(self, _image: bytes) -> dict[str, Any]:
        return dict(self._item)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "not_a_number"),
        (Decimal("Infinity"), "not_a_number"),
        (10**2000, "number_out_of_range"),
        (10**1000, "number_out_of_range"),
        (Decimal("1E-1001"), "number_out_of_range"),
        (Decimal("1E+999999"), "number_out_of_range"),
    ],
)
def test_numbers_beyond_every_bound_are_poison(value: Any, said: str) -> None:
    odd = msgspec.structs.replace(insert("1"), images=_Values({"total": value}))
    _, (outcome,) = read(SUM, odd)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == said


def test_a_measure_asks_nothing_of_items_outside_its_where() -> None:
    measure = {**SUM, "where": {"status": {"S": ["PAID"]}}}
    assert added(measure, {"status": "NEW", "total": "soon"}) is None
    assert added(measure, {"status": "PAID", "total": 5}) == 5


def test_any_one_of_several_patterns_lets_an_item_in() -> None:
    measure = {"kind": "count", "where": [{"status": {"S": ["PAID"]}}, {"status": {"S": ["SENT"]}}]}
    assert [added(measure, {"status": status}) for status in ("PAID", "SENT", "NEW")] == [1, 1, None]


def test_distinct_values_are_told_apart_by_all_of_their_template() -> None:
    measure = {"kind": "distinct", "of": "{a}|{b}"}
    assert added(measure, {"a": "x", "b": "y"}) == added(measure, {"b": "y", "a": "x"})
    assert added(measure, {"a": "x", "b": "y"}) != added(measure, {"a": "x", "b": "z"})
    assert reason(measure, {"a": "x"}) == "attribute_missing"
    assert added({**measure, "missing": "skip"}, {"a": "x"}) is None


def test_groups_do_not_depend_on_the_order_in_which_columns_are_written() -> None:
    count = {"kind": "count"}
    one, other = {"a": "{a}", "b": "{b}"}, {"b": "{b}", "a": "{a}"}
    ((first,), _), ((second,), _) = (
        read(count, insert("1", {"a": "x", "b": "y"}), group_by=columns) for columns in (one, other)
    )
    assert first.row.item.group_id == second.row.item.group_id
    assert (first.names, second.names) == (("x", "y"), ("y", "x"))


def test_an_item_without_its_group_or_with_one_that_no_index_holds_is_poison() -> None:
    count, group = {"kind": "count"}, {"group_by": {"a": "{a}"}}
    assert reason(count, {}, **group) == "attribute_missing"
    assert reason(count, {"a": "x" * 2001}, **group) == "group_too_long"
    assert reason(count, {"a": "x\0y"}, **group) == "nul_in_group"


def test_a_change_without_its_image_and_half_a_surrogate_pair_are_poison() -> None:
    found, outcomes = read(
        {"kind": "count"},
        change(EventName.MODIFY, "1"),
        msgspec.structs.replace(insert("1"), key='{"pk":"\ud800"}'),
        remove("3"),
    )
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["image_missing", "not_unicode", None]
    assert [one.row.removed_at_ms for one in found] == [9]


def test_only_an_items_last_image_counts_and_no_old_one_is_needed() -> None:
    config = AggregateSinkConfig.model_validate({"url": URL, "table": "t", "measures": {"n": {"kind": "count"}}})
    sink = AggregateSink(config, context())
    assert sink.semantics is Semantics.STATE
    assert sink.needs == Needs.NEW_IMAGE
    assert sink.place_attributes == frozenset()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "mysql://localhost/x"}, "sqlite:/// or postgresql://"),
        ({"url": "sqlite:///"}, "path of a file"),
        ({"url": "postgresql://localhost/x?nonsense=1"}, "cannot be read"),
        ({"table": 'x"; drop table y; --'}, "pattern"),
        ({"table": "reports.orders"}, "no schema"),
        ({"url": "postgresql://localhost/x", "synchronous": "full"}, "belongs to SQLite"),
        ({"measures": {}}, "at least 1"),
        ({"measures": {"m": {"kind": "median"}}}, "count"),
        ({"measures": {"m": {"kind": "sum"}}}, "of what the sum"),
        ({"measures": {"m": {"kind": "sum", "of": "{total}"}}}, "without braces"),
        ({"measures": {"m": {"kind": "sum", "of": "a..b"}}}, "without braces"),
        ({"measures": {"m": {"kind": "count", "of": "total"}}}, "neither"),
        ({"measures": {"m": {"kind": "count", "missing": "skip"}}}, "neither"),
        ({"measures": {"m": {"kind": "distinct", "of": "customer"}}}, "like {customer}"),
        ({"measures": {"m": {"kind": "distinct", "of": "{customer"}}}, "never closed"),
        ({"measures": {"m": {"kind": "distinct", "of": "{c}", "missing": "zero"}}}, "skipped or rejected"),
        ({"measures": {"m": {"kind": "count", "where": {"status": "PAID"}}}}, "write it as a list"),
        ({"measures": {"m": {"kind": "count", "where": []}}}, "1 to 100 patterns"),
        ({"measures": {"items": {"kind": "count"}}}, "twice"),
        ({"measures": {"a": {"kind": "average", "of": "n"}, "a_sum": {"kind": "sum", "of": "n"}}}, "twice"),
        ({"group_by": {"m": "{x}"}}, "twice"),
        ({"group_by": {"Status": "{x}"}}, "no column's name"),
        ({"group_by": {"a": "{x"}}, "never closed"),
        ({"tombstones": "1s"}, "greater"),
        ({"window": "1h"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    whole = {"url": URL, "table": "t", "measures": {"m": {"kind": "count"}}, **options}
    with pytest.raises(ValidationError, match=said):
        AggregateSinkConfig.model_validate(whole)


def test_a_url_that_is_refused_does_not_tell_its_password() -> None:
    with pytest.raises(ValidationError) as refused:
        AggregateSinkConfig.model_validate(
            {"url": "mysql://u:s3cr3t@host", "table": "t", "measures": {"m": {"kind": "count"}}}
        )
    assert "s3cr3t" not in str(refused.value)
