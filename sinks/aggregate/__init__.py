"""The sink ``aggregate``: counts, sums, extremes, averages and distinct counts of the items as they are now.

config.py      what a user may write
contribute.py  changes → what each key adds
fold.py        what it added before is taken away, what it adds now is added; and why that is right
decimals.py    exact numbers
store.py       the rows, and what a transaction can do
tables.py      names, and whose the tables are
sqlite.py      the embedded database
postgres.py    PostgreSQL
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change
from connector.errors import SinkUnavailable
from connector.sink import APPLIED, STALE, Needs, Outcome, Rejected, Semantics, SinkContext
from sinks.aggregate.config import AggregateSinkConfig
from sinks.aggregate.contribute import Contribution, Plan
from sinks.aggregate.fold import apply
from sinks.aggregate.postgres import PostgresStore
from sinks.aggregate.sqlite import SQLiteStore
from sinks.aggregate.store import Conflict, DataRefused, Store

_ATTEMPTS = 20
"""Of a transaction that met another one. Each time one of them was kept, so that many lanes need no more than that."""
_FORGET_EVERY_MS = 60_000


class AggregateSink:
    """See ``connector.sink.Sink``. Its semantics are STATE: an item's last image alone says what it adds."""

    config_model: ClassVar[type[BaseModel]] = AggregateSinkConfig
    lanes_default: ClassVar[int] = 2
    batch_size_default: ClassVar[int] = 1_000

    semantics = Semantics.STATE
    place_attributes = frozenset[str]()
    """None: the group that an item leaves is known from what it added, not from its images."""
    needs = Needs.NEW_IMAGE

    def __init__(self, config: AggregateSinkConfig, context: SinkContext) -> None:
        self._config = config
        self._clock = context.clock
        self._plan = Plan(config, pipeline=context.pipeline, route=context.route)
        self._forget_at_ms = 0
        path = config.sqlite_path
        self._store: Store
        if path is not None:
            self._store = SQLiteStore(
                path,
                self._plan.schema,
                create=config.create,
                synchronous=config.synchronous,
                timeout_s=config.timeout,
            )
        else:
            self._store = PostgresStore(
                config.url.get_secret_value(), self._plan.schema, create=config.create, timeout_s=config.timeout
            )

    async def open(self) -> None:
        """Connect, create the tables where they are missing, and see that their numbers mean what is configured."""
        await self._store.open()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """See ``Sink.write``."""
        now_ms = self._clock.now_ms()
        contributions, places, outcomes = self._plan.contributions(batch, now_ms)
        if not contributions:
            return outcomes
        try:
            done = await self._apply(contributions)
        except DataRefused as error:
            if len(contributions) > 1:
                raise  # nobody knows which row it was: delivery finds out
            outcomes[places[0]] = Rejected(error.reason, error.detail)
            return outcomes
        for at, is_new in zip(places, done, strict=True):
            outcomes[at] = APPLIED if is_new else STALE
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + _FORGET_EVERY_MS
            with contextlib.suppress(Conflict):  # another time, then
                await self._store.forget_removed(now_ms - int(self._config.tombstones * 1000))
        return outcomes

    async def close(self) -> None:
        """Let go of the database."""
        await self._store.close()

    def describe(self) -> str:
        """For ``millrace check``."""
        return f"{self._store.about}; table {self._config.table}"

    async def _apply(self, contributions: Sequence[Contribution]) -> list[bool]:
        for _ in range(_ATTEMPTS):
            try:
                async with self._store.transaction() as transaction:
                    return await apply(transaction, self._plan.schema, contributions)
            except Conflict as error:
                met = error
        raise SinkUnavailable(f"{_ATTEMPTS} transactions in a row met others that did the same: {met}")
