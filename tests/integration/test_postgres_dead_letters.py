"""Dead letters in a real PostgreSQL: what people select, and sessions that are cut off."""

from __future__ import annotations

import psycopg
import pytest

from connector.config.units import Secret
from connector.deadletter.postgres import PostgresDeadLetters, PostgresDeadLettersConfig
from connector.errors import ConfigError, DeadLetterError
from tests.coroutines import asynchronous
from tests.unit.deadletter.letters import letter, positions

pytestmark = pytest.mark.servers


def made(url: str, **options: object) -> PostgresDeadLetters:
    config = PostgresDeadLettersConfig.model_validate({"url": Secret(url), **options})
    return PostgresDeadLetters(config, "orders")


@asynchronous
async def test_letters_can_be_selected_by_what_people_ask_for(postgres_database: str) -> None:
    destination = made(postgres_database)
    await destination.open()
    await destination.append([letter(1), letter(2, key='{"pk":"\udc80\x00"}', code="other")])
    await destination.close()
    with psycopg.connect(postgres_database) as connection:
        rows = connection.execute(
            "SELECT route, item_key, kind, code, state, extract(epoch FROM last_failed)::bigint "
            "FROM millrace_dead_letters ORDER BY number"
        ).fetchall()
    assert rows[0] == ("search", '{"pk":"a"}', "rejected", "mapper_parsing_exception", "dead", 1_700_000_000)
    assert rows[1][1] == '{"pk":"?␀"}'


@asynchronous
async def test_a_session_that_was_cut_off_is_made_anew(postgres_database: str) -> None:
    destination = made(postgres_database)
    await destination.open()
    await destination.append([letter(1)])
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'millrace' "
            "AND datname = current_database()"
        )
    with pytest.raises(DeadLetterError, match="dead letters in PostgreSQL"):
        await destination.append([letter(2)])
    await destination.append([letter(2)])
    assert await positions(destination) == [1, 2]
    await destination.close()


@asynchronous
async def test_a_lock_that_is_not_given_in_time_is_a_failure_that_may_pass(postgres_database: str) -> None:
    destination = made(postgres_database, timeout=1.0)
    await destination.open()
    with psycopg.connect(postgres_database) as connection:
        connection.execute("LOCK TABLE millrace_dead_letters IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DeadLetterError, match="did not answer within 1 s"):
            await destination.append([letter(1)])
    await destination.append([letter(1)])
    assert await positions(destination) == [1]
    await destination.close()


@asynchronous
async def test_what_only_a_person_can_mend_is_told_at_once_without_the_password(postgres_database: str) -> None:
    nowhere = postgres_database.rpartition("/")[0] + "/nowhere"
    with pytest.raises(ConfigError, match="dead letters cannot be kept in PostgreSQL"):
        await made(nowhere).open()
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE TABLE letters (n int)")
    with pytest.raises(ConfigError, match="column"):
        await made(postgres_database, table="letters").open()
    with pytest.raises(DeadLetterError):
        await made("postgresql://u:secret-word@127.0.0.1:1/x", timeout=2.0).open()


@asynchronous
async def test_a_schema_may_be_named_and_several_daemons_may_make_the_table_at_once(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE SCHEMA ops")
    for _ in range(2):
        destination = made(postgres_database, table="ops.dead")
        await destination.open()
        await destination.append([letter(1)])
        assert await positions(destination) == [1]
        await destination.close()
