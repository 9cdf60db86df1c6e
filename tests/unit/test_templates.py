"""Templates: the text of values, the places of changes, and what hostile templates get."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import ConfigError, TemplateError
from connector.templates import Places, Template, compile_template, places, places_many
from tests.unit.filters.builders import INSERT, MODIFY, REMOVE, change, decoded

ITEM: dict[str, Any] = {
    "pk": "C#1",
    "sk": "O#7",
    "n": Decimal("12345678901234567890123456789012345678"),
    "address": {"city": "Ålesund", "lines": ["a", {"b": "c"}], "0": "zero"},
    "tags": frozenset({"x"}),
    "a.b": "dotted",
    "$x": "dollar",
    "a{}b": "braces",
    "aws:rep:updateregion": "eu",
    "nothing": None,
    "empty": "",
    "0": "number",
    "__class__": "an attribute",
    "half": "\ud800",
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{pk}|{sk}", "C#1|O#7"),
        ("order:{sk}", "order:O#7"),
        ("{{{pk}}}:orders", "{C#1}:orders"),
        ("{{pk}}", "{pk}"),
        ("}}{{", "}{"),
        ("{address.city}", "Ålesund"),
        ("{address.lines.0}", "a"),
        ("{address.lines.1.b}", "c"),
        ("{address.0}", "zero"),
        ("{0}", "number"),
        (r"{a\.b}", "dotted"),
        (r"{\$x}", "dollar"),
        (r"{a\{\}b}", "braces"),
        ("{aws:rep:updateregion}", "eu"),
        ("{__class__}", "an attribute"),
        ("{pk}{empty}", "C#1"),
        (r"back\slash {pk}", r"back\slash C#1"),
    ],
)
def test_a_template_is_filled(text: str, result: str) -> None:
    assert compile_template(text).render(ITEM) == result


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-5, "-5"),
        (10**30, "1" + "0" * 30),
        (Decimal("5"), "5"),
        (Decimal("5.00"), "5"),
        (Decimal("500"), "500"),
        (Decimal("5E+3"), "5000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("-0.0"), "0"),
        (Decimal("-0.10"), "-0.1"),
        (Decimal("0.10000000000000000000000000000000000001"), "0.10000000000000000000000000000000000001"),
        (1.5, "1.5"),
        (1e22, "1" + "0" * 22),
        (True, "true"),
        (False, "false"),
        (b"\xff\xfe?", "__4_"),
        (b"\x00", "AA"),
        ("5.00", "5.00"),
    ],
)
def test_each_value_has_one_text(value: Any, text: str) -> None:
    assert compile_template("{v}").render({"v": value}) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=20) | st.integers(-(10**40), 10**40).map(Decimal))
def test_equal_numbers_have_equal_texts_and_lose_nothing(number: Decimal) -> None:
    text = compile_template("{v}").render({"v": number})
    assert Decimal(text) == number
    assert "E" not in text
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    assert text == compile_template("{v}").render({"v": Decimal((sign, (*digits, 0), exponent - 1))})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{absent}", "attribute_missing"),
        ("{address.absent}", "attribute_missing"),
        ("{address.lines.2}", "attribute_missing"),
        ("{address.lines.-1}", "attribute_missing"),
        ("{address.lines.x}", "attribute_missing"),
        ("{address.lines." + "9" * 400 + "}", "attribute_missing"),
        ("{pk.0}", "attribute_missing"),
        ("{pk.__class__}", "attribute_missing"),
        ("{0.__class__}", "attribute_missing"),
        ("{address.lines.__class__.__mro__}", "attribute_missing"),
        ("{pk!r}", "attribute_missing"),
        ("{pk:>10}", "attribute_missing"),
        ("{nothing}", "attribute_has_no_text"),
        ("{nothing.x}", "attribute_missing"),
        ("{address}", "attribute_has_no_text"),
        ("{address.lines}", "attribute_has_no_text"),
        ("{tags}", "attribute_has_no_text"),
        ("{empty}", "result_empty"),
        ("{half}", "result_not_unicode"),
    ],
)
def test_a_template_that_cannot_be_filled_says_why_and_tells_no_values(text: str, code: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template(text).render(ITEM)
    assert refused.value.code == code
    assert "C#1" not in refused.value.message


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("inf"), object()])
def test_what_is_no_number_has_no_text(value: Any) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template("{v}").render({"v": value})
    assert refused.value.code == "attribute_has_no_text"


@pytest.mark.parametrize(
    "value", ["x" * 8193, "å" * 4097, Decimal("1E+999999"), Decimal("1E-999999"), 10**5000], ids=lambda _: ""
)
def test_a_result_too_long_is_refused(value: Any) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template("{v}").render({"v": value})
    assert refused.value.code == "result_too_long"


def test_the_longest_result_may_be_set_and_is_counted_in_bytes() -> None:
    short = compile_template("{v}", result_bytes_max=4)
    assert short.render({"v": "åå"}) == "åå"
    with pytest.raises(TemplateError):
        short.render({"v": "ååå"})


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("{pk", 1, "never closed"),
        ("a{pk", 2, "never closed"),
        ("pk}", 3, "without its '{'"),
        ("{}", 2, "a name is missing"),
        ("{a.}", 4, "a name is missing"),
        ("{.a}", 2, "a name is missing"),
        ("{a..b}", 4, "a name is missing"),
        ("{a{b}}", 3, "inside braces"),
        ("{ pk }", 6, "write {pk}"),
        (r"{a\b}", 3, "a backslash"),
        ("{a\\", 3, "a backslash"),
        ("{$nope}", 2, "there are $event_name, $shard, $event_id, $version, $timestamp_ms"),
        ("{$version.x}", 2, "is not known"),
        ("x{" + ".".join("a" * 40) + "}", 2, "more than 32 names"),
    ],
)
def test_a_wrong_template_is_refused_with_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compile_template(text)
    assert f"column {column}:" in refused.value.message
    assert message in refused.value.message


@pytest.mark.parametrize("text", ["", "x" * 5000, "{a}" * 65])
def test_a_template_has_limits(text: str) -> None:
    with pytest.raises(ConfigError):
        compile_template(text)


def test_values_are_escaped_and_the_template_itself_is_not() -> None:
    template = compile_template("a/{v}/{m.x}/{$event_id}", escape=lambda text: quote(text, safe=""))
    assert template.render({"v": "b/c", "m": {"x": "?"}}, change()) == "a/b%2Fc/%3F/event-1"


def test_names_of_the_change_are_filled_and_are_no_attributes() -> None:
    template = compile_template("{$event_name} {$shard} {$event_id} {$version} {$timestamp_ms}")
    assert template.render({}, change(REMOVE)) == "REMOVE orders/0 event-1 99 1700000000000"
    assert template.attributes == frozenset()


def test_the_attributes_used_are_the_top_level_ones() -> None:
    assert compile_template(r"{a.b}{c}{\$d}{$shard}{a}").attributes == {"a", "c", "$d"}


@given(st.text("{}.\\$a0 ", max_size=12) | st.text(max_size=40))
def test_any_text_at_all_is_a_template_or_a_known_error(text: str) -> None:
    with contextlib.suppress(ConfigError, TemplateError):
        assert compile_template(text).render(ITEM, change())


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_a_text_with_doubled_braces_is_itself(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert compile_template(doubled).render({}) == text


BY_KEY = compile_template("order:{pk}")
BY_CUSTOMER = compile_template("customer:{customer}:orders")


def test_the_key_alone_decides_a_place_without_decoding_an_image() -> None:
    for name, expected in (
        (INSERT, Places("order:C#1", None)),
        (MODIFY, Places("order:C#1", "order:C#1")),
        (REMOVE, Places(None, "order:C#1")),
    ):
        it = change(name, new={"pk": "C#1"}, old={"pk": "C#1"})
        assert places(BY_KEY, it) == expected
        assert decoded(it) == []


def test_an_item_that_moves_house_has_two_places() -> None:
    it = change(MODIFY, new={"customer": "B"}, old={"customer": "A"})
    assert places(BY_CUSTOMER, it) == Places("customer:B:orders", "customer:A:orders")


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (change(INSERT, new={"customer": "B"}), Places("customer:B:orders", None)),
        (change(MODIFY, new={"customer": "B"}), Places("customer:B:orders", None)),
        (change(REMOVE, old={"customer": "A"}), Places(None, "customer:A:orders")),
        (change(MODIFY, new={"customer": "B"}, old={"other": 1}), Places("customer:B:orders", None)),
        (change(MODIFY, new={"customer": "B"}, old={"customer": None}), Places("customer:B:orders", None)),
        (change(MODIFY, new={"customer": "B"}).as_removal(), Places(None, "customer:B:orders")),
    ],
)
def test_a_place_that_was_not_or_is_not_known_is_none(it: Any, expected: Places) -> None:
    assert places(BY_CUSTOMER, it) == expected


@pytest.mark.parametrize(
    ("it", "code"),
    [
        (change(INSERT), "image_missing"),
        (change(MODIFY, old={"customer": "A"}), "image_missing"),
        (change(REMOVE), "image_missing"),
        (change(REMOVE, old={}), "attribute_missing"),
        (change(MODIFY, new={}, old={"customer": "A"}), "attribute_missing"),
    ],
)
def test_a_place_that_is_needed_and_cannot_be_known_is_an_error(it: Any, code: str) -> None:
    with pytest.raises(TemplateError) as refused:
        places(BY_CUSTOMER, it)
    assert refused.value.code == code


def test_several_templates_decode_each_image_once() -> None:
    templates: list[Template] = [BY_KEY, BY_CUSTOMER, compile_template("{pk}:{customer}"), compile_template("{city}")]
    it = change(MODIFY, new={"customer": "B", "city": "Oslo"}, old={"customer": "A", "city": "Bergen"})
    assert places_many(templates, it) == [
        Places("order:C#1", "order:C#1"),
        Places("customer:B:orders", "customer:A:orders"),
        Places("C#1:B", "C#1:A"),
        Places("Oslo", "Bergen"),
    ]
    assert decoded(it) == ["values new", "values old"]
