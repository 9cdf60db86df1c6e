"""Changes → rows of the audit table. Images become JSON documents; nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connector.change import Change, EventName
from connector.documents import Numbers, encode_document
from connector.errors import DecodeError, DocumentError
from connector.sink import APPLIED, Outcome, Rejected
from sinks.audit.store import Row

EVENT_ID_CHARS_MAX = 1024
"""PostgreSQL's unique index holds entries of some 2,700 bytes."""

_encode_any = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


def rows_of(
    batch: Sequence[Change], *, pipeline: str, numbers: Numbers, diff: bool, now_ms: int
) -> tuple[list[Row], list[int], list[Outcome]]:
    """The rows to keep, the place of each in the batch, and the outcome of each change once they are kept."""
    rows: list[Row] = []
    places: list[int] = []
    outcomes: list[Outcome] = [APPLIED] * len(batch)
    for at, change in enumerate(batch):
        try:
            row = _row(change, pipeline, numbers, diff, now_ms)
        except (DecodeError, DocumentError) as error:
            outcomes[at] = Rejected(error.code, error.message)
        except UnicodeError:
            outcomes[at] = Rejected(
                "not_unicode", "the change holds half a surrogate pair, or bytes that are not UTF-8"
            )
        else:
            if "\0" in row.event_id or "\0" in row.shard:
                outcomes[at] = Rejected("nul_in_event_id", "PostgreSQL's text holds no U+0000")
            elif len(row.event_id) > EVENT_ID_CHARS_MAX:
                outcomes[at] = Rejected("event_id_too_long", f"an event id has {EVENT_ID_CHARS_MAX} characters at most")
            else:
                rows.append(row)
                places.append(at)
    return rows, places, outcomes


def _row(change: Change, pipeline: str, numbers: Numbers, diff: bool, now_ms: int) -> Row:
    for text in (change.event_id, change.shard, change.key):
        if not text.isascii():
            text.encode()  # raises for half a surrogate pair, which no database takes
    before = change.old_document(numbers)
    after = change.new_document(numbers)
    changed = None
    if diff and before is not None and after is not None and change.event_name is EventName.MODIFY:
        changed = encode_document(difference(before, after)).decode()
    return Row(
        pipeline,
        change.event_id,
        change.shard,
        str(change.record.position),
        change.event_name.value,
        change.key,
        _encode_any(change.keys).decode(),
        None if before is None else encode_document(before).decode(),
        None if after is None else encode_document(after).decode(),
        changed,
        None if change.identity is None else change.identity.decode(),
        change.timestamp_ms,
        change.version,
        now_ms,
    )


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The top-level attributes that differ: ``{"status": {"old": "NEW", "new": "PAID"}}``.

    An attribute that came has no ``old``, one that went has no ``new`` (a null that came is ``{"new": null}``).
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, old in before.items():
        if name not in after:
            changed[name] = {"old": old}
        elif not _same(old, new := after[name]):
            changed[name] = {"old": old, "new": new}
    for name, new in after.items():
        if name not in before:
            changed[name] = {"new": new}
    return changed


def _same(old: Any, new: Any) -> bool:
    if old != new:
        return False
    # To Python 1 == True; to a person who reads an audit they differ, also deep inside.
    if type(old) in (list, dict):
        return _encode_any(old) == _encode_any(new)
    return (type(old) is bool) == (type(new) is bool)
