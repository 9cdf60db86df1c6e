"""Every operator, with what it matches and what it does not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connector.errors import ConfigError
from connector.filters.compile import compile_node
from connector.filters.pattern import parse_pattern

MISSING_FIELD: dict[str, Any] = {}


def matches(leaf: list[Any], record: dict[str, Any], field: str = "f") -> bool:
    return compile_node(parse_pattern({field: leaf}).root)(record)


NINES_38 = "99999999999999999999999999999999999999"

CASES: list[tuple[list[Any], list[Any], list[Any]]] = [
    # (leaf, values that match, values that do not)
    (["Alice"], ["Alice", ["Bob", "Alice"], [["Alice"]]], ["alice", "A ", "", None, True, 1, [], ["Bob"], {"a": 1}]),
    (["Alice", "Bob"], ["Alice", "Bob"], ["Carol"]),
    ([""], ["", ["", "x"]], ["x", None, " ", []]),
    ([None], [None, ["x", None]], ["", "null", 0, False, []]),
    ([True], [True], [False, 1, "true", Decimal(1)]),
    ([False], [False], [True, 0, "false", None]),
    ([100], [100, Decimal("100.0"), Decimal("1E+2"), 100.0], ["100", 101, True, None]),
    ([1], [1], [True]),
    ([0], [0, Decimal("-0.0")], [False, "", None]),
    ([Decimal("0.1")], [Decimal("0.10"), 0.1], [Decimal("0.1000000000000000000000000000000000001"), "0.1"]),
    ([0.1], [Decimal("0.1")], [Decimal("0.1000000000000000055511151231257827")]),
    ([5, "x"], [5, "x", ["y", 5]], ["5", "y", 6]),
    ([{"prefix": "us-"}], ["us-", "us-east-1", ["eu", "us-1"]], ["US-east", "eu-us-", "", None, 1]),
    ([{"suffix": ".png"}], ["a.png", ".png"], ["a.PNG", "a.png ", "", None, True]),
    ([{"prefix": ""}], ["", "x"], [None, 1]),
    ([{"prefix": {"equals-ignore-case": "EventB"}}], ["eventbridge", "EVENTB"], ["event", "xeventb", 1]),
    ([{"suffix": {"equals-ignore-case": "tBridge"}}], ["EventBRIDGE", "tbridge"], ["bridge", "tbridges"]),
    ([{"equals-ignore-case": "alice"}], ["ALICE", "Alice", "alice"], ["alice ", "bob", None, 1]),
    ([{"equals-ignore-case": "straße"}], ["STRASSE", "Straße"], ["strase"]),
    ([{"equals-ignore-case": "ΟΔΟΣ"}], ["οδος", "οδοσ"], ["οδο"]),
    ([{"wildcard": "*/lib/*"}], ["/lib/", "a/lib/b", "/lib//lib/"], ["lib", "/lib", "a/li/b/", None, 1]),
    ([{"wildcard": "Simple*Service"}], ["SimpleService", "SimpleQueueService"], ["Simple", "SimpleServiceX"]),
    ([{"wildcard": "ab*ba"}], ["abba", "abxba"], ["aba", "ab"]),
    ([{"wildcard": "*"}], ["", "x"], [None, 5]),
    ([{"wildcard": r"a\*b"}], ["a*b"], ["axb", r"a\*b"]),
    ([{"wildcard": r"a\\*"}], ["a\\", "a\\x"], ["a", "a*"]),
    ([{"anything-but": "x"}], ["y", "", None, True, 1, ["x", "y"]], ["x", ["x", "x"], [], {"a": 1}]),
    ([{"anything-but": ["x", 1]}], ["y", 2, "1", True], ["x", 1, Decimal("1.0")]),
    ([{"anything-but": 123}], [124, "123"], [123, Decimal("123.00")]),
    ([{"anything-but": None}], ["", 0, False], [None]),
    ([{"anything-but": [True]}], [False, 1, "true"], [True]),
    ([{"anything-but": {"prefix": "init"}}], ["running", "", 5, None], ["init", "initializing"]),
    ([{"anything-but": {"prefix": ["init", "error"]}}], ["running"], ["initializing", "errors"]),
    ([{"anything-but": {"suffix": ".png"}}], ["a.jpg", "png"], ["a.png"]),
    ([{"anything-but": {"suffix": ["1234", "6789"]}}], ["12345"], ["x1234", "6789"]),
    ([{"anything-but": {"equals-ignore-case": "Stopped"}}], ["running"], ["stopped", "STOPPED"]),
    ([{"anything-but": {"equals-ignore-case": ["Stopped", "OverLoaded"]}}], ["x"], ["OVERLOADED", "stopped"]),
    ([{"anything-but": {"wildcard": "*/lib/*"}}], ["/bin/x", ""], ["/lib/x"]),
    ([{"anything-but": {"wildcard": ["*/bin/*.jar", "*/bin/*.class"]}}], ["/bin/a.py"], ["/bin/a.jar", "/bin/b.class"]),
    ([{"numeric": ["=", Decimal("301.8")]}], [Decimal("301.80"), 301.8], [302, "301.8", None, True]),
    ([{"numeric": [">", 0, "<=", 5]}], [1, 5, Decimal("0.0000001")], [0, Decimal("5.0000000000000001"), "3", -1]),
    ([{"numeric": ["<", 10]}], [9, -100, Decimal("9.99")], [10, 11, float("nan"), Decimal("NaN"), Decimal("Infinity")]),
    ([{"numeric": ["<=", 10, ">=", 10]}], [10], [9, 11]),
    ([{"numeric": [">=", int(NINES_38)]}], [int(NINES_38)], [int(NINES_38) - 1]),
    ([{"numeric": ["=", "0.10000000000000000000000000000000000001"]}],
     [Decimal("0.10000000000000000000000000000000000001")], [Decimal("0.1"), 0.1]),
    ([{"cidr": "10.0.0.0/24"}], ["10.0.0.0", "10.0.0.255", ["x", "10.0.0.7"]],
     ["10.0.1.0", "9.255.255.255", "host", "", "10.0.0", 10, "::10.0.0.1", "10.0.0.0/24", "1" * 100]),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1", "2001:0DB8:ffff::"], ["2001:db9::", "10.0.0.1"]),
    ([{"cidr": "10.0.0.7/32"}], ["10.0.0.7"], ["10.0.0.8"]),
    ([{"exists": True}], ["", None, 0, False, ["x"], [[], ["x"]]], [[], {}, {"a": 1}, [[]], [{"a": 1}]]),
    ([{"exists": False}], [[], {}, {"a": 1}, [{"a": 1}]], ["", None, 0, ["x"]]),
    (["x", {"exists": False}], ["x", [], ["y", "x"]], ["y", ["y"], None]),
    (["x", {"prefix": "y"}, {"numeric": ["=", 3]}], ["x", "yy", 3], ["z", 4]),
]  # fmt: skip


@pytest.mark.parametrize(("leaf", "value"), [(leaf, value) for leaf, yes, _ in CASES for value in yes], ids=repr)
def test_an_operator_matches(leaf: list[Any], value: Any) -> None:
    assert matches(leaf, {"f": value})


@pytest.mark.parametrize(("leaf", "value"), [(leaf, value) for leaf, _, no in CASES for value in no], ids=repr)
def test_an_operator_does_not_match(leaf: list[Any], value: Any) -> None:
    assert not matches(leaf, {"f": value})


@pytest.mark.parametrize("leaf", [leaf for leaf, _, _ in CASES], ids=repr)
def test_a_missing_field_matches_only_exists_false(leaf: list[Any]) -> None:
    assert matches(leaf, MISSING_FIELD) is ({"exists": False} in leaf)


N_CASES: list[tuple[list[Any], list[str], list[str]]] = [
    (["5"], ["5"], ["5.0", "05"]),
    ([5], ["5", "5.0", "5E0", "0.5e1"], ["50", "x", "", "5_0", " 5"]),
    ([{"numeric": [">", 5]}], ["6", "5.0000000000000000000000000000000000001", "1E+125"], ["5", "-6", "x", "", "NaN"]),
    ([{"numeric": ["=", NINES_38]}], [NINES_38, NINES_38 + ".0"], ["1E38", NINES_38[:-1] + "8"]),
    ([{"numeric": [">", 9007199254740992]}], ["9007199254740993"], ["9007199254740992"]),
    ([{"numeric": ["<", "1e-129"]}], ["1E-130", "0", "-1"], ["1E-129", "1E99999999", "1" * 300]),
    ([{"anything-but": 100}], ["101", "x"], ["100", "100.0"]),
    ([{"anything-but": ["100"]}], ["100.0", "101"], ["100"]),
]


@pytest.mark.parametrize("case", N_CASES, ids=lambda case: repr(case[0]))
@pytest.mark.parametrize("tag", ["N", "NS"])
def test_under_n_and_ns_a_number_is_read_from_its_text_exactly(
    case: tuple[list[Any], list[str], list[str]], tag: str
) -> None:
    leaf, yes, no = case
    assert [value for value in yes if not matches(leaf, {tag: value}, tag)] == []
    assert [value for value in no if matches(leaf, {tag: value}, tag)] == []


def test_a_number_set_matches_when_one_of_its_numbers_does() -> None:
    assert matches([{"numeric": [">", 5]}], {"NS": ["1", "6"]}, "NS")
    assert not matches([{"numeric": [">", 5]}], {"NS": ["1", "5"]}, "NS")


def test_under_other_names_a_text_is_no_number() -> None:
    assert not matches([{"numeric": [">", 5]}], {"S": "6"}, "S")


WRONG: list[tuple[list[Any], tuple[str | int, ...], str]] = [
    ([], ("f",), "list at least one value"),
    ([["x"]], ("f", 0), "a list inside a list"),
    ([{"prefx": "x"}], ("f", 0, "prefx"), "'prefx' is not known here; there is prefix, suffix"),
    ([{}], ("f", 0), "has 0"),
    ([{"prefix": "a", "suffix": "b"}], ("f", 0), "has 2"),
    (["ok", {"prefix": 5}], ("f", 1, "prefix"), "'prefix' takes a text"),
    ([{"prefix": {"wildcard": "x"}}], ("f", 0, "prefix", "wildcard"), "there is equals-ignore-case"),
    ([{"suffix": {"equals-ignore-case": 1}}], ("f", 0, "suffix", "equals-ignore-case"), "takes a text"),
    ([{"equals-ignore-case": ["x"]}], ("f", 0, "equals-ignore-case"), "takes a text"),
    ([{"wildcard": "a**b"}], ("f", 0, "wildcard"), "'**' at character 2"),
    ([{"wildcard": "a\\b"}], ("f", 0, "wildcard"), "backslash at character 2"),
    ([{"wildcard": "a\\"}], ("f", 0, "wildcard"), "backslash at character 2"),
    ([{"wildcard": "a*" * 100}], ("f", 0, "wildcard"), "more than 63 stars"),
    ([{"anything-but": []}], ("f", 0, "anything-but"), "excludes nothing"),
    ([{"anything-but": {"prefix": ""}}], ("f", 0, "anything-but", "prefix"), "nothing could match"),
    ([{"anything-but": {"prefix": ["a", 1]}}], ("f", 0, "anything-but", "prefix", 1), "takes a text"),
    ([{"anything-but": {"numeric": ["=", 1]}}], ("f", 0, "anything-but", "numeric"), "not known here"),
    ([{"anything-but": {"wildcard": ["a", "**"]}}], ("f", 0, "anything-but", "wildcard", 1), "'**'"),
    ([{"anything-but": [["x"]]}], ("f", 0, "anything-but", 0), "a list inside a list"),
    ([{"numeric": 5}], ("f", 0, "numeric"), 'like ["=", 5]'),
    ([{"numeric": [">"]}], ("f", 0, "numeric"), 'like ["=", 5]'),
    ([{"numeric": ["=>", 5]}], ("f", 0, "numeric", 0), "one of =, <, <=, >, >="),
    ([{"numeric": [">", "five"]}], ("f", 0, "numeric", 1), "a number is wanted"),
    ([{"numeric": [">", True]}], ("f", 0, "numeric", 1), "a number is wanted"),
    ([{"numeric": [">", float("nan")]}], ("f", 0, "numeric", 1), "a number is wanted"),
    ([{"numeric": [">", 0.12345678901234567]}], ("f", 0, "numeric", 1), "write it in quotes"),
    ([{"numeric": [">", 0, ">", 5]}], ("f", 0, "numeric"), "a lower and an upper bound"),
    ([{"numeric": ["=", 0, "<", 5]}], ("f", 0, "numeric"), "a lower and an upper bound"),
    ([{"numeric": [">", 5, "<", 5]}], ("f", 0, "numeric"), "no number is between 5 and 5"),
    ([{"exists": "yes"}], ("f", 0, "exists"), "true or false"),
    ([{"cidr": "10.0.0.0"}], ("f", 0, "cidr"), "10.0.0.0/24"),
    ([{"cidr": "10.0.0.0/33"}], ("f", 0, "cidr"), "10.0.0.0/24"),
    ([{"cidr": "10.0.0.0/255.255.255.0"}], ("f", 0, "cidr"), "10.0.0.0/24"),
    ([{"cidr": 10}], ("f", 0, "cidr"), "takes a text"),
    ([b"x"], ("f", 0), "a value is a text"),
    (["x" * 5000], ("f", 0), "4096 characters"),
    (["x"] * 10_001, ("f",), "10000 values"),
    ([{"anything-but": ["x"] * 10_001}], ("f", 0, "anything-but"), "10000 values"),
]


@pytest.mark.parametrize(("leaf", "path", "message"), WRONG, ids=lambda part: repr(part)[:60])
def test_a_wrong_leaf_is_refused_at_its_place(leaf: list[Any], path: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_pattern({"f": leaf})
    assert refused.value.path == path
    assert message in refused.value.message
