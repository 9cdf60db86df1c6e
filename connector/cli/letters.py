"""Dead letters as people and machines read them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from connector.deadletter.envelope import DeadLetter
    from connector.deadletter.protocol import StoredLetter
    from connector.deadletter.report import ReplayReport

DECODE_ROUTE = "decode"
"""How the empty route of undecodable records' letters is written, here as in the metrics."""

ID_SHOWN = 12
"""How much of an id a table shows: commands take the beginning of one."""


def route_shown(route: str) -> str:
    """A letter's route, as it is shown."""
    return route or DECODE_ROUTE


def time_shown(epoch_ms: int) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def envelope(stored: StoredLetter) -> dict[str, Any]:
    """All of a letter but its record."""
    letter = stored.letter
    return {
        "id": letter.id,
        "state": stored.state.value,
        "replay_outcome": stored.replay_outcome,
        "pipeline": letter.pipeline,
        "route": letter.route,
        "shard": letter.shard,
        "position": letter.position,
        "index": letter.index,
        "key": letter.key,
        "event_id": letter.event_id,
        "event_name": letter.event_name,
        "version": letter.version,
        "kind": letter.kind.value,
        "code": letter.code,
        "message": letter.message,
        "attempts": letter.attempts,
        "first_failed_ms": letter.first_failed_ms,
        "last_failed_ms": letter.last_failed_ms,
        "format": letter.format,
        "holds_key": letter.holds_key,
    }


def record_of(letter: DeadLetter) -> dict[str, Any]:
    """The record as JSON: bytes as text where they are UTF-8, as base64 under another name where they are not."""
    record = letter.record
    return {
        "timestamp_ms": record.timestamp_ms,
        **_bytes("key", record.key),
        **_bytes("value", record.value),
        "headers": [{"name": name, **_bytes("value", value)} for name, value in record.headers],
    }


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def table_of(title: str, columns: Mapping[str, bool]) -> Table:
    """A table; ``columns`` says of each whether it is a number."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name, number in columns.items():
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def report_table(pipeline: str, report: ReplayReport) -> Table:
    """What a replay came to, by route."""
    from connector.observe.escape import escape_text

    table = table_of(f"replay of {pipeline}", {"route": False, "replayed": False, "still dead": False, "left": True})
    for name, route in sorted(report.routes.items()):
        replayed = ", ".join(f"{count} {outcome}" for outcome, count in sorted(route.replayed.items()))
        dead = ", ".join(f"{count} {kind}/{code}" for (kind, code), count in sorted(route.dead.items()))
        table.add_row(route_shown(name), replayed or "-", escape_text(dead) or "-", str(route.left or "-"))
    return table


def report_json(pipeline: str, report: ReplayReport) -> dict[str, Any]:
    """The same for machines."""
    return {
        "pipeline": pipeline,
        "routes": {
            route_shown(name): {
                "replayed": dict(route.replayed),
                "still_dead": [
                    {"kind": kind, "code": code, "letters": count} for (kind, code), count in route.dead.items()
                ],
                "left": route.left,
            }
            for name, route in report.routes.items()
        },
        "unavailable": report.unavailable,
    }
