"""The dead letter: a poison change with all that is needed to see why, and to replay it."""

from __future__ import annotations

import enum
from hashlib import blake2b

import msgspec

from connector.change import Change, Position, Record, ShardId


class ErrorKind(enum.StrEnum):
    """Why a change was dead-lettered."""

    DECODE = "decode"
    """The record is not what its format says."""
    REJECTED = "rejected"
    """The sink will never accept the change."""
    RETRIES_EXHAUSTED = "retries_exhausted"
    """A per-change failure did not pass within ``retry.attempts``."""
    TOO_OLD = "too_old"
    """The change got older than ``retry.max_age`` while it was being retried."""
    UNKNOWN = "unknown"
    """The batch raised, bisecting left this change alone, and it still fails."""
    HELD = "held"
    """An earlier change of the same key is in the dead letters (``on_poison: hold_key``)."""
    FILTER = "filter"
    """A filter or transform could not be evaluated for this change (an image that the stream does not carry)."""


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True):
    """One poison change, or one undecodable record (``route`` is then empty and ``key`` None).

    ``id`` is stable over replays of the log, so that writing it again is no second letter.
    """

    id: str
    pipeline: str
    route: str
    shard: ShardId
    position: Position
    index: int = 0
    key: str | None
    event_id: str = ""
    event_name: str = ""
    version: int = 0
    kind: ErrorKind
    code: str
    """A short stable word for the reason (the sink's ``Rejected.reason``, the decoder's code, an exception's name)."""
    message: str = ""
    attempts: int = 0
    first_failed_ms: int
    last_failed_ms: int
    format: str
    """The codec's name, with which the record is decoded again."""
    holds_key: bool = False
    """True where the route's policy keeps the key's later changes behind this letter until it is replayed."""
    record: Record


def letter_id(pipeline: str, route: str, shard: ShardId, position: Position, index: int, *, part: int = 0) -> str:
    """The stable id of the letter of one change on one route (128 bits, hex). ``part``: that of its record."""
    text = "\x00".join((pipeline, route, shard, str(position), str(index), *([str(part)] if part else ())))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def letter_for_change(
    change: Change,
    *,
    pipeline: str,
    route: str,
    kind: ErrorKind,
    code: str,
    message: str,
    attempts: int,
    first_failed_ms: int,
    last_failed_ms: int,
    format: str,
    holds_key: bool,
) -> DeadLetter:
    """The dead letter of one change on one route."""
    return DeadLetter(
        id=letter_id(pipeline, route, change.shard, change.position, change.index, part=change.record.part),
        pipeline=pipeline,
        route=route,
        shard=change.shard,
        position=change.position,
        index=change.index,
        key=change.key,
        event_id=change.event_id,
        event_name=str(change.event_name),
        version=change.version,
        kind=kind,
        code=code,
        message=message,
        attempts=attempts,
        first_failed_ms=first_failed_ms,
        last_failed_ms=last_failed_ms,
        format=format,
        holds_key=holds_key,
        record=change.record,
    )
