"""Hostile DynamoDB records: one function a row of the catalogue, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from tests.integration.hostile.cases import (
    DOOR,
    INVALIDATE,
    MARK,
    ROUTES,
    START_S,
    Case,
    Exact,
    among_good_ones,
    json_text,
    refused_where_images_are_read,
)

SQL = 'x"; drop'
DEEP = 100_000
MEGABYTE = "x" * 1_000_000
CHOSEN = "chosen"
"""The route whose index and id the items choose; only cases for it take it."""

MATCHED = "matched"
"""The route whose filter reads images."""

Refused = Mapping[str, str]


def change(
    name: str,
    attributes: Mapping[str, Any] | bytes | None = None,
    document: Mapping[str, Any] | None = None,
    *,
    event_name: str = "INSERT",
    pk: str | None = None,
    event_id: str | None = None,
    refused: Refused | None = None,
) -> Case:
    """An item with these attributes (typed, or as raw JSON members), as ``document`` shows them."""
    pk = f"{name}-{MARK}" if pk is None else pk
    event_id = name if event_id is None else event_id
    keys = json_text({"pk": {"S": pk}})
    image = b""
    if attributes is not None:
        members = attributes if isinstance(attributes, bytes) else json_text(attributes)[1:-1]
        base = json_text({"pk": {"S": pk}, "note": {"S": MARK}})[:-1]
        image = b',"NewImage":' + b", ".join([base, *([members] if members else [])]) + b"}"
    return Case(
        name=name,
        value=b'{"eventID":%b,"eventName":%b,"dynamodb":{"ApproximateCreationDateTime":%d,"Keys":%b%b}}'
        % (json_text(event_id), json_text(event_name), START_S, keys, image),
        pk=pk,
        event_id=event_id,
        item=None if attributes is None else {"pk": pk, "note": MARK, **(document or {})},
        refused=refused or {},
        removes=event_name == "REMOVE",
    )


def at_the_door(name: str, value: bytes, code: str) -> Case:
    """A record that nobody can read."""
    return Case(name=name, value=value, pk=f"{name}-{MARK}", refused={DOOR: code})


def with_keys(name: str, keys: bytes, code: str) -> Case:
    """A record whose key is none."""
    return at_the_door(name, b'{"eventName":"INSERT","dynamodb":{"Keys":%b,"NewImage":{}}}' % keys, code)


def good() -> Iterator[Case]:
    """Sound records without end."""
    for number in count(1):
        yield change(f"good-{number}", {"count": {"N": str(number)}}, {"count": number})


def also_refused_by_the_filter(case: Case) -> Case:
    """Not even a filter can read its image."""
    refused = {**case.refused, **dict.fromkeys((MATCHED, CHOSEN), case.refused["audit"])}
    return replace(case, refused=refused, routes=case.routes | {MATCHED, CHOSEN})


def _sound_key() -> bytes:
    return json_text({"pk": {"S": f"k-{MARK}"}})


def json_traps() -> Iterator[Case]:
    """Nesting, numbers, duplicates, surrogates, U+0000, byte order marks, UTF-16."""
    bomb = b"[" * DEEP + b"]" * DEEP
    yield at_the_door("nested-json", bomb, "wrong_shape")
    yield at_the_door("nested-objects", b'{"x":' * DEEP, "nested_too_deep")
    yield at_the_door("nested-image", change("x", b'"a":' + bomb).value or b"", "nested_too_deep")
    levels = b'{"L":[' * 2000 + b'{"S":"x"}' + b"]}" * 2000
    yield at_the_door("nested-lists", change("x", b'"a":' + levels).value or b"", "nested_too_deep")
    lists = b'{"L":[' * 100 + b'{"S":"x"}' + b"]}" * 100
    yield change("nested-100", b'"a":' + lists, refused=refused_where_images_are_read("nested_too_deep"))
    digits = b"9" * 5000
    yield change("digits-text", b'"a":{"N":"' + digits + b'"}', refused=refused_where_images_are_read("number_syntax"))
    yield also_refused_by_the_filter(
        change("digits", b'"a":{"N":' + digits + b"}", refused=refused_where_images_are_read("number_range"))
    )
    body = b'{"eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":%b,"Keys":%b}}'
    yield at_the_door("digits-time", body % (digits, _sound_key()), "number_range")
    yield at_the_door("infinite-time", body % (b"1e400", _sound_key()), "number_range")
    yield at_the_door("late-time", body % (b"1e300", _sound_key()), "time_out_of_range")
    yield change("1e400-text", b'"a":{"N":"1e400"}', refused=refused_where_images_are_read("number_range"))
    yield also_refused_by_the_filter(
        change("1e400", b'"a":{"N":1e400}', refused=refused_where_images_are_read("number_range"))
    )
    for word in (b"NaN", b"Infinity", b"-Infinity"):
        yield at_the_door(word.decode(), change("x", b'"a":{"N":%b}' % word).value or b"", "not_json")
    yield change("nan-text", b'"a":{"N":"NaN"}', refused=refused_where_images_are_read("number_syntax"))
    yield change("twice", b'"a":{"S":"first"},"a":{"S":"last"}', {"a": "last"})
    yield with_keys("twice-in-key", b'{"pk":{"S":"first"},"pk":{"S":"last"}}', "key_duplicate")
    for name, escape in (("high", rb"\ud800"), ("low", rb"\udc00"), ("swapped", rb"\udc00\ud800")):
        image = b'"a":{"S":"' + escape + b'"}'
        yield at_the_door(f"surrogate-{name}", change("x", image).value or b"", "not_json")
    yield with_keys("surrogate-in-key", rb'{"pk":{"S":"\ud800"}}', "not_json")
    yield change("nul", {"nul": {"S": f"a\0{MARK}"}}, {"nul": f"a\0{MARK}"})
    yield change("nul-in-key", {}, pk=f"nul\0{MARK}")
    sound = change("x", {}).value or b""
    yield at_the_door("byte-order-mark", b"\xef\xbb\xbf" + sound, "not_utf8")
    yield at_the_door("utf-16", sound.decode().encode("utf-16"), "not_utf8")
    yield at_the_door("utf-16-le", sound.decode().encode("utf-16-le"), "not_json")
    yield at_the_door("latin-1", sound.replace(MARK.encode(), b"\xe9"), "not_utf8")
    yield at_the_door("no-json", b"hunter2-value, not JSON", "not_json")


def numbers() -> Iterator[Case]:
    """38 digits: exact where they can be, refused where they cannot, never rounded."""
    inexact = {"search": "number_not_exact"}
    for name, text in (
        ("38-digits", "12345678901234567890.123456789012345678"),
        ("38-digits-whole", "12345678901234567890123456789012345678"),
        ("28-digits-and-one", "1.0000000000000000000000000001"),
        ("largest", "9.9999999999999999999999999999999999999E+125"),
    ):
        yield change(name, {"exact": {"N": text}}, {"exact": Exact(text)}, refused=inexact)
    yield change("39-digits", {"a": {"N": "1" * 39}}, refused=refused_where_images_are_read("number_digits"))
    for last in "89":  # as doubles these two are one
        digits = "1234567890123456789012345678901234567" + last
        keys = json_text({"pk": {"N": digits}})
        yield Case(
            name=f"number-key-{last}",
            value=b'{"eventID":"number-key-%b","eventName":"INSERT","dynamodb":{"Keys":%b,"NewImage":%b}}'
            % (last.encode(), keys, keys),
            pk=digits,
            event_id=f"number-key-{last}",
            item={"pk": Exact(digits)},
            refused=inexact,
        )


def attribute_traps() -> Iterator[Case]:
    """Unknown tags, empty values, null keys, images that are missing, unknown event names."""
    for name, attribute, code in (
        ("unknown-tag", {"X": MARK}, "attribute_tag"),
        ("two-tags", {"S": MARK, "N": "1"}, "attribute_shape"),
        ("no-tag", {}, "attribute_shape"),
        ("untyped", MARK, "attribute_shape"),
        ("content", {"S": 5}, "attribute_content"),
        ("null-false", {"NULL": False}, "attribute_content"),
        ("empty-set", {"SS": []}, "set_empty"),
        ("set-twice", {"SS": ["a", "a"]}, "set_duplicate"),
        ("base64", {"B": "%%%"}, "base64"),
    ):
        yield change(name, {"a": attribute}, refused=refused_where_images_are_read(code))
    empty = {"s": {"S": ""}, "b": {"B": ""}, "l": {"L": []}, "m": {"M": {}}, "null": {"NULL": True}}
    yield change("empty-values", empty, {"s": "", "b": "", "l": [], "m": {}, "null": None})
    for name, keys, code in (
        ("keys-null", b"null", "wrong_shape"),
        ("keys-none", b"{}", "no_keys"),
        ("key-empty", b'{"pk":{"S":""}}', "key_empty"),
        ("key-null", b'{"pk":{"NULL":true}}', "wrong_shape"),
        ("key-list", b'{"pk":{"L":[]}}', "wrong_shape"),
    ):
        yield with_keys(name, keys, code)
    yield at_the_door("keys-missing", b'{"eventName":"INSERT","dynamodb":{}}', "no_keys")
    yield at_the_door("body-null", b'{"eventName":"INSERT","dynamodb":null}', "no_body")
    for name, event_name in (("unknown", b'"UPSERT"'), ("lower", b'"insert"'), ("number", b"5"), ("null", b"null")):
        value = b'{"eventName":%b,"dynamodb":{"Keys":%b}}' % (event_name, _sound_key())
        yield at_the_door(f"event-{name}", value, "unknown_event_name")
    yield change("removed", {"a": {"S": "x"}}, {"a": "x"})
    yield change("removed-blindly", event_name="REMOVE", pk=f"removed-{MARK}")
    yield change("never-there", event_name="REMOVE")
    yield change("early", {"a": {"S": "modified"}}, {"a": "modified"}, event_name="MODIFY")
    yield change("late", {"a": {"S": "inserted"}}, {"a": "inserted"}, pk=f"early-{MARK}")


def keys_only() -> Iterator[Case]:
    """Changes that carry no image: enough to drop a cache key or to note that something happened."""
    missing = dict.fromkeys(("search", "store", "embedded"), "image_missing")
    yield change("keys-only-insert", refused=missing)
    yield change("keys-only-modify", event_name="MODIFY", refused=missing)
    yield change("keys-only-remove", event_name="REMOVE")
    null = b'{"eventID":"image-null","eventName":"INSERT","dynamodb":{"Keys":%b,"NewImage":null}}'
    yield Case(name="image-null", value=null % _sound_key(), pk=f"k-{MARK}", event_id="image-null", refused=missing)


def index_traps() -> Iterator[Case]:
    """What an index refuses: fields, keywords, longs, metadata names, objects; others take it."""
    many = {f"f{number}": {"N": "1"} for number in range(1001)}
    refused = {"search": "illegal_argument_exception"}
    yield change("1001-fields", many, {f"f{number}": 1 for number in range(1001)}, refused=refused)
    long = "k" * 33_000
    yield change("33-kB-keyword", {"keyword": {"S": long}}, {"keyword": long}, refused=refused)
    mapping = {"search": "mapper_parsing_exception"}
    yield change("long-overflow", {"long": {"N": "1E+19"}}, {"long": Exact("1E+19")}, refused=mapping)
    inexact = {"search": "number_not_exact"}
    yield change("long-by-one", {"long": {"N": str(2**63)}}, {"long": Exact(str(2**63))}, refused=inexact)
    yield change("text-for-long", {"long": {"S": MARK}}, {"long": MARK}, refused=mapping)
    yield change("metadata", {"_id": {"S": "other"}}, {"_id": "other"}, refused=mapping)
    yield change("object-for-scalar", {"keyword": {"M": {"a": {"S": "b"}}}}, {"keyword": {"a": "b"}}, refused=mapping)
    yield change("scalar-for-object", {"object": {"S": MARK}}, {"object": MARK}, refused=mapping)
    for name, attribute in (
        ("empty", ""),
        ("dot", "."),
        ("dots", "a..b"),
        ("first-dot", ".a"),
        ("inside", "keyword.a"),
    ):
        yield change(f"field-{name}", {attribute: {"S": "x"}}, {attribute: "x"}, refused=mapping)
    strange = dict.fromkeys(("last.", " ", "n\0", f"\x1b[31m{MARK}\r\n", "n" * 60_000), "x")
    yield change("field-strange", {name: {"S": text} for name, text in strange.items()}, strange)
    yield change("field-source", {"_source": {"S": MARK}}, {"_source": MARK}, refused=mapping)
    deep = b'"deep":' + b'{"M":{"a":' * 29 + b'{"S":"x"}' + b"}}" * 29
    document: Any = "x"
    for _ in range(29):
        document = {"a": document}
    yield change("deepest", deep, {"deep": document}, refused=mapping)
    yield change("no-date", {"date": {"S": MARK}}, {"date": MARK}, refused=mapping)
    yield change("id-512", {}, pk=MARK.ljust(512, "i"))
    yield change("id-513", {}, pk=MARK.ljust(513, "i"), refused={"search": "id_invalid"})
    too_long = dict.fromkeys(("search", "store", "embedded", INVALIDATE), "result_too_long")
    yield change("megabyte", {}, pk=MARK + MEGABYTE, refused=too_long)


def chosen(allowed: str, other: str) -> Iterator[Case]:
    """Items that choose their own index and id. ``allowed`` may be chosen; ``other`` is there, and may not."""
    for name, index, document_id, code in (
        ("chosen", allowed, "1", None),
        ("chosen-512", allowed, "é" * 256, None),
        ("chosen-empty", allowed, "", "result_empty"),
        ("chosen-513", allowed, "é" * 256 + "i", "id_invalid"),
        ("chosen-path", "../x", "1", "index_invalid"),
        ("chosen-all", "*", "1", "index_invalid"),
        ("chosen-two", f"{allowed},{other}", "1", "index_invalid"),
        ("chosen-hidden", "_x", "1", "index_invalid"),
        ("chosen-upper", allowed.upper(), "1", "index_invalid"),
        ("chosen-other", other, "1", "index_not_allowed"),
        ("chosen-system", ".opendistro_security", "1", "index_not_allowed"),
        ("chosen-date-math", "<logs-{now/d}>", "1", "index_invalid"),
    ):
        case = change(
            name,
            {"index": {"S": index}, "id": {"S": document_id}},
            {"index": index, "id": document_id},
            refused={} if code is None else {CHOSEN: code},
        )
        yield replace(case, routes=ROUTES | {CHOSEN})


def texts() -> Iterator[Case]:
    """Texts that mean something to a cache, to SQL, to Python's formatting, to a terminal."""
    for name, text in (
        ("glob", "*"),
        ("glob-set", f"?[{MARK}]*"),
        ("braces", "{}"),
        ("braces-with-key", f"{{{MARK}}}"),
        ("line-break", f"a\r\nFLUSHALL\r\n{MARK}"),
        ("sql", f'x"; drop table audit; -- {MARK}'),
        ("sql-quote", f"'; DROP TABLE audit; -- {MARK}"),
        ("format", f"{{0.__class__}} {MARK}"),
        ("percent", f"%s %(x)s %n {MARK}"),
        ("ansi", f"\x1b[2J\x1b]0;{MARK}\x07"),
        ("bidi", f"\u202e{MARK}\u2066\u200b\ufeff"),
        ("forged-log", f'\n{{"event": "pipeline failed", "level": "error", "x": "{MARK}"}}'),
        ("dots", ".."),
        ("path", f"../../{MARK}"),
    ):
        yield change(f"text-{name}", {"told": {"S": text}}, {"told": text}, pk=text)
    yield change("names", {SQL: {"S": "needle"}, "%s": {"S": "{}"}}, {SQL: "needle", "%s": "{}"})
    yield change("event-id", {}, event_id=f"\r\n\x1b[31m{MARK}\u202e'\"; drop")
    yield change("event-id-nul", {}, event_id="a\0b", refused={"audit": "nul_in_event_id"})
    yield change("event-id-long", {}, event_id="e" * 5000, refused={"audit": "event_id_too_long"})
    yield change("event-id-first", {}, {}, event_id="taken", pk=f"taken-{MARK}")
    later = change("event-id-taken", {}, {}, event_id="taken", pk=f"taken-{MARK}", refused={"audit": "event_id_taken"})
    yield replace(later, value=(later.value or b"").replace(b"%d" % START_S, b"%d" % (START_S + 1)))
    yield change("backtracking", {"wild": {"S": "a" * 1_000_000}}, {"wild": "a" * 1_000_000})
    yield change("matched", {"wild": {"S": "a" * 1000 + "b"}}, {"wild": "a" * 1000 + "b"})


def all_cases(allowed: str = "allowed", other: str = "other") -> list[Case]:
    """Every row, each hostile record between good ones."""
    rows = (json_traps(), numbers(), attribute_traps(), keys_only(), index_traps(), chosen(allowed, other), texts())
    return among_good_ones([case for row in rows for case in row], good())
