"""Hostile Debezium records: keys that are none, tombstones, numbers that JSON allows and doubles do not hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.integration.hostile.cases import (
    DOOR,
    MARK,
    Case,
    Exact,
    among_good_ones,
    json_text,
    refused_where_images_are_read,
)


def row(
    name: str,
    members: bytes = b"",
    document: dict[str, Any] | None = None,
    *,
    op: bytes = b"c",
    refused: dict[str, str] | None = None,
) -> Case:
    """A row with these columns (raw JSON members) beside its key, as ``document`` shows it."""
    pk = f"{name}-{MARK}"
    image = json_text({"pk": pk, "note": MARK})[:-1] + (b", " + members if members else b"") + b"}"
    images = b'"before":%b,"after":null' % image if op == b"d" else b'"before":null,"after":%b' % image
    return Case(
        name=name,
        value=b'{"op":"%b","source":{"ts_ms":1790000000000},%b}' % (op, images),
        key=json_text({"pk": pk}),
        pk=pk,
        item=None if op == b"d" else {"pk": pk, "note": MARK, **(document or {})},
        refused=refused or {},
        removes=op == b"d",
    )


def at_the_door(name: str, code: str, *, key: bytes | None = b'{"pk":"k"}', value: bytes | None = None) -> Case:
    """A record that nobody can read; a sound row unless another value is given."""
    return Case(name=name, value=value or row(name).value, key=key, refused={DOOR: code})


def nothing(name: str, value: bytes | None, key: bytes | None = b'{"pk":"k"}') -> Case:
    """A record that rightly carries no change."""
    return Case(name=name, value=value, key=key, routes=frozenset())


def good() -> Iterator[Case]:
    """Sound rows without end."""
    for number in count(1):
        yield row(f"good-{number}", b'"count":%d' % number, {"count": number})


def keys() -> Iterator[Case]:
    """Null keys, and keys that name no row."""
    for name, key, code in (
        ("none", None, "no_key"),
        ("empty", b"", "no_key"),
        ("null", b"null", "not_an_object"),
        ("no-json", b"\xff\x00hunter2-value", "not_utf8"),
        ("text", b"hunter2-value", "not_json"),
        ("no-column", b"{}", "no_key"),
        ("null-column", b'{"pk":null}', "key_empty"),
        ("list-column", b'{"pk":[1]}', "key_type"),
        ("twice", b'{"pk":1,"pk":2}', "key_duplicate"),
        ("infinite", b'{"pk":1e9999}', "number_range"),
        ("deep", b'{"pk":' + b"[" * 100_000, "nested_too_deep"),
    ):
        yield at_the_door(f"key-{name}", code, key=key)


def tombstones() -> Iterator[Case]:
    """A delete and the tombstone behind it, in each of its spellings; one whose row was never there."""
    yield row("deleted")
    yield Case(**{**vars(row("deleted", op=b"d")), "name": "delete"})
    key = row("deleted").key
    yield nothing("tombstone", None, key)
    yield nothing("tombstone-null", b"null", key)
    yield nothing("tombstone-payload", b'{"schema":null,"payload":null}', key)
    yield nothing("tombstone-alone", None)
    yield nothing("tombstone-without-key", None, None)
    yield row("never-there", op=b"d")
    blind = b'{"op":"d","before":null,"after":null,"source":{"ts_ms":1790000000000}}'
    yield Case(**{**vars(row("blind-delete", op=b"d")), "value": blind})
    yield row("update-first", op=b"u")


def values() -> Iterator[Case]:
    """What a row may hold in JSON, and no double or no document can."""
    inexact = {"search": "mapper_parsing_exception"}  # the server's own word: it is sent with all of its digits
    yield row("1e400", b'"long":1e400', {"long": Exact("1e400")}, refused=inexact)
    yield row("38-digits", b'"long":%b' % (b"9" * 38), {"long": Exact("9" * 38)}, refused=inexact)
    yield row("digits", b'"a":' + b"9" * 5000, refused=refused_where_images_are_read("number_range"))
    yield row("infinite", b'"a":1e999999', refused=refused_where_images_are_read("number_range"))
    unknown = refused_where_images_are_read("value_unavailable")
    yield row("unavailable", b'"a":"__debezium_unavailable_value"', refused=unknown)
    deep = b'"a":' + b"[" * 100 + b"]" * 100
    yield row("nested-100", deep, refused=refused_where_images_are_read("nested_too_deep"))
    yield at_the_door("nested", "nested_too_deep", value=row("x", b'"a":' + b"[" * 100_000 + b"]" * 100_000).value)
    yield at_the_door("nan", "not_json", value=row("x", b'"a":NaN').value)
    yield at_the_door("surrogate", "not_json", value=row("x", rb'"a":"\ud800"').value)
    yield row("twice", b'"a":"first","a":"last"', {"a": "last"})
    yield row("nul", rb'"a":"\u0000"', {"a": "\0"})


def envelopes() -> Iterator[Case]:
    """Unknown operations, images that are missing, bytes that are no envelope."""
    for name, value, code in (
        ("unknown-op", b'{"op":"x","after":{}}', "unknown_event_name"),
        ("no-op", b'{"after":{}}', "no_envelope"),
        ("no-image", b'{"op":"c","after":null}', "no_image"),
        ("image-list", b'{"op":"c","after":[]}', "wrong_shape"),
        ("flattened", b'{"id":1,"note":"hunter2-value"}', "no_envelope"),
        ("schema-text", b'{"schema":"hunter2-value","payload":{"op":"c","after":{}}}', "wrong_shape"),
        ("time", b'{"op":"c","after":{},"source":{"ts_ms":9e99}}', "wrong_shape"),
        ("avro", b"\x00\x00\x00\x00\x01hunter2-value", "not_json"),
    ):
        yield at_the_door(name, code, value=value)
    yield at_the_door("empty", "not_json", value=b" ")


def all_cases() -> list[Case]:
    """Every row, each hostile record between good ones."""
    return among_good_ones([case for part in (keys(), tombstones(), values(), envelopes()) for case in part], good())
