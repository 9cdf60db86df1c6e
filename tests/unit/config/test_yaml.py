"""YAML's traps, each refused at its place with what to write instead."""

from __future__ import annotations

import pytest

from connector.config.yaml import BYTES_MAX, DEPTH_MAX, Document, Place, parse


def read(text: str | bytes) -> Document:
    return parse(text.encode() if isinstance(text, str) else text, "m.yaml")


def only_error(text: str | bytes) -> tuple[int | None, int | None, str]:
    (error,) = read(text).errors
    return error.line, error.column, error.message


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("0o17", 15),
        ("0xff", 255),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("text", "text"),
        ("'no'", "no"),
        ('"012"', "012"),
        ('"12:30:45"', "12:30:45"),
        ("localhost:9092", "localhost:9092"),
        ("1.2.3.4", "1.2.3.4"),
        ("=", "="),
        ("north", "north"),
        ("y", "y"),
        ("12345678901234567890123456789012345678", 12345678901234567890123456789012345678),
    ],
)
def test_plain_values_mean_what_yaml_1_2_says(written: str, value: object) -> None:
    document = read(f"a: {written}\n")
    assert not document.errors
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("no", "write 'no' in quotes, or false"),
        ("Yes", "write 'Yes' in quotes, or true"),
        ("ON", "write 'ON' in quotes, or true"),
        ("off", "write 'off' in quotes, or false"),
        ("012", "leave the zero out, write 0o…"),
        ("-007", "leave the zero out"),
        ("12:30:45", "put them in quotes"),
        ("1:30", "put them in quotes"),
        ("2024-01-31", "put it in quotes"),
        ("2024-01-31T10:00:00Z", "put it in quotes"),
        (".inf", "write a number, or quotes"),
        ("-.Inf", "write a number, or quotes"),
        (".nan", "write a number, or quotes"),
        ("1_000", "leave the underscores out"),
        ("0b11", "write it in decimal"),
        ("1e400", "too large"),
        ("0.1234567890123456789", "more digits than"),
        ("9" * 5000, "at most 100 digits"),
        ("!!str x", "a tag (!name) is not allowed"),
        ("!!python/object/apply:os.system [id]", "a tag (!name) is not allowed"),
        ("!!python/name:os.system", "a tag (!name) is not allowed"),
        ("! x", "a tag (!name) is not allowed"),
        ("&anchor x", "an anchor (&name) is not allowed"),
        ("*other", "an alias (*name) is not allowed"),
        ('"\\0"', "a NUL"),
        ('"\\ud800"', "half of a surrogate pair"),
    ],
)
def test_a_value_that_readers_disagree_about_is_refused_at_its_place(written: str, advice: str) -> None:
    line, column, message = only_error(f"b: 1\na: {written}\n")
    assert (line, column) == (2, 4)
    assert advice in message


@pytest.mark.parametrize("written", ["012", "12:30:45", "2024-01-31", "1_000", "1e400"])
def test_a_refused_number_is_not_repeated_for_it_may_be_a_password(written: str) -> None:
    assert written not in only_error(f"password: {written}\n")[2]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("12: x", "the key '12' is not a text: write it in quotes"),
        ("true: x", "the key 'true' is not a text"),
        ("~: x", "the key '~' is not a text"),
        ("on: x", "write 'on' in quotes"),
        ("012: x", "leave the zero out"),
        ("? [a, b]\n: x", "a key is a text, not a mapping or a list"),
        ("? {a: b}\n: x", "a key is a text, not a mapping or a list"),
        ("!!str a: x", "tags (!name) and anchors (&name) are not allowed"),
        ("<<: {a: 1}", "a merge key (<<) is not allowed"),
        ('"\\0": x', "a NUL"),
    ],
)
def test_a_key_that_is_no_text_is_refused(text: str, advice: str) -> None:
    document = read(f"{text}\nnext: 1\n")
    assert [error.line for error in document.errors] == [1]
    assert advice in document.errors[0].message
    assert document.value["next"] == 1, "reading goes on behind the key's value"


def test_a_duplicate_key_names_the_line_of_the_first_and_changes_nothing() -> None:
    document = read("a:\n  b: 1\n  c: [x]\n  b: {d: 2}\n")
    (error,) = document.errors
    assert (error.line, error.column, error.path) == (4, 3, ("a", "b"))
    assert "already, in line 2" in error.message
    assert document.value == {"a": {"b": 1, "c": ["x"]}}


def test_an_alias_bomb_is_never_followed() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    document = read(bomb)
    assert len([error for error in document.errors if "an alias" in error.message]) == 8 * 9
    assert document.value["i"] == [None] * 9


def test_a_tagged_object_is_never_made() -> None:
    document = read('a: !!python/object/apply:os.system ["exit 1"]\n')
    assert document.value == {"a": ["exit 1"]}
    assert document.faulty == {("a",)}


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_ends_at_its_limit(opening: str) -> None:
    document = read(opening * 100_000)
    assert not document.complete
    assert f"nested deeper than {DEPTH_MAX} levels" in document.errors[-1].message


def test_nesting_counts_in_skipped_values_too() -> None:
    document = read("a: 1\na: " + "[" * 1000)
    assert f"nested deeper than {DEPTH_MAX} levels" in document.errors[-1].message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"a: 1\n---\nb: 2\n", "a second document"),
        (b"%YAML 1.1\n---\na: 1\n", "leave the % directives out"),
        (b"%TAG ! tag:x,2000:\n---\na: 1\n", "leave the % directives out"),
        (b"a: 1\nb: \xff\n", "not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"a: \x1b[31m\n", "a character that YAML does not allow"),
        (b'a: "\\UFFFFFFFF"\n', "a character that does not exist"),
        (b"a: 1\n\tb: 2\n", "indent with spaces, not tabs"),
        (b"a: {url: ${URL}}\n", 'write "${NAME}" in quotes'),
        (b"a: [1\n", "not YAML"),
        (b"a: 'x\n", "not YAML"),
        (b" " * (BYTES_MAX + 1), "larger than"),
    ],
)
def test_what_is_no_yaml_of_ours_stops_the_reading(raw: bytes, message: str) -> None:
    document = read(raw)
    assert not document.complete
    assert message in document.errors[-1].message
    assert document.errors[-1].file == "m.yaml"


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n").value == {"a": 1}


def test_all_errors_are_found_and_not_only_the_first() -> None:
    document = read("a: no\nb: 012\nc: *x\nd: &y 1\nd: 2\n")
    assert [error.line for error in document.errors] == [1, 2, 3, 4, 5]


def test_every_key_and_value_has_a_place() -> None:
    document = read("a:\n  b: [x, {c: y}]\n")
    assert document.place(("a", "b", 0)) == Place(2, 7)
    assert document.place(("a", "b", 1, "c")) == Place(2, 14)
    assert document.place(("a", "b", 1, "c"), key=True) == Place(2, 11)
    assert document.place(("a",)) == Place(1, 1), "a mapping is found at its key"
    assert document.place(("a", "b", 1, "missing")) == Place(2, 10), "what is not written, at its parent"
