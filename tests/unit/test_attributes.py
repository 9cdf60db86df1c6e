"""DynamoDB's attribute values, exact in both directions, and the documents that they become."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.attribute_documents import document_number, to_document
from connector.attributes import (
    canonical_number,
    to_attribute,
    to_item,
    to_number,
    to_value,
    to_values,
)
from connector.documents import Numbers, encode_document
from connector.errors import DecodeError, DocumentError

DIGITS_38 = "12345678901234567890123456789012345678"


def code_of(attribute: Any) -> str:
    with pytest.raises(DecodeError) as of_values:
        to_value(attribute)
    with pytest.raises(DecodeError) as of_document:
        to_document({"a": attribute}, Numbers.NUMBER)
    assert of_values.value.code == of_document.value.code, "both ways of reading refuse it for the same reason"
    return of_values.value.code


def lists(levels: int) -> Any:
    attribute: Any = {"S": "x"}
    for _ in range(levels):
        attribute = {"L": [attribute]}
    return attribute


def maps(levels: int) -> Any:
    attribute: Any = {"S": "x"}
    for _ in range(levels):
        attribute = {"M": {"a": attribute}}
    return attribute


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ({"S": ""}, ""),
        ({"S": "a\x00b"}, "a\x00b"),
        ({"N": "5"}, 5),
        ({"N": "-5"}, -5),
        ({"N": "+5"}, 5),
        ({"N": "-0"}, 0),
        ({"N": "007"}, 7),
        ({"N": DIGITS_38}, int(DIGITS_38)),
        ({"N": "1" + "0" * 125}, 10**125),
        ({"N": "5.0"}, Decimal("5.0")),
        ({"N": "-1.25"}, Decimal("-1.25")),
        ({"N": "1E-130"}, Decimal("1E-130")),
        ({"N": "9.9e+125"}, Decimal("9.9E+125")),
        ({"N": "." + DIGITS_38}, Decimal("0." + DIGITS_38)),
        ({"B": "AP8Q"}, b"\x00\xff\x10"),
        ({"B": ""}, b""),
        ({"BOOL": False}, False),
        ({"NULL": True}, None),
        ({"M": {"a": {"L": [{"N": "1"}, {"S": "x"}]}}}, {"a": [1, "x"]}),
        ({"M": {}}, {}),
        ({"L": []}, []),
        ({"SS": ["a", ""]}, frozenset({"a", ""})),
        ({"NS": ["1", "2.5"]}, frozenset({1, Decimal("2.5")})),
        ({"BS": ["AQ==", ""]}, frozenset({b"\x01", b""})),
    ],
)
def test_an_attribute_value_has_its_python_value(attribute: Any, value: Any) -> None:
    read = to_value(attribute)

    assert read == value
    assert type(read) is type(value)


def test_an_integral_text_without_exponent_is_an_int_and_everything_else_keeps_its_exponent() -> None:
    assert type(to_number("5")) is int
    assert str(to_number("5.00")) == "5.00"
    assert str(to_number("5E3")) == "5E+3"


def test_all_38_digits_survive_where_the_default_decimal_context_would_round() -> None:
    text = "0.12345678901234567890123456789012345678"
    assert str(to_number(text)) == text


@pytest.mark.parametrize(
    ("attribute", "code"),
    [
        ({}, "attribute_shape"),
        ({"S": "a", "N": "1"}, "attribute_shape"),
        ("x", "attribute_shape"),
        (["S"], "attribute_shape"),
        (5, "attribute_shape"),
        (None, "attribute_shape"),
        ([0], "attribute_tag"),
        ({"X": "a"}, "attribute_tag"),
        ({"s": "a"}, "attribute_tag"),
        ({"S": 5}, "attribute_content"),
        ({"S": None}, "attribute_content"),
        ({"N": 5}, "attribute_content"),
        ({"B": 5}, "attribute_content"),
        ({"BOOL": "true"}, "attribute_content"),
        ({"BOOL": 1}, "attribute_content"),
        ({"NULL": False}, "attribute_content"),
        ({"NULL": None}, "attribute_content"),
        ({"M": []}, "attribute_content"),
        ({"L": {}}, "attribute_content"),
        ({"SS": "ab"}, "attribute_content"),
        ({"SS": [1]}, "attribute_content"),
        ({"NS": [1]}, "attribute_content"),
        ({"BS": [None]}, "attribute_content"),
        ({"N": ""}, "number_syntax"),
        ({"N": " 5"}, "number_syntax"),
        ({"N": "1_0"}, "number_syntax"),
        ({"N": "NaN"}, "number_syntax"),
        ({"N": "-Infinity"}, "number_syntax"),
        ({"N": "٣"}, "number_syntax"),
        ({"N": "1²"}, "number_syntax"),
        ({"N": "--5"}, "number_syntax"),
        ({"N": "1.2.3"}, "number_syntax"),
        ({"N": "1e99999"}, "number_syntax"),
        ({"N": "9" * 5000}, "number_syntax"),
        ({"N": "1" * 39}, "number_digits"),
        ({"N": "1E126"}, "number_range"),
        ({"N": "1e400"}, "number_range"),
        ({"N": "1E-131"}, "number_range"),
        ({"B": "not base64"}, "base64"),
        ({"B": "AQ"}, "base64"),
        ({"B": "AQ==AQ=="}, "base64"),
        ({"B": "ÄÖ=="}, "base64"),
        ({"SS": []}, "set_empty"),
        ({"SS": ["a", "a"]}, "set_duplicate"),
        ({"NS": ["1", "1.0"]}, "set_duplicate"),
        ({"BS": ["AQ==", "AQ=="]}, "set_duplicate"),
        ({"L": [{"X": 1}]}, "attribute_tag"),
        ({"M": {"a": {}}}, "attribute_shape"),
    ],
)
def test_what_is_no_attribute_value_is_refused_with_a_stable_code(attribute: Any, code: str) -> None:
    assert code_of(attribute) == code


def test_an_error_never_holds_the_value() -> None:
    with pytest.raises(DecodeError) as caught:
        to_value({"N": "secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("nested", [lists, maps])
def test_31_levels_around_a_scalar_are_read_and_32_are_refused_as_dynamodb_does(nested: Any) -> None:
    assert to_document({"a": nested(31)}, Numbers.NUMBER)
    value = to_values({"a": nested(31)})
    assert to_item(value) == {"a": nested(31)}
    assert code_of(nested(32)) == "nested_too_deep"


def test_two_thousand_levels_are_an_error_and_no_recursion() -> None:
    assert code_of(lists(2000)) == "nested_too_deep"


def test_values_nested_deeper_than_dynamodb_allows_have_no_attribute_value() -> None:
    value: Any = "x"
    for _ in range(32):
        value = [value]
    with pytest.raises(DocumentError) as caught:
        to_attribute(value)
    assert caught.value.code == "no_attribute_value"


@pytest.mark.parametrize(
    "value",
    [1.5, object(), {"a": 2.0}, frozenset(), frozenset({"a", 1}), 10**38 + 1, Decimal("NaN"), Decimal("1E+126")],
)
def test_what_dynamodb_cannot_hold_has_no_attribute_value(value: Any) -> None:
    with pytest.raises(DocumentError) as caught:
        to_attribute(value)
    assert caught.value.code == "no_attribute_value"


def test_sets_are_written_sorted_so_that_equal_values_give_equal_json() -> None:
    assert to_item({"n": {10, Decimal("9.5"), -1}, "s": {"b", "a"}, "b": {b"\x02", b"\x01"}}) == {
        "n": {"NS": ["-1", "9.5", "10"]},
        "s": {"SS": ["a", "b"]},
        "b": {"BS": ["AQ==", "Ag=="]},
    }


def test_an_int_too_long_to_print_has_no_attribute_value() -> None:
    with pytest.raises(DocumentError) as caught:
        to_attribute(10**5000)
    assert caught.value.code == "no_attribute_value"


# Documents


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("-5", -5),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("129.95", 129.95),
        ("-0.1", -0.1),
        ("5.0", 5.0),
        ("1E-7", 1e-7),
        ("1" + "0" * 21, 1e21),
        ("0.30000000000000004", 0.30000000000000004),
    ],
)
def test_a_number_that_64_bits_or_a_double_hold_is_one_under_every_policy(text: str, number: float) -> None:
    for policy in Numbers:
        document = document_number(text, policy)
        assert document == number
        assert type(document) is type(number)


@pytest.mark.parametrize("text", ["9223372036854775808", "12345678901234567890.123456789012345678", "0." + "1" * 38])
def test_a_number_that_neither_holds_follows_the_policy(text: str) -> None:
    kept = document_number(text, Numbers.NUMBER)
    assert kept == Decimal(text)
    assert encode_document({"n": kept}) == b'{"n":' + text.encode() + b"}"
    assert document_number(text, Numbers.STRING) == text
    with pytest.raises(DocumentError) as caught:
        document_number(text, Numbers.REJECT)
    assert caught.value.code == "number_not_exact"


def test_the_policy_reaches_numbers_in_maps_lists_and_sets() -> None:
    big = "123456789012345678901"
    item = {"m": {"M": {"n": {"N": big}}}, "l": {"L": [{"N": big}]}, "s": {"NS": [big, "1"]}}

    assert to_document(item, Numbers.STRING) == {"m": {"n": big}, "l": [big], "s": [1, big]}


def test_a_document_has_base64_for_binary_and_sorted_lists_for_sets() -> None:
    item = {
        "binary": {"B": "AP8Q"},
        "strings": {"SS": ["b", "a"]},
        "numbers": {"NS": ["10", "9.5", "-1"]},
        "binaries": {"BS": ["Ag==", "AQI="]},
        "flag": {"BOOL": True},
        "nothing": {"NULL": True},
        "map": {"M": {"list": {"L": [{"S": "x"}, {"NULL": True}]}}},
    }
    assert to_document(item, Numbers.NUMBER) == {
        "binary": "AP8Q",
        "strings": ["a", "b"],
        "numbers": [-1, 9.5, 10],
        "binaries": ["AQI=", "Ag=="],
        "flag": True,
        "nothing": None,
        "map": {"list": ["x", None]},
    }


# Properties

numbers = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.builds(
        lambda digits, exponent: Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), exponent)),
        st.integers(-(10**38) + 1, 10**38 - 1).filter(bool),
        st.integers(-130, 80),
    ).filter(lambda number: -130 <= number.adjusted() <= 125),
)
scalars = st.one_of(st.text(), numbers, st.binary(), st.booleans(), st.none())
sets = st.one_of(
    st.frozensets(st.text(), min_size=1), st.frozensets(numbers, min_size=1), st.frozensets(st.binary(), min_size=1)
)
values = st.recursive(
    scalars | sets, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
tags = st.sampled_from(["S", "N", "B", "M", "L", "SS", "NS", "BS", "NULL", "BOOL", "a"])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tags, inner, max_size=2),
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_values_come_back_from_attribute_values_unchanged(item: dict[str, Any]) -> None:
    through_json = json.loads(json.dumps(to_item(item)))

    assert to_values(through_json) == item


@given(numbers)
def test_a_number_keeps_its_value_and_a_document_never_rounds_it(number: int | Decimal) -> None:
    text = str(number)
    assert to_number(text) == number
    kept = document_number(text, Numbers.NUMBER)
    assert Decimal(repr(kept) if isinstance(kept, float) else kept) == number


@given(numbers, st.integers(0, 5))
def test_equal_numbers_have_one_canonical_text(number: int | Decimal, zeros: int) -> None:
    sign, digits, exponent = Decimal(number).as_tuple()
    assert isinstance(exponent, int)
    padded = Decimal((sign, digits + (0,) * zeros, exponent - zeros))

    assert canonical_number(padded) == canonical_number(number)
    assert Decimal(canonical_number(number)) == number
    assert "E" not in canonical_number(number)


@given(any_json)
def test_any_json_is_read_or_refused_as_a_decode_error(attribute: Any) -> None:
    for read in (to_value, lambda value: to_document({"a": value}, Numbers.NUMBER)):
        with suppress(DecodeError):
            read(attribute)


@given(st.binary())
def test_binary_stays_the_same_base64_in_a_document(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    assert to_document({"a": {"B": text}}, Numbers.NUMBER) == {"a": text}
