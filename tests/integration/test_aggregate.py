"""What the aggregate sink does in real databases beside the contract: lanes at once, zombies, failures, refusals."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import APPLIED, Applied, Outcome, Rejected, Stale
from sinks.aggregate import AggregateSink
from sinks.testing import insert, modify, opened, remove
from tests.integration.test_examples import changes, items_at_the_end, run
from tests.servers.postgres import PostgresServer
from tests.unit.sinks.aggregate.shop import (
    SELECT,
    Row,
    aggregate_sink,
    deliveries,
    history,
    numbers_of,
    rows_by_group,
)

Ask = Callable[[str], list[Row]]
ORDER = {"status": "NEW", "shop": "a", "customer": "c1", "paid": False, "total": 5}


def write(sink: AggregateSink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(sink):
            return [await sink.write(batch) for batch in batches]

    return asyncio.run(run())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that asks for this runs in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/totals.db"
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.fixture
def ask(url: str) -> Ask:
    """Runs a statement as somebody else, and commits."""

    def run(statement: str) -> list[Row]:
        if url.startswith("sqlite"):
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(url) as postgres:
            cursor = postgres.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return run


# The numbers


@pytest.mark.parametrize("seed", range(6))
def test_lanes_and_zombies_that_write_at_once_end_in_the_numbers_of_the_items(seed: int, url: str, ask: Ask) -> None:
    chance = random.Random(seed)
    changes, items = history(chance, keys=40, length=400)
    lanes = deliveries(chance, changes, lanes=4)

    async def lane(sink: AggregateSink, batches: Sequence[Sequence[Change]]) -> None:
        for batch in batches:
            assert all(isinstance(outcome, Applied | Stale) for outcome in await sink.write(batch))

    async def run() -> None:
        async with opened(aggregate_sink(url)) as owner, opened(aggregate_sink(url)) as zombie:
            assert isinstance(owner, AggregateSink)
            assert isinstance(zombie, AggregateSink)
            late = [lane(zombie, batches[:: chance.randint(1, 3)]) for batches in lanes[:2]]
            await asyncio.gather(*(lane(owner, batches) for batches in lanes), *late)

    asyncio.run(run())
    assert rows_by_group(ask(SELECT)) == numbers_of(items.values())
    standing = "SELECT count(*) FROM orders_values WHERE n < 1"
    assert ask(standing) == [(0,)]


def test_without_groups_there_is_one_row_for_all(url: str, ask: Ask) -> None:
    options: dict[str, Any] = {"group_by": {}, "measures": {"order": {"kind": "count"}}}
    write(aggregate_sink(url, **options), [insert("1"), insert("2"), remove("1")])
    assert ask('SELECT items, "order" FROM orders') == [(1, 1)]


def test_a_key_of_a_megabyte_is_kept(url: str, ask: Ask) -> None:
    assert write(aggregate_sink(url), [insert("x" * 1_000_000, ORDER)]) == [[APPLIED]]
    assert ask("SELECT items FROM orders") == [(1,)]


def test_removed_keys_are_forgotten_after_their_time_and_no_others(url: str, ask: Ask) -> None:
    sink = aggregate_sink(url, tombstones="1h")
    write(sink, [insert("1", ORDER), insert("2", ORDER), remove("2")])
    ask("UPDATE orders_items SET removed_at_ms = removed_at_ms - 7200000")
    write(aggregate_sink(url, tombstones="1d"), [remove("3")])
    assert len(ask("SELECT key FROM orders_items")) == 3
    write(aggregate_sink(url, tombstones="1h"), [remove("4")])
    kept = {key for (key,) in ask("SELECT key FROM orders_items")}
    assert kept == {insert(name).key for name in "134"}


# What is refused


def test_a_table_is_its_routes_own_and_its_numbers_keep_their_meaning(url: str) -> None:
    write(aggregate_sink(url))
    write(aggregate_sink(url))
    with pytest.raises(ConfigError, match="belongs to pipeline 'contract'"):
        write(aggregate_sink(url, pipeline="another"))
    with pytest.raises(ConfigError, match="other groups or measures"):
        write(aggregate_sink(url, group_by={"status": "{status}"}))


def test_tables_that_may_not_be_created_must_be_there(url: str) -> None:
    with pytest.raises(ConfigError, match="orders_definition"):
        write(aggregate_sink(url, create=False))
    write(aggregate_sink(url))
    write(aggregate_sink(url, create=False), [insert("1", ORDER)])


def test_numbers_that_somebody_else_changed_stop_the_route_instead_of_getting_worse(url: str, ask: Ask) -> None:
    write(aggregate_sink(url), [insert("1", ORDER)])
    ask("DELETE FROM orders")
    with pytest.raises(SinkUnavailable, match="somebody else changed them"):
        write(aggregate_sink(url), [remove("1")])


def test_a_version_that_no_column_holds_is_rejected_and_nothing_of_it_is_kept(url: str, ask: Ask) -> None:
    poison = msgspec.structs.replace(insert("1", ORDER), version=2**63)
    ((outcome,),) = write(aggregate_sink(url), [poison])
    assert isinstance(outcome, Rejected)
    assert ask("SELECT * FROM orders") == ask("SELECT * FROM orders_items") == []
    assert write(aggregate_sink(url), [insert("2", ORDER)]) == [[APPLIED]]


def test_a_database_that_is_repeatable_read_by_default_sums_as_well(postgres_database: str) -> None:
    name = postgres_database.rpartition("/")[2]
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'".encode())

    async def run() -> None:
        async with opened(aggregate_sink(postgres_database)) as sink:
            batches = [[insert(f"{lane}-{n}", ORDER) for n in range(5)] for lane in range(12)]
            await asyncio.gather(*(sink.write(batch) for batch in batches))

    asyncio.run(run())
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT items, revenue FROM orders").fetchall() == [(60, 300)]


# Failures


def test_postgresql_that_dies_is_nobodys_fault_and_is_used_again_when_it_is_back(
    postgres: PostgresServer, postgres_database: str
) -> None:
    batch = [insert(f"k{n}", ORDER, version=n + 1) for n in range(20)]

    async def run() -> Sequence[Outcome]:
        async with opened(aggregate_sink(postgres_database)) as sink:
            await sink.write(batch[:10])
            postgres.process.kill()
            for _ in range(2):
                with pytest.raises(SinkUnavailable):
                    await sink.write(batch)
            postgres.process.start()
            return await sink.write(batch)

    assert [type(outcome) for outcome in asyncio.run(run())] == [Stale] * 10 + [Applied] * 10
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT items, revenue FROM orders").fetchall() == [(20, 100)]


def test_a_write_that_is_broken_off_is_kept_whole_or_not_at_all(url: str, ask: Ask) -> None:
    """However far it had come; the next write finds the database free."""
    batches = [
        [insert(f"{at}-{n}", {**ORDER, "total": at}, version=at * 100 + n + 1) for n in range(20)] for at in range(12)
    ]

    async def run() -> None:
        async with opened(aggregate_sink(url)) as sink:
            for at, batch in enumerate(batches):
                task = asyncio.create_task(_written(sink, batch))
                for _ in range(at * 3):
                    await asyncio.sleep(0)
                await asyncio.sleep(at * 0.001)
                task.cancel()
                await asyncio.wait([task])
            for batch in batches:
                assert all(isinstance(outcome, Applied | Stale) for outcome in await sink.write(batch))

    asyncio.run(run())
    assert [row[:1] for row in ask("SELECT items FROM orders")] == [(240,)]
    assert int(ask("SELECT revenue FROM orders")[0][0]) == 20 * sum(range(12))


async def _written(sink: Any, batch: Sequence[Change]) -> None:
    await sink.write(batch)


def test_a_locked_sqlite_file_is_unavailable_and_then_used_again(tmp_path: Path) -> None:
    async def run() -> Sequence[Outcome]:
        async with opened(aggregate_sink(f"sqlite:///{tmp_path}/totals.db", timeout="200ms")) as sink:
            with sqlite3.connect(tmp_path / "totals.db", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(SinkUnavailable):
                    await sink.write([insert("1", ORDER)])
                other.execute("ROLLBACK")
            return await sink.write([modify("1", ORDER)])

    assert asyncio.run(run()) == [APPLIED]


def test_a_folder_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SQLite"):
        write(aggregate_sink(f"sqlite:///{tmp_path}/nowhere/totals.db"))


# The example


def test_the_example_ends_in_the_figures_of_the_orders(url: str, ask: Ask, tmp_path: Path) -> None:
    records = changes(1500, poison=0.02)
    (tmp_path / "changes.jsonl").write_bytes(b"".join(value + b"\n" for _, value in records))
    run("aggregate-shop-totals", tmp_path, {"TOTALS_URL": url})
    images = [image for image in items_at_the_end(records).values() if "status" in image]
    # What is too exact for a double is none too exact for a sum.
    too_exact = [json.loads(value) for _, value in records if b"poison-too_exact" in value]
    images += [record["dynamodb"]["NewImage"] for record in too_exact]
    assert too_exact
    orders: dict[str, list[tuple[Decimal, str]]] = defaultdict(list)
    for image in images:
        orders[image["status"]["S"]].append((Decimal(image["total"]["N"]), image["pk"]["S"]))
    with localcontext() as exact:
        exact.prec = 100
        figures = {
            status: (len(found), sum(total for total, _ in found), max(found)[0], len({pk for _, pk in found}))
            for status, found in orders.items()
        }
    rows = ask("SELECT status, orders, revenue, largest, customers FROM orders_by_status")
    assert {row[0]: (row[1], Decimal(row[2]), Decimal(row[3]), row[4]) for row in rows} == figures
    assert "SHIPPED" in figures
    shipped = ask("SELECT sum(orders), sum(shipped) FROM orders_by_customer")
    assert shipped == [(len(images), len(orders["SHIPPED"]))]
    with sqlite3.connect(tmp_path / "dead-letters.db") as connection:
        letters = connection.execute("SELECT route, code FROM dead_letters").fetchall()
    assert ("by_status", "not_a_number") in letters
    assert {code for route, code in letters if route.startswith("by_")} <= {"not_a_number", "attribute_tag"}
