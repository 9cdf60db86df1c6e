"""Dead letters in one line."""

from __future__ import annotations

from typing import Any

from connector.change import Record
from connector.deadletter.envelope import DeadLetter, ErrorKind, letter_id
from connector.deadletter.protocol import DeadLetters, StoredLetter


def letter(position: int, *, pipeline: str = "orders", **changes: Any) -> DeadLetter:
    """The letter of the change at ``position``; anything of it can be said otherwise."""
    record = Record(position, b'{"n":%d}' % position, b"k", 1_700_000_000_000)
    return DeadLetter(
        **{
            "id": letter_id(pipeline, "search", "orders.changes/3", position, 0),
            "pipeline": pipeline,
            "route": "search",
            "shard": "orders.changes/3",
            "position": position,
            "key": '{"pk":"a"}',
            "event_id": f"e{position}",
            "event_name": "INSERT",
            "version": 2**62 + position,
            "kind": ErrorKind.REJECTED,
            "code": "mapper_parsing_exception",
            "message": "object mapping for [x] tried to parse as object",
            "attempts": 3,
            "first_failed_ms": 1_700_000_000_001,
            "last_failed_ms": 1_700_000_000_002,
            "format": "dynamodb",
            "record": record,
            **changes,
        }
    )


async def stored(destination: DeadLetters, *, include_done: bool = False) -> list[StoredLetter]:
    """All letters of the destination."""
    return [each async for each in destination.letters(include_done=include_done)]


async def positions(destination: DeadLetters, *, include_done: bool = False) -> list[int]:
    """The positions of its letters, in its order."""
    return [each.letter.position for each in await stored(destination, include_done=include_done)]
