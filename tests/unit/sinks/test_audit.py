"""What the audit sink makes of a change, without a database; and what a user may not write."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector.change import Change
from connector.documents import Numbers
from connector.sink import APPLIED, Needs, Outcome, Rejected, Semantics
from sinks.audit import AuditSink
from sinks.audit.config import AuditSinkConfig
from sinks.audit.encode import difference, rows_of
from sinks.audit.store import Row
from sinks.testing import context, insert, modify, remove


def encoded(*changes: Change, diff: bool = True, numbers: Numbers = Numbers.NUMBER) -> tuple[list[Row], list[Outcome]]:
    rows, _, outcomes = rows_of(changes, pipeline="orders", numbers=numbers, diff=diff, now_ms=99)
    return rows, outcomes


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.dictionaries(st.text(max_size=2), JSON_VALUES, max_size=4)


def test_a_row_holds_the_whole_change() -> None:
    change = modify("1", {"n": 2}, old={"n": 1}, version=5, position=10**55, identity=b'{"type":"Service"}')
    (row,), outcomes = encoded(change)
    assert outcomes == [APPLIED]
    assert row.position == str(10**55)
    assert (row.pipeline, row.event_name, row.recorded_at_ms) == ("orders", "MODIFY", 99)
    assert json.loads(row.keys) == {"pk": "1"}
    assert row.key == change.key
    assert (row.before, row.after) == ('{"pk":"1","n":1}', '{"pk":"1","n":2}')
    assert row.diff == '{"n":{"old":1,"new":2}}'
    assert row.identity == '{"type":"Service"}'


def test_there_is_a_diff_only_where_there_is_a_before_and_an_after() -> None:
    rows, _ = encoded(insert("1", {"n": 1}), modify("1", {"n": 2}), remove("1", old={"n": 2}))
    assert [row.diff for row in rows] == [None, None, None]
    rows, _ = encoded(modify("1", {"n": 2}, old={"n": 1}), diff=False)
    assert rows[0].diff is None


def test_a_modification_that_changed_nothing_has_an_empty_diff() -> None:
    rows, _ = encoded(modify("1", {"n": 1}, old={"n": 1}))
    assert rows[0].diff == "{}"


def test_true_and_one_differ_though_python_says_that_they_are_equal() -> None:
    assert difference({"a": True}, {"a": 1}) == {"a": {"old": True, "new": 1}}
    assert difference({"a": [{"b": 0}]}, {"a": [{"b": False}]}) != {}


def test_a_null_that_came_is_told_from_an_attribute_that_went() -> None:
    assert difference({}, {"a": None}) == {"a": {"new": None}}
    assert difference({"a": None}, {}) == {"a": {"old": None}}


@given(ITEMS, ITEMS)
def test_a_diff_leads_from_the_old_item_to_the_new_one_and_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = difference(before, after)
    forwards, backwards = dict(before), dict(after)
    for name, sides in changed.items():
        for item, side in ((forwards, "new"), (backwards, "old")):
            item.pop(name, None)
            if side in sides:
                item[name] = sides[side]
    as_text = msgspec.json.Encoder(order="sorted").encode
    assert as_text(forwards) == as_text(after)
    assert as_text(backwards) == as_text(before)


def test_digits_are_kept_or_the_change_rejected_as_the_user_says() -> None:
    precise = insert("1", {"n": Decimal("1.2345678901234567890123456789012345678")})
    rows, _ = encoded(precise)
    assert rows[0].after == '{"pk":"1","n":1.2345678901234567890123456789012345678}'
    rows, (outcome,) = encoded(precise, numbers=Numbers.REJECT)
    assert rows == []
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "number_not_exact"


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (insert("1", event_id="x" * 1025), "event_id_too_long"),
        (insert("1", event_id="a\x00b"), "nul_in_event_id"),
        (msgspec.structs.replace(insert("1"), identity=b"\xff"), "not_unicode"),
        (msgspec.structs.replace(insert("1"), event_id="\ud800"), "not_unicode"),
        (msgspec.structs.replace(insert("1"), key='{"pk":"\ud800"}'), "not_unicode"),
    ],
)
def test_what_no_database_takes_is_rejected_alone(poison: Change, reason: str) -> None:
    rows, (first, outcome, last) = encoded(insert("a"), poison, insert("b"))
    assert (first, last) == (APPLIED, APPLIED)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert len(rows) == 2


def test_every_change_counts_and_no_image_is_needed() -> None:
    sink = AuditSink(AuditSinkConfig.model_validate({"url": "sqlite:///audit.db"}), context())
    assert sink.semantics is Semantics.EVENT
    assert sink.needs == Needs.NOTHING


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "mysql://localhost/x"}, "sqlite:/// or postgresql://"),
        ({"url": "sqlite:///"}, "path of a file"),
        ({"url": "sqlite:///a.db?mode=ro"}, "path of a file"),
        ({"url": "postgresql://localhost/x?nonsense=1"}, "cannot be read"),
        ({"url": "sqlite:///a.db", "table": 'x"; drop table y; --'}, "pattern"),
        ({"url": "sqlite:///a.db", "table": "history.audit"}, "no schema"),
        ({"url": "postgresql://localhost/x", "synchronous": "full"}, "belongs to SQLite"),
        ({"url": "sqlite:///a.db", "tabel": "x"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AuditSinkConfig.model_validate(options)


@pytest.mark.parametrize("url", ["postgresql://u:s3cr3t@host/x?nonsense=1", "mysql://u:s3cr3t@host"])
def test_a_url_that_is_refused_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AuditSinkConfig.model_validate({"url": url})
    assert "s3cr3t" not in str(refused.value)
    assert "s3cr3t" not in repr(AuditSinkConfig.model_validate({"url": "postgresql://u:s3cr3t@host/x"}))
