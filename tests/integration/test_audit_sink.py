"""What the audit sink does in real databases beside the contract: exactness, append-only, replays, failures."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import APPLIED, Applied, Outcome, Rejected, Stale
from sinks.audit import AuditSink
from sinks.audit.config import AuditSinkConfig
from sinks.audit.store import DataRefused
from sinks.testing import context, insert, modify, opened, remove
from tests.servers.postgres import PostgresServer

Ask = Callable[[str], list[tuple[Any, ...]]]


def audit_sink(url: str, pipeline: str = "orders", **more: Any) -> AuditSink:
    return AuditSink(AuditSinkConfig.model_validate({"url": url, "timeout": "3s", **more}), context(pipeline))


def write(sink: AuditSink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(sink):
            return [await sink.write(batch) for batch in batches]

    return asyncio.run(run())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test that asks for this runs in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.fixture
def ask(url: str) -> Ask:
    """Runs a statement as somebody else, and commits."""

    def run(statement: str) -> list[tuple[Any, ...]]:
        if url.startswith("sqlite"):
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(url) as postgres:
            cursor = postgres.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return run


# What is kept


def test_a_row_tells_what_who_and_when(url: str, ask: Ask) -> None:
    change = modify(
        "1",
        {"status": "PAID", "total": 5, "note": "x"},
        old={"status": "NEW", "total": 5, "gone": None},
        identity=b'{"type":"Service","principalId":"dynamodb.amazonaws.com"}',
        timestamp_ms=1_750_000_000_123,
    )
    write(audit_sink(url), [change])
    names = "pipeline, event_id, shard, event_name, changed_at_ms, version"
    assert ask(f"SELECT {names} FROM audit") == [
        ("orders", change.event_id, "contract/0", "MODIFY", 1_750_000_000_123, change.version)
    ]
    texts = "CAST(keys AS text), CAST(before AS text), CAST(after AS text), CAST(diff AS text), CAST(identity AS text)"
    ((keys, before, after, diff, identity),) = ask(f"SELECT {texts} FROM audit")
    assert json.loads(keys) == {"pk": "1"}
    assert json.loads(before) == {"pk": "1", "status": "NEW", "total": 5, "gone": None}
    assert json.loads(after) == {"pk": "1", "status": "PAID", "total": 5, "note": "x"}
    assert json.loads(diff) == {"status": {"old": "NEW", "new": "PAID"}, "gone": {"old": None}, "note": {"new": "x"}}
    assert json.loads(identity)["principalId"] == "dynamodb.amazonaws.com"


def test_images_that_the_stream_does_not_carry_are_null(url: str, ask: Ask) -> None:
    write(audit_sink(url), [modify("1", {"n": 1}), remove("1")])
    assert ask("SELECT before, diff FROM audit WHERE event_name = 'MODIFY'") == [(None, None)]
    assert ask("SELECT before, after, identity FROM audit WHERE event_name = 'REMOVE'") == [(None, None, None)]


def test_every_digit_and_every_character_is_kept(url: str, ask: Ask) -> None:
    number = Decimal("1.2345678901234567890123456789012345678")
    write(audit_sink(url), [insert("1", {"n": number, "text": "a\x00b\r\n🌊"})])
    ((text,),) = ask("SELECT CAST(after AS text) FROM audit")
    assert str(number) in text
    assert json.loads(text)["text"] == "a\x00b\r\n🌊"


def test_a_position_of_56_digits_is_kept(url: str, ask: Ask) -> None:
    position = int("9" * 56)
    write(audit_sink(url), [insert("1", position=position)])
    assert int(ask("SELECT position FROM audit")[0][0]) == position


def test_a_key_of_a_megabyte_is_kept(url: str, ask: Ask) -> None:
    assert write(audit_sink(url), [insert("x" * 1_000_000)]) == [[APPLIED]]
    assert ask("SELECT length(key) > 1000000 FROM audit") in ([(True,)], [(1,)])


# Append-only


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET shard = 'x'", "DELETE FROM audit", "DELETE FROM audit WHERE 1 = 1"]
)
def test_the_database_refuses_to_change_what_was_kept(url: str, ask: Ask, statement: str) -> None:
    write(audit_sink(url), [insert("1")])
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.InsufficientPrivilege), match="append-only"):
        ask(statement)
    assert ask("SELECT count(*) FROM audit") == [(1,)]


def test_postgresql_refuses_to_truncate_even_for_a_replica_session(postgres_database: str) -> None:
    write(audit_sink(postgres_database), [insert("1")])
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in (b"TRUNCATE audit", b"UPDATE audit SET shard = 'x'", b"DELETE FROM audit"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement)


def test_sqlite_does_not_let_a_row_be_replaced(tmp_path: Path) -> None:
    write(audit_sink(f"sqlite:///{tmp_path}/audit.db"), [insert("1")])
    with sqlite3.connect(tmp_path / "audit.db") as connection:
        row = list(connection.execute("SELECT * FROM audit").fetchone())
        row[2] = "forged"
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT OR REPLACE INTO audit VALUES ({marks})", row)
        row[1] = "another id"
        names = "rowid, " + ", ".join(f'"{column[1]}"' for column in connection.execute("PRAGMA table_info(audit)"))
        connection.execute(f"INSERT OR REPLACE INTO audit ({names}) VALUES (1, {marks})", row)
        assert connection.execute("SELECT shard FROM audit").fetchall() == [("contract/0",)]


# Replays


def test_of_a_batch_that_was_kept_in_part_the_rest_is_kept(url: str, ask: Ask) -> None:
    batch = [insert(f"k{n}", version=n + 1) for n in range(6)]
    first, second, third = write(audit_sink(url), batch[:4], batch[2:], [insert("later", version=9)])
    assert first == [APPLIED] * 4
    assert [type(outcome) for outcome in second] == [Stale, Stale, Applied, Applied]
    assert third == [APPLIED]
    assert ask("SELECT count(*), count(DISTINCT event_id) FROM audit") == [(7, 7)]


def test_an_event_that_stands_in_a_batch_twice_is_kept_once(url: str, ask: Ask) -> None:
    assert write(audit_sink(url), [insert("1"), insert("1"), insert("2", version=2)]) == [
        [APPLIED, Stale("duplicate"), APPLIED]
    ]
    assert ask("SELECT count(*) FROM audit") == [(2,)]


def test_another_change_under_a_known_event_id_is_rejected_and_not_called_a_duplicate(url: str, ask: Ask) -> None:
    again = insert("2", event_id="e1", timestamp_ms=1_760_000_000_000)
    ((_,), (outcome,)) = write(audit_sink(url), [insert("1", event_id="e1")], [again])
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "event_id_taken"
    assert ask("SELECT count(*) FROM audit") == [(1,)]


def test_two_pipelines_may_share_a_table_and_event_ids(url: str, ask: Ask) -> None:
    assert write(audit_sink(url, "orders"), [insert("1")]) == [[APPLIED]]
    assert write(audit_sink(url, "returns"), [insert("1")]) == [[APPLIED]]
    assert ask("SELECT count(*) FROM audit") == [(2,)]


def test_lanes_that_replay_the_same_events_at_once_keep_each_once(url: str, ask: Ask) -> None:
    batch = [insert(f"k{n}", version=n + 1) for n in range(200)]

    async def run() -> list[Sequence[Outcome]]:
        async with opened(audit_sink(url)) as sink:
            return await asyncio.gather(*(sink.write(batch) for _ in range(4)))

    outcomes = [outcome for answer in asyncio.run(run()) for outcome in answer]
    assert outcomes.count(APPLIED) == 200
    assert outcomes.count(Stale("duplicate")) == 600
    assert ask("SELECT count(*) FROM audit") == [(200,)]


# Opening


def test_many_workers_may_open_at_once(url: str, ask: Ask) -> None:
    async def run() -> list[str]:
        sinks = [audit_sink(url) for _ in range(5)]
        await asyncio.gather(*(sink.open() for sink in sinks))
        said = [sink.describe() for sink in sinks]
        await asyncio.gather(*(sink.close() for sink in sinks))
        return said

    assert all("append-only; table audit" in said for said in asyncio.run(run()))
    assert ask("SELECT count(*) FROM audit") == [(0,)]


def test_a_table_that_is_missing_is_a_configuration_error_where_it_may_not_be_made(url: str) -> None:
    with pytest.raises(ConfigError, match="audit"):
        write(audit_sink(url, create=False))


def test_a_table_of_another_shape_is_a_configuration_error(url: str, ask: Ask) -> None:
    ask("CREATE TABLE audit (event_id text)")
    with pytest.raises(ConfigError):
        write(audit_sink(url))


def test_a_table_of_the_users_own_is_used_and_said_to_be_unguarded(url: str, ask: Ask) -> None:
    kind = "text" if url.startswith("sqlite") else "jsonb"
    ask(
        "CREATE TABLE audit (pipeline text, event_id text, shard text, position numeric, event_name text, key text, "
        f"keys {kind}, before {kind}, after {kind}, diff {kind}, identity {kind}, changed_at_ms bigint, "
        "version bigint, recorded_at_ms bigint, UNIQUE (pipeline, event_id))"
    )
    sink = audit_sink(url, create=False)
    assert write(sink, [insert("1", {"n": 1})]) == [[APPLIED]]
    assert "not guarded by triggers" in sink.describe()


def test_a_wrong_password_is_a_configuration_error_that_does_not_tell_it(postgres: PostgresServer) -> None:
    wrong = postgres.url.replace(":millrace-tests@", ":not-this-one@")
    with pytest.raises(ConfigError, match="password") as refused:
        write(audit_sink(wrong))
    assert "not-this-one" not in str(refused.value)


def test_a_user_who_may_not_insert_is_found_out_at_start(postgres_database: str) -> None:
    write(audit_sink(postgres_database))
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE ROLE audit_reader LOGIN PASSWORD 'reader'")
        connection.execute("GRANT SELECT ON audit TO audit_reader")
        try:
            reader = "postgresql://audit_reader:reader@" + postgres_database.rpartition("@")[2]
            with pytest.raises(ConfigError, match="permission"):
                write(audit_sink(reader))
        finally:
            connection.execute("DROP OWNED BY audit_reader")
            connection.execute("DROP ROLE audit_reader")


# Failures


def test_a_row_that_the_database_refuses_fails_the_batch_and_alone_is_rejected(postgres_database: str) -> None:
    poison = insert("p", {"n": 666}, version=3)
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        write(audit_sink(postgres_database))
        connection.execute("ALTER TABLE audit ADD CHECK ((after ->> 'n') IS DISTINCT FROM '666')")
    sink = audit_sink(postgres_database)

    async def run() -> list[Sequence[Outcome]]:
        async with opened(sink):
            with pytest.raises(DataRefused):
                await sink.write([insert("1"), poison])
            return [await sink.write([insert("1")]), await sink.write([poison])]

    (good, (outcome,)) = asyncio.run(run())
    assert good == [APPLIED]
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "constraint"
    assert "23514" in outcome.detail
    assert "666" not in outcome.detail


def test_a_version_that_no_column_holds_is_rejected(url: str) -> None:
    ((outcome,),) = write(audit_sink(url), [msgspec.structs.replace(insert("1"), version=2**63)])
    assert isinstance(outcome, Rejected)


def test_postgresql_that_dies_is_nobodys_fault_and_is_used_again_when_it_is_back(
    postgres: PostgresServer, postgres_database: str
) -> None:
    batch = [insert(f"k{n}", version=n + 1) for n in range(20)]

    async def run() -> Sequence[Outcome]:
        async with opened(audit_sink(postgres_database)) as sink:
            await sink.write(batch[:10])
            postgres.process.kill()
            for _ in range(2):
                with pytest.raises(SinkUnavailable):
                    await sink.write(batch)
            postgres.process.start()
            return await sink.write(batch)

    assert [type(outcome) for outcome in asyncio.run(run())] == [Stale] * 10 + [Applied] * 10


@pytest.mark.slow  # psycopg gives a server that hangs some more seconds to cancel
def test_postgresql_that_hangs_is_unavailable_after_the_timeout(
    postgres: PostgresServer, postgres_database: str
) -> None:
    async def run() -> None:
        async with opened(audit_sink(postgres_database, timeout="500ms")) as sink:
            await sink.write([insert("1")])
            postgres.process.pause()
            with pytest.raises(SinkUnavailable):
                await sink.write([insert("2", version=2)])
            postgres.process.resume()
            assert await sink.write([insert("3", version=3)]) == [APPLIED]

    asyncio.run(run())


def test_a_locked_sqlite_file_is_unavailable_and_then_used_again(tmp_path: Path) -> None:
    async def run() -> Sequence[Outcome]:
        async with opened(audit_sink(f"sqlite:///{tmp_path}/audit.db", timeout="200ms")) as sink:
            with sqlite3.connect(tmp_path / "audit.db", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(SinkUnavailable):
                    await sink.write([insert("1")])
                other.execute("ROLLBACK")
            return await sink.write([insert("1")])

    assert asyncio.run(run()) == [APPLIED]


def test_a_folder_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SQLite"):
        write(audit_sink(f"sqlite:///{tmp_path}/nowhere/audit.db"))
