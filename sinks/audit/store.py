"""What the two databases have in common: the columns, and how a store answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One change as it is kept. The order of the fields is the order of the columns."""

    pipeline: str
    event_id: str
    shard: str
    position: str
    """Decimal digits; as many as 56, so no integer column holds it."""
    event_name: str
    key: str
    """The key as canonical text: equal keys are equal texts."""
    keys: str
    """The key's attributes as a JSON document."""
    before: str | None
    after: str | None
    diff: str | None
    identity: str | None
    """Who did it, where the record says so (DynamoDB's TTL does)."""
    changed_at_ms: int
    version: int
    recorded_at_ms: int


COLUMNS = ", ".join(Row._fields)


class Held(NamedTuple):
    """What the table held already under an event id."""

    key: str
    changed_at_ms: int


class DataRefused(Exception):
    """The database refuses the contents of some row; nothing of the batch was kept."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Conflict(Exception):
    """The transaction lost against another one (deadlock, serialization) and may win the next time."""


class Store(Protocol):
    """A database with the audit table."""

    about: str
    """What it is and whether it is guarded, for people; known once it is open."""

    async def open(self) -> None:
        """Connect, create the table where it is missing, and try the insert. Raises ConfigError, SinkUnavailable."""

    async def insert(self, rows: Sequence[Row]) -> Mapping[str, Held]:
        """Keep the rows (all of one pipeline, event ids distinct) in one durable transaction.

        Answers the event ids that were there before, and what they name; those rows were not kept again.
        Raises DataRefused, Conflict, SinkUnavailable.
        """

    async def close(self) -> None:
        """Let go of connections; never raises."""
