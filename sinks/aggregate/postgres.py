"""The tables in PostgreSQL (13 or newer): whole batches as arrays, and row locks that keep lanes and zombies apart.

Locks are taken in one order (keys, then groups, each sorted), so that transactions wait for each other and not in a
circle. READ COMMITTED is asked for by name: each statement must see what was kept before its lock was given.
"""

# ruff: noqa: S608 - the only names put into statements are those of tables and columns, quoted; values are bound.

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from connector.errors import ConfigError, SinkUnavailable
from sinks.aggregate.config import Kind
from sinks.aggregate.postgres_errors import is_for_a_person, kind_of, said
from sinks.aggregate.postgres_transaction import Connection, PostgresTransaction, sql_type
from sinks.aggregate.store import DataRefused, Schema
from sinks.aggregate.tables import check_definition, group_columns, item_column, quoted

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace.aggregate.schema'))"
_FORGET_ROWS = 10_000


def tables(schema: Schema) -> list[str]:
    """The statements that make the tables.

    Room is left in their pages, so that rows whose indexed columns stay as they are change in place.
    """
    table, items = quoted(schema.table), quoted(f"{schema.table}_items")
    name = schema.table.rpartition(".")[2]
    names = "".join(f"{quoted(column)} text NOT NULL, " for column in schema.columns)
    numbers = "".join(
        f", {quoted(column)} {'bigint' if whole else 'numeric'}"
        for measure in schema.measures
        for column, whole in group_columns(measure)
    )
    added = "".join(f", {item_column(measure)} {sql_type(measure)}" for measure in schema.measures)
    statements = [
        f"CREATE TABLE {table} (group_id bytea PRIMARY KEY, {names}items bigint NOT NULL{numbers}) "
        "WITH (fillfactor = 50)",
        f"CREATE TABLE {items} (id bytea PRIMARY KEY, key text NOT NULL, version bigint NOT NULL, "
        f"removed_at_ms bigint, group_id bytea{added}) WITH (fillfactor = 80)",
        f"CREATE INDEX {quoted(f'{name}_removed')} ON {items} (removed_at_ms) WHERE removed_at_ms IS NOT NULL",
        f"CREATE TABLE {quoted(f'{schema.table}_values')} (group_id bytea, measure text, value_id bytea, "
        "n bigint NOT NULL, PRIMARY KEY (group_id, measure, value_id))",
        f"CREATE TABLE {quoted(f'{schema.table}_definition')} "
        "(one integer PRIMARY KEY CHECK (one = 1), definition text NOT NULL)",
    ]
    if schema.columns:
        listed = ", ".join(map(quoted, schema.columns))
        statements.append(f"CREATE INDEX {quoted(f'{name}_group')} ON {table} ({listed})")
    for at, measure in enumerate(schema.measures):
        if measure.kind in (Kind.MIN, Kind.MAX):
            column = item_column(measure)
            statements.append(
                f"CREATE INDEX {quoted(f'{name}_m{at}')} ON {items} (group_id, {column}) WHERE {column} IS NOT NULL"
            )
    return statements


class PostgresStore:
    """Tables in PostgreSQL. A connection for each lane that writes at once. See ``Store``."""

    def __init__(self, url: str, schema: Schema, *, create: bool, timeout_s: float) -> None:
        given = conninfo_to_dict(url)
        defaults: dict[str, str | int] = {
            "connect_timeout": max(2, math.ceil(timeout_s)),
            "application_name": "millrace",
        }
        self._conninfo = make_conninfo(url, **{name: value for name, value in defaults.items() if name not in given})
        self._schema = schema
        self._create = create
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self.about = "not open"

    async def open(self) -> None:
        """See ``Store.open``."""
        definition = quoted(f"{self._schema.table}_definition")
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection, connection.transaction():
                if self._create:
                    await self._create_missing(connection, definition)
                cursor = await connection.execute(f"SELECT definition FROM {definition}".encode())
                held = await cursor.fetchone()
                self.about = f"PostgreSQL {connection.info.server_version // 10000}"
        except TimeoutError as error:
            raise SinkUnavailable(f"PostgreSQL did not answer within {self._timeout_s:g} s") from error
        except psycopg.Error as error:
            if is_for_a_person(error):
                raise ConfigError(f"cannot use PostgreSQL: {said(error)}", path=("url",)) from error
            raise SinkUnavailable(f"PostgreSQL: {said(error)}") from error
        check_definition(self._schema, None if held is None else held[0])

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """See ``Store.transaction``."""
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection, connection.transaction():
                yield PostgresTransaction(connection, self._schema)
        except TimeoutError as error:
            raise SinkUnavailable(f"PostgreSQL did not take a batch within {self._timeout_s:g} s") from error
        except UnicodeError as error:
            raise DataRefused("not_unicode", "a text is not Unicode") from error
        except psycopg.Error as error:
            raise kind_of(error) from error

    async def forget_removed(self, before_ms: int) -> None:
        """See ``Store.forget_removed``. A row that somebody holds is left for the next time."""
        items = quoted(f"{self._schema.table}_items")
        async with self.transaction() as transaction:
            await transaction.run(
                f"DELETE FROM {items} WHERE id IN "
                f"(SELECT id FROM {items} WHERE removed_at_ms < %s LIMIT {_FORGET_ROWS} FOR UPDATE SKIP LOCKED)",
                (before_ms,),
            )

    async def close(self) -> None:
        """See ``Store.close``."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _create_missing(self, connection: Connection, definition: str) -> None:
        await connection.execute(_LOCK)
        found = await (await connection.execute("SELECT to_regclass(%s)", (definition,))).fetchone()
        if found is not None and found[0] is not None:
            return
        for statement in tables(self._schema):
            await connection.execute(statement.encode())
        await connection.execute(f"INSERT INTO {definition} VALUES (1, %s)".encode(), (self._schema.definition,))

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            yield connection
        except BaseException as error:
            # A session that was cut off or left in the middle is not used again; nor are its siblings after a restart.
            if isinstance(error, Exception) and connection.info.transaction_status is TransactionStatus.IDLE:
                self._idle.append(connection)
            else:
                await connection.close()
                await self.close()
            raise
        self._idle.append(connection)

    async def _connect(self) -> Connection:
        # No statement is prepared: that would tie the sink to one server session behind PgBouncer.
        connection: Connection = await AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        # "Kept" means on the disk, whatever the database's default is; a stricter setting stays.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        return connection
