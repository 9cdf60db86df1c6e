"""``when:`` picks changes and decodes no more than it is asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connector.change import Change, EventName
from connector.errors import ConfigError
from connector.filters import compile_when, filter_batch, needed_images_of_when, parse_pattern
from connector.filters.when import ChangePredicate
from connector.sink import Needs
from tests.unit.filters.builders import INSERT, MODIFY, REMOVE, change, decoded


def when(*patterns: dict[str, Any]) -> ChangePredicate:
    return compile_when([parse_pattern(pattern) for pattern in patterns])


PAID_NOW = {
    "eventName": ["MODIFY"],
    "dynamodb": {
        "NewImage": {"status": {"S": ["PAID"]}},
        "OldImage": {"status": {"S": [{"anything-but": ["PAID"]}]}},
    },
}


def test_an_order_that_becomes_paid_is_picked() -> None:
    paid, open_ = {"status": {"S": "PAID"}}, {"status": {"S": "OPEN"}}
    assert when(PAID_NOW)(change(MODIFY, new=paid, old=open_))
    assert not when(PAID_NOW)(change(MODIFY, new=paid, old=paid))
    assert not when(PAID_NOW)(change(MODIFY, new=open_, old=paid))
    assert not when(PAID_NOW)(change(INSERT, new=paid))


LAMBDA_RECORD = {
    "eventID": "1",
    "eventVersion": "1.0",
    "dynamodb": {
        "ApproximateCreationDateTime": "1678831218.0",
        "Keys": {"CustomerName": {"S": "AnyCompany Industries"}},
        "NewImage": {
            "AccountManager": {"S": "Pat Candella"},
            "PaymentTerms": {"S": "60 days"},
            "CustomerName": {"S": "AnyCompany Industries"},
        },
        "SequenceNumber": "111",
        "SizeBytes": 26,
        "StreamViewType": "NEW_IMAGE",
    },
}


@pytest.mark.parametrize(
    ("pattern", "picked"),
    [
        ({"dynamodb": {"Keys": {"CustomerName": {"S": ["AnyCompany Industries"]}}}}, True),
        ({"dynamodb": {"Keys": {"CustomerName": {"S": ["Other"]}}}}, False),
        (
            {
                "dynamodb": {
                    "NewImage": {
                        "AccountManager": {"S": ["Pat Candella", "Shirley Rodriguez"]},
                        "PaymentTerms": {"S": ["60 days"]},
                    }
                }
            },
            True,
        ),
        ({"dynamodb": {"NewImage": {"AccountManager": {"S": [{"exists": True}]}}}}, True),
        ({"dynamodb": {"NewImage": {"AccountManager": {"S": [{"exists": False}]}}}}, False),
        ({"dynamodb": {"NewImage": {"Missing": {"S": [{"exists": False}]}}}}, True),
        ({"dynamodb": {"OldImage": {"AccountManager": {"S": [{"exists": False}]}}}}, True),
        ({"dynamodb": {"SizeBytes": [{"numeric": [">", 20]}]}}, True),
        ({"dynamodb": {"StreamViewType": ["OLD_IMAGE"]}}, False),
        ({"dynamodb": {"$or": [{"SizeBytes": [1]}, {"NewImage": {"PaymentTerms": {"S": [{"suffix": "s"}]}}}]}}, True),
        ({"$or": [{"eventVersion": ["2.0"]}, {"dynamodb": {"Keys": {"CustomerName": {"S": ["Other"]}}}}]}, False),
    ],
)  # fmt: skip
def test_the_examples_of_lambda(pattern: dict[str, Any], picked: bool) -> None:
    body = LAMBDA_RECORD["dynamodb"]
    assert isinstance(body, dict)
    it = change(INSERT, keys={"CustomerName": "AnyCompany Industries"}, key=body["Keys"], new=body["NewImage"],
                record=LAMBDA_RECORD)  # fmt: skip
    assert when(pattern)(it) is picked


def test_several_patterns_are_alternatives() -> None:
    both = when({"eventName": ["REMOVE"]}, {"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}})
    assert both(change(REMOVE, old={"a": {"S": "y"}}))
    assert both(change(INSERT, new={"a": {"S": "x"}}))
    assert not both(change(INSERT, new={"a": {"S": "y"}}))


NEW_A = {"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}}


@pytest.mark.parametrize(
    ("patterns", "of", "looks"),
    [
        ([{"eventName": ["MODIFY"]}], change(MODIFY, new={}), []),
        ([{"eventName": ["INSERT"], **NEW_A}], change(MODIFY, new={}), []),
        ([{"dynamodb": {"Keys": {"pk": {"S": ["other"]}}, **NEW_A["dynamodb"]}}], change(MODIFY, new={}), []),
        ([NEW_A], change(MODIFY, new={"a": 1}, old={}), ["matchable new"]),
        ([NEW_A, {"dynamodb": {"NewImage": {"b": ["x"]}}}], change(MODIFY, new={"a": 1}), ["matchable new"]),
        ([{"userIdentity": {"type": ["Service"]}, **NEW_A}], change(MODIFY, new={"a": 1}), ["matchable new"]),
        ([{"op": ["u"]}], change(MODIFY, new={"a": 1}, record={"op": "u"}), ["envelope"]),
        ([{"op": ["u"]}, {"eventName": ["MODIFY"]}], change(MODIFY, new={"a": 1}), []),
        ([{"$or": [{"op": ["u"]}, {"eventName": ["MODIFY"]}]}], change(MODIFY, record={"op": "u"}), []),
        ([NEW_A], change(MODIFY), []),
    ],
)
def test_no_more_is_decoded_than_decides(patterns: list[dict[str, Any]], of: Change, looks: list[str]) -> None:
    when(*patterns)(of)
    assert decoded(of) == looks


@pytest.mark.parametrize(
    ("patterns", "names", "only"),
    [
        ([{"eventName": ["INSERT"]}], {INSERT}, True),
        ([{"eventName": [{"anything-but": "REMOVE"}]}], {INSERT, MODIFY}, True),
        ([{"eventName": ["INSERT"]}, {"eventName": [{"prefix": "REM"}]}], {INSERT, REMOVE}, True),
        ([{"$or": [{"eventName": ["INSERT"]}, {"eventName": ["MODIFY"]}]}], {INSERT, MODIFY}, True),
        ([{"eventName": ["INSERT"]}, {"eventName": ["MODIFY"], "op": ["u"]}], {INSERT, MODIFY}, False),
        ([{"eventName": ["INSERT"], "$or": [{"eventName": ["MODIFY"]}, {"eventName": ["REMOVE"]}]}], set(), True),
        ([{"$or": [{"op": ["u"]}, {"eventName": ["MODIFY"]}]}], {INSERT, MODIFY, REMOVE}, False),
    ],
)
def test_the_event_names_that_can_be_picked_are_known(
    patterns: list[dict[str, Any]], names: set[EventName], only: bool
) -> None:
    predicate = when(*patterns)
    assert predicate.event_names == names
    assert predicate.event_names_only is only
    for name in EventName:
        assert not predicate(change(name)) or name in names
        assert not only or predicate(change(name)) is (name in names)


def test_a_batch_is_filtered_in_its_order() -> None:
    changes = [change(INSERT), change(REMOVE), change(MODIFY), change(INSERT)]
    assert filter_batch(when({"eventName": ["INSERT", "MODIFY"]}), changes) == [changes[0], changes[2], changes[3]]
    assert filter_batch(when({"eventName": ["INSERT"]}, {"op": ["u"]}), changes) == [changes[0], changes[3]]
    anything: Callable[[Change], bool] = lambda each: each.event_name is REMOVE  # noqa: E731
    assert filter_batch(anything, changes) == [changes[1]]


def test_an_event_name_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="INSERT, MODIFY or REMOVE") as refused:
        compile_when([parse_pattern({"eventName": ["Insert"]}, path=("when", 0))])
    assert refused.value.path == ("when", 0, "eventName")


@pytest.mark.parametrize(
    ("pattern", "needs"),
    [
        ({"eventName": ["INSERT"]}, Needs.NOTHING),
        ({"dynamodb": {"Keys": {"pk": {"S": ["x"]}}}}, Needs.NOTHING),
        (NEW_A, Needs.NEW_IMAGE),
        (PAID_NOW, Needs.NEW_IMAGE | Needs.OLD_IMAGE),
        ({"$or": [{"op": ["d"]}, {"dynamodb": {"OldImage": {"a": ["x"]}}}]}, Needs.OLD_IMAGE),
        ({"after": {"a": ["x"]}, "before": {"a": ["y"]}}, Needs.NEW_IMAGE | Needs.OLD_IMAGE),
    ],
)
def test_the_images_that_patterns_ask_about_are_known(pattern: dict[str, Any], needs: Needs) -> None:
    assert needed_images_of_when([parse_pattern(pattern)]) == needs


def test_a_key_with_more_digits_than_a_float_is_compared_exactly() -> None:
    exact = when({"dynamodb": {"Keys": {"id": [9007199254740993]}}})
    assert exact(change(MODIFY, keys={"id": 9007199254740993}))
    assert not exact(change(MODIFY, keys={"id": 9007199254740992}))
