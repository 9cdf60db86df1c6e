"""The aggregate sink keeps the contract of every sink that holds state, in SQLite and in PostgreSQL.

With a group for each key, and a measure for what the suite asks of an item, a row of the table is an item's state.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connector.change import Change
from connector.sink import Sink
from sinks.aggregate import AggregateSink
from sinks.aggregate.config import AggregateSinkConfig
from sinks.testing import (
    ImageContract,
    Item,
    MakeSink,
    PoisonContract,
    ReadState,
    UnavailableContract,
    VersionedContract,
    context,
    insert,
    modify,
    write,
)

OPTIONS: dict[str, Any] = {
    "table": "numbers",
    "group_by": {"pk": "{pk}"},
    "measures": {
        "n": {"kind": "sum", "of": "n", "missing": "skip"},
        "numbers": {"kind": "count", "where": {"n": {"N": [{"exists": True}]}}},
        "lowest": {"kind": "min", "of": "n", "missing": "skip"},
        "named": {"kind": "distinct", "of": "{name}", "missing": "skip"},
    },
}


def aggregate_sink(url: str, **more: Any) -> AggregateSink:
    return AggregateSink(AggregateSinkConfig.model_validate({"url": url, **OPTIONS, **more}), context())


def state_of(rows: list[tuple[Any, ...]]) -> Mapping[str, Item]:
    """Rows of (pk, n, numbers, lowest, items) as the items that they must have come from."""
    state = {}
    for pk, total, numbers, lowest, items in rows:
        assert items == 1
        assert (lowest is not None) == (numbers == 1)
        if numbers:
            assert int(lowest) == int(total)
        state[pk] = {"pk": pk, "n": int(total)} if numbers else {"pk": pk}
    return state


SELECT = "SELECT pk, n, numbers, lowest, items FROM numbers"


class AggregateContract(VersionedContract, ImageContract, PoisonContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("p", {"n": "three"}, version=7)

    def test_it_holds_the_last_state(self, make_sink: MakeSink, read_state: ReadState) -> None:
        """The suite's own asks for names; numbers say the same."""
        batches = [
            [insert("a", {"n": 1}, version=1), insert("b", {"n": 2}, version=2)],
            [modify("a", {"n": 4}, old={"n": 1}, version=3)],
            [insert("c", {"n": 3}, version=5)],
        ]
        state = self._state_after(make_sink, read_state, *batches)
        assert state == {key: {"pk": key, "n": n} for key, n in (("a", 4), ("b", 2), ("c", 3))}

    def test_values_of_every_type_arrive(self, make_sink: MakeSink, read_state: ReadState) -> None:
        """Only numbers do; the others are poison where a number is asked for."""
        batch = [
            insert(f"k{at}", {"n": value}, version=at + 1)
            for at, value in enumerate(["5", True, b"5", [5], {"5": 5}, frozenset({5}), 2**53 + 1])
        ]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert [getattr(outcome, "reason", "applied") for outcome in outcomes] == ["not_a_number"] * 6 + ["applied"]
        assert asyncio.run(_awaited(read_state)) == {"k6": {"pk": "k6", "n": 2**53 + 1}}


async def _awaited(read_state: ReadState) -> Mapping[str, Item]:
    return await read_state()


class TestAggregateInSQLite(AggregateContract):
    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> MakeSink:
        return lambda: aggregate_sink(f"sqlite:///{tmp_path}/totals.db")

    @pytest.fixture
    def read_state(self, tmp_path: Path) -> ReadState:
        async def read() -> Mapping[str, Item]:
            with sqlite3.connect(tmp_path / "totals.db") as connection:
                return state_of(connection.execute(SELECT).fetchall())

        return read


class TestAggregateInPostgreSQL(AggregateContract, UnavailableContract):
    @pytest.fixture
    def make_sink(self, postgres_database: str) -> MakeSink:
        return lambda: aggregate_sink(postgres_database)

    @pytest.fixture
    def read_state(self, postgres_database: str) -> ReadState:
        async def read() -> Mapping[str, Item]:
            with psycopg.connect(postgres_database) as connection:
                return state_of(connection.execute(SELECT).fetchall())

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return aggregate_sink("postgresql://nobody@127.0.0.1:1/nothing", timeout="2s")
