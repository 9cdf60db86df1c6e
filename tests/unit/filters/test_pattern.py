"""The shape of patterns: AWS's own examples, lists in records, limits, mistakes, a naive evaluator to agree with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import ConfigError
from connector.filters.compile import compile_node
from connector.filters.pattern import parse_pattern
from tests.unit.filters import reference


def matches(pattern: dict[str, Any], record: dict[str, Any]) -> bool:
    return compile_node(parse_pattern(pattern).root)(record)


EC2 = {
    "version": "0",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "time": "2017-10-02T16:24:49Z",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"],
    "detail": {"c-count": 5, "d-count": 3, "x-limit": 301.8, "source-ip": "10.0.0.33", "state": "running"},
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            {"detail-type": [EC2["detail-type"]], "resources": EC2["resources"], "detail": {"state": ["x", "running"]}},
            1,
        ),
        ({"time": [{"prefix": "2017-10-02"}]}, True),
        ({"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}], "d-count": [{"numeric": ["<", 10]}]}}, True),
        ({"detail": {"x-limit": [{"numeric": ["=", 3.018e2]}]}}, True),
        ({"detail": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}, True),
        ({"detail": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}, False),
        ({"detail": {"c-count": [{"exists": True}]}}, True),
        ({"detail": {"c-count": [{"exists": False}]}}, False),
        ({"nothing": {"here": [{"exists": False}]}}, True),
        ({"source": {"here": [{"exists": False}]}}, True),
        (
            {
                "time": [{"prefix": "2017-10-02"}],
                "detail": {
                    "state": [{"anything-but": "initializing"}],
                    "c-count": [{"numeric": [">", 0, "<=", 5]}],
                    "x-limit": [{"anything-but": [100, 200, 300]}],
                    "source-ip": [{"cidr": "10.0.0.0/8"}],
                },
            },
            True,
        ),
        ({"source": ["aws.ec2"], "$or": [{"version": ["1"]}, {"detail": {"d-count": [3]}}]}, True),
        ({"source": ["aws.ec2"], "$or": [{"version": ["1"]}, {"detail": {"d-count": [4]}}]}, False),
        ({"source": ["aws.s3"], "$or": [{"version": ["0"]}, {"detail": {"d-count": [3]}}]}, False),
        ({"detail": {"$or": [{"c-count": [{"numeric": [">", 9]}]}, {"d-count": [{"numeric": ["<", 10]}]}]}}, True),
        ({"$or": [{"version": ["9"]}, {"source": ["aws.ec2"], "$or": [{"version": ["0"]}, {"version": ["1"]}]}]}, True),
    ],
)
def test_the_examples_of_event_ruler(pattern: dict[str, Any], expected: bool) -> None:
    assert matches(pattern, EC2) is bool(expected)


EMPLOYEES = {"employees": [{"first": "John", "last": "Doe"}, [{"first": "Anna", "last": "Smith"}]]}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"employees": {"first": ["Anna"]}}, True),
        ({"employees": {"first": ["Anna"], "last": ["Smith"]}}, True),
        ({"employees": {"first": ["Anna"], "last": ["Doe"]}}, False),
        ({"employees": {"first": ["Anna"], "$or": [{"last": ["Doe"]}, {"age": [{"exists": False}]}]}}, True),
        ({"employees": {"last": [{"exists": False}]}}, False),
        ({"employees": {"age": [{"exists": False}], "first": ["John"]}}, True),
        ({"employees": [{"exists": True}]}, False),
    ],
)
def test_fields_below_a_list_match_in_one_of_its_elements(pattern: dict[str, Any], expected: bool) -> None:
    assert matches(pattern, EMPLOYEES) is expected


def test_exists_false_below_a_list_means_in_no_element() -> None:
    assert not matches({"l": {"a": [{"exists": False}]}}, {"l": [{"b": 1}, {"a": 1}]})
    assert matches({"l": {"a": [{"exists": False}]}}, {"l": [{"b": 1}, 5]})
    assert matches({"l": {"a": [{"exists": False}]}}, {"l": []})


def test_a_deeply_nested_record_does_not_exhaust_the_stack() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    assert matches({"f": ["x"]}, {"f": nested})
    assert not matches({"f": {"g": ["x"]}}, {"f": nested})
    while isinstance(nested, list):  # Taken apart by hand, so that freeing it does not go deep either.
        nested = nested[0]


def deep(levels: int) -> dict[str, Any]:
    pattern: dict[str, Any] = {"f": ["x"]}
    for _ in range(levels):
        pattern = {"f": pattern}
    return pattern


WRONG: list[tuple[Any, tuple[str | int, ...], str]] = [
    (["x"], (), "an object of the record's shape"),
    (None, (), "an object of the record's shape"),
    ({}, (), "at least one field"),
    ({"a": {}}, ("a",), "at least one field"),
    ({"a": "PAID"}, ("a",), 'write it as a list: ["PAID"]'),
    ({"a": 5}, ("a",), "write it as a list: [5]"),
    ({"a": 1}, ("a",), "write it as a list: [1]"),
    ({"a": True}, ("a",), "write it as a list: [true]"),
    ({"a": None}, ("a",), "write it as a list: [null]"),
    ({"a": {"prefix": "x"}}, ("a", "prefix"), 'inside a list: [{"prefix": …}]'),
    ({"a": {"anything-but": ["x"]}}, ("a", "anything-but"), 'inside a list: [{"anything-but": …}]'),
    ({"a": {"numeric": [">", 5]}}, ("a", "numeric"), 'inside a list: [{"numeric": …}]'),
    ({"a": {5: ["x"]}}, ("a", 5), 'write "5" in quotes'),
    ({"$or": {"a": ["x"]}}, ("$or",), "a list of objects"),
    ({"$or": [{"a": ["x"]}]}, ("$or",), "at least two"),
    ({"$or": [{"a": ["x"]}, "x"]}, ("$or", 1), "an object of the record's shape"),
    ({"$or": [{"a": ["x"]}, {"b": [{"x": 1}]}]}, ("$or", 1, "b", 0, "x"), "not known here"),
    ({"$or": [{"numeric": [5]}, {"prefix": ["x"]}]}, ("$or", 0, "numeric"), "is an operator"),
    (deep(100), ("f",) * 81, "may nest 80 levels"),
    ({str(number): ["x"] for number in range(1001)}, (), "1000 fields at most"),
]


@pytest.mark.parametrize(("pattern", "path", "message"), WRONG, ids=lambda part: repr(part)[:60])
def test_a_wrong_pattern_is_refused_at_its_place(pattern: Any, path: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_pattern(pattern, path=("routes", "search", "when"))
    assert refused.value.path == ("routes", "search", "when", *path)
    assert message in refused.value.message


def test_a_column_may_be_named_like_an_operator() -> None:
    assert matches({"after": {"prefix": ["x"], "numeric": [5]}}, {"after": {"prefix": "x", "numeric": 5}})


def test_an_item_of_dynamodbs_deepest_nesting_can_be_matched() -> None:
    pattern: dict[str, Any] = {"S": ["x"]}
    record: dict[str, Any] = {"S": "x"}
    for _ in range(32):
        pattern, record = {"M": {"a": pattern}}, {"M": {"a": record}}
    whole = {"dynamodb": {"NewImage": {"a": pattern}}}
    assert matches(whole, {"dynamodb": {"NewImage": {"a": record}}})


TEXT = st.text("ab", max_size=2)
SCALAR = st.one_of(TEXT, st.integers(0, 3), st.decimals(0, 3, places=1), st.booleans(), st.none())
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
RECORD = st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3)
NUMBER = st.one_of(st.integers(0, 3), st.decimals(0, 3, places=1))
LITERAL = st.one_of(TEXT, NUMBER, st.booleans(), st.none())
WILDCARD = st.text("ab*", max_size=4).filter(lambda text: "**" not in text)


def one_or_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=2)


def operator(name: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return operand.map(lambda value: {name: value})


FOLDED = operator("equals-ignore-case", TEXT)
ELEMENT = st.one_of(
    LITERAL,
    operator("prefix", TEXT | FOLDED),
    operator("suffix", TEXT | FOLDED),
    FOLDED,
    operator("wildcard", WILDCARD),
    operator("exists", st.booleans()),
    operator("numeric", st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBER).map(list)),
    operator("anything-but", one_or_more(LITERAL)),
    operator("anything-but", operator("prefix", one_or_more(TEXT.filter(bool)))),
    operator("anything-but", operator("suffix", one_or_more(TEXT.filter(bool)))),
    operator("anything-but", operator("equals-ignore-case", one_or_more(TEXT))),
    operator("anything-but", operator("wildcard", one_or_more(WILDCARD))),
)
LEAF = st.lists(ELEMENT, min_size=1, max_size=3)


def patterns(depth: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Patterns whose ``$or`` names other fields than stand beside it."""
    below = LEAF if depth == 0 else LEAF | st.deferred(lambda: patterns(depth - 1))

    def fields(names: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.dictionaries(st.sampled_from(names), below, min_size=1, max_size=2)

    with_or = st.tuples(fields("a"), st.lists(fields("bc"), min_size=2, max_size=3)).map(
        lambda parts: {**parts[0], "$or": parts[1]}
    )
    return fields("abc") | with_or


@settings(max_examples=300, deadline=None)
@given(patterns(), RECORD)
def test_it_agrees_with_the_naive_evaluator(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    assert matches(pattern, record) == reference.matches(pattern, record)


@settings(max_examples=200, deadline=None)
@given(LEAF, VALUE)
def test_each_leaf_agrees_with_the_naive_evaluator(leaf: list[Any], value: Any) -> None:
    assert matches({"f": leaf}, {"f": value}) == reference.matches({"f": leaf}, {"f": value})
