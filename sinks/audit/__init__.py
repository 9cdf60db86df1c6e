"""The sink ``audit``: every change once, in a table that the database itself keeps append-only.

config.py     what a user may write
encode.py     changes → rows
store.py      the columns, and what a database answers
sqlite.py     the embedded database
postgres.py   PostgreSQL
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change
from connector.sink import APPLIED, Needs, Outcome, Rejected, Retry, Semantics, SinkContext, Stale
from sinks.audit.config import AuditSinkConfig
from sinks.audit.encode import rows_of
from sinks.audit.postgres import PostgresStore
from sinks.audit.sqlite import SQLiteStore
from sinks.audit.store import Conflict, DataRefused, Held, Row, Store

DUPLICATE = Stale("duplicate")
_TAKEN = Rejected("event_id_taken", "the table holds another change under this pipeline and event id")


class AuditSink:
    """See ``connector.sink.Sink``."""

    config_model: ClassVar[type[BaseModel]] = AuditSinkConfig
    lanes_default: ClassVar[int] = 2
    batch_size_default: ClassVar[int] = 1_000

    semantics = Semantics.EVENT
    place_attributes = frozenset[str]()
    needs = Needs.NOTHING
    """An image that the stream does not carry is NULL in the table."""

    def __init__(self, config: AuditSinkConfig, context: SinkContext) -> None:
        self._config = config
        self._context = context
        path = config.sqlite_path
        self._store: Store
        if path is not None:
            self._store = SQLiteStore(
                path,
                config.table,
                create=config.create,
                synchronous=config.synchronous,
                timeout_s=config.timeout,
            )
        else:
            self._store = PostgresStore(
                config.url.get_secret_value(), config.table, create=config.create, timeout_s=config.timeout
            )

    async def open(self) -> None:
        """Connect, create the table where it is missing, and try the insert."""
        await self._store.open()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """See ``Sink.write``."""
        rows, places, outcomes = rows_of(
            batch,
            pipeline=self._context.pipeline,
            numbers=self._config.numbers,
            diff=self._config.diff,
            now_ms=self._context.clock.now_ms(),
        )
        if not rows:
            return outcomes
        # An event that stands in the batch twice is kept once; the first of them speaks for it.
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(row.event_id, row)
        try:
            held = await self._store.insert(list(first.values()))
        except Conflict as error:
            for at in places:
                outcomes[at] = Retry("conflict", str(error))
            return outcomes
        except DataRefused as error:
            if len(first) > 1:
                raise  # nobody knows which row it was: delivery finds out
            for at in places:
                outcomes[at] = Rejected(error.reason, error.detail)
            return outcomes
        if held or len(first) < len(rows):
            for at, row in zip(places, rows, strict=True):
                outcomes[at] = _outcome(row, first, held)
        return outcomes

    async def close(self) -> None:
        """Let go of the database."""
        await self._store.close()

    def describe(self) -> str:
        """For ``millrace check``."""
        return f"{self._store.about}; table {self._config.table}"


def _outcome(row: Row, first: Mapping[str, Row], held: Mapping[str, Held]) -> Outcome:
    # The same id with another change behind it is no replay but a source that was made anew (a topic that was deleted
    # and created counts its offsets from 0 again): calling that a duplicate would lose the change without a word.
    known = held.get(row.event_id)
    kept = first[row.event_id]
    if known is None and row is kept:
        return APPLIED
    there = known or Held(kept.key, kept.changed_at_ms)
    if there == Held(row.key, row.changed_at_ms):
        return DUPLICATE
    return _TAKEN
