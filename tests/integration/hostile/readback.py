"""What real sinks and dead letters hold, read without any code of the daemon's."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg


def exact(text: str | bytes) -> Any:
    """JSON with all digits of its numbers."""
    return json.loads(text, parse_float=Decimal)


def same(what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Equal, or an assertion that shows a few of the differences only."""
    wrong = [key for key in found.keys() | expected.keys() if found.get(key, ...) != expected.get(key, ...)]
    shown = {str(key)[:80]: (str(found.get(key, "-"))[:200], str(expected.get(key, "-"))[:200]) for key in wrong[:40]}
    assert not wrong, f"{len(wrong)} {what} of {len(expected)} are wrong; (found, expected): {shown}"


def dead_letters(path: Path, pipeline: str, names: Mapping[int, str]) -> dict[tuple[str, str], str]:
    """(route, name) → code; the name of a case is found by its record's position."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT route, json_extract(letter, '$.letter.position'), code FROM dead_letters WHERE pipeline = ?",
            (pipeline,),
        ).fetchall()
    return {(route, names[position]): code for route, position, code in rows}


def kept_records(path: Path, pipeline: str) -> dict[int, tuple[bytes | None, bytes | None]]:
    """The key and the value that the dead letters keep of each record, by its position."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT letter FROM dead_letters WHERE pipeline = ?", (pipeline,)).fetchall()
    records = [json.loads(text)["letter"]["record"] for (text,) in rows]
    return {record["position"]: (_bytes(record["key"]), _bytes(record["value"])) for record in records}


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def messages(path: Path) -> str:
    """What the dead letters say, all of it."""
    with sqlite3.connect(path) as connection:
        return "\n".join(message for (message,) in connection.execute("SELECT message FROM dead_letters"))


def embedded_documents(path: Path, index: str) -> dict[str, Any]:
    """The embedded index's documents by id."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(f'SELECT id, document FROM "{index}:documents" WHERE document IS NOT NULL')
        return {document_id: exact(document) for document_id, document in rows}


def sqlite_rows(path: Path, table: str) -> dict[str, Any]:
    """The audit table's new items by event id."""
    with sqlite3.connect(path) as connection:
        return _rows(connection.execute(f"SELECT event_id, after FROM {table}"))


def postgres_rows(url: str, table: str) -> dict[str, Any]:
    """The audit table's new items by event id."""
    with psycopg.connect(url) as connection:
        return _rows(connection.execute(f"SELECT event_id, after::text FROM {table}".encode()))


def _rows(rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event_id, after in rows:
        assert event_id not in found, "an event stands in the table twice"
        found[event_id] = None if after is None else exact(after)
    return found


def stored_documents(client: Any, prefix: str) -> dict[str, Any]:
    """The documents of the write-through cache, by what stands behind the prefix."""
    found: dict[str, Any] = {}
    for key in client.scan_iter(f"{prefix}*", count=5000):
        document = client.hget(key, "d")
        if document is not None:
            found[key.decode().removeprefix(prefix)] = exact(document)
    return found


def printed(lines: Iterable[bytes], route: str) -> dict[str, Any]:
    """The new items on standard output by event id."""
    told = [exact(line) for line in lines]
    return {line["event_id"]: line["new"] for line in told if line["route"] == route}
