"""The audit table in PostgreSQL: COPY straight into the table, and inserts that tell duplicates where COPY meets one.

COPY is two to three times as fast as any INSERT … ON CONFLICT, but fails as a whole on a row that is there already.
Such rows come only in replays, and replays come in runs: after the first one, batches are inserted until one has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from connector.errors import ConfigError, SinkUnavailable
from sinks.audit.store import COLUMNS, Conflict, DataRefused, Held, Row

Connection = AsyncConnection[tuple[Any, ...]]

_COLUMN_TYPES = {
    "position": "numeric",
    "keys": "json",
    "before": "json",
    "after": "json",
    "diff": "json",
    "identity": "json",
    "changed_at_ms": "bigint",
    "version": "bigint",
    "recorded_at_ms": "bigint",
}
_NULLABLE = {"before", "after", "diff", "identity"}
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace.audit.schema'))"

_DATA_CLASSES = {"21": "data_error", "22": "data_error", "23": "constraint", "44": "constraint", "54": "too_big"}
"""SQLSTATE classes that blame a row. P0 (raised by somebody's trigger) does so too."""
_REFUSALS = ("password authentication", "does not exist", "pg_hba.conf", "not permitted to log in", "no password")
"""What PostgreSQL says before a session is there has no SQLSTATE in libpq; these are its words for what stays wrong."""


def schema(table: str) -> list[str]:
    """The statements that make the table and keep it append-only.

    JSON is kept as ``json``: it holds the text as it came, with ``\\u0000`` and every digit, which ``jsonb`` refuses or
    rewrites. The index by key is a hash index because keys may be longer than a B-tree entry.
    """
    columns = ", ".join(
        f"{name} {_COLUMN_TYPES.get(name, 'text')}{'' if name in _NULLABLE else ' NOT NULL'}" for name in Row._fields
    )
    name = table.rpartition(".")[2]
    function = f"{table}_append_only"
    return [
        f"CREATE TABLE {table} ({columns}, PRIMARY KEY (pipeline, event_id))",
        f"CREATE INDEX {name}_key ON {table} USING hash (key)",
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'the audit table is append-only' USING ERRCODE = 'insufficient_privilege'; END $$",
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
        # ALWAYS: also for whoever sets session_replication_role.
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}_append_only",
    ]


class PostgresStore:
    """A table in PostgreSQL (13 or newer). A connection for each lane that writes at once."""

    def __init__(self, url: str, table: str, *, create: bool, timeout_s: float) -> None:
        given = conninfo_to_dict(url)
        defaults: dict[str, str | int] = {
            "connect_timeout": max(2, math.ceil(timeout_s)),
            "application_name": "millrace",
        }
        self._conninfo = make_conninfo(url, **{name: value for name, value in defaults.items() if name not in given})
        self._table = table
        self._create = create
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._replaying = False
        self.about = "not open"
        marks = ", ".join(["%s"] * len(Row._fields))
        unique = "ON CONFLICT (pipeline, event_id) DO NOTHING"
        self._copy = f"COPY {table} ({COLUMNS}) FROM STDIN"
        self._insert = f"INSERT INTO {table} ({COLUMNS}) VALUES ({marks}) {unique}"  # noqa: S608
        self._try = f"INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM {table} WHERE false {unique}"  # noqa: S608
        self._find_held = (
            f"SELECT event_id, key, changed_at_ms FROM {table} WHERE pipeline = %s "  # noqa: S608
            "AND event_id = ANY(%s) AND xmin <> pg_current_xact_id()::xid"
        )

    async def open(self) -> None:
        """See ``Store.open``."""
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection:
                if self._create:
                    async with connection.transaction():
                        await connection.execute(_LOCK)
                        if await self._is_missing(connection):
                            for statement in schema(self._table):
                                await connection.execute(statement)
                await connection.execute(self._try)
                guarded = await connection.execute(
                    "SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgenabled <> 'D' AND tgname = %s",
                    (self._table, f"{self._table.rpartition('.')[2]}_append_only"),
                )
                kind = "append-only" if await guarded.fetchone() else "not guarded by triggers"
                self.about = f"PostgreSQL {connection.info.server_version // 10000}, {kind}"
        except TimeoutError as error:
            raise SinkUnavailable(f"PostgreSQL did not answer within {self._timeout_s:g} s") from error
        except psycopg.Error as error:
            if _is_for_a_person(error):
                raise ConfigError(f"cannot use PostgreSQL: {_said(error)}", path=("url",)) from error
            raise SinkUnavailable(f"PostgreSQL: {_said(error)}") from error

    async def insert(self, rows: Sequence[Row]) -> Mapping[str, Held]:
        """See ``Store.insert``."""
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection:
                if not self._replaying:
                    try:
                        await self._copy_all(connection, rows)
                    except errors.UniqueViolation:
                        self._replaying = True
                    else:
                        return {}
                held = await self._insert_all(connection, rows)
                self._replaying = bool(held)
                return held
        except TimeoutError as error:
            raise SinkUnavailable(f"PostgreSQL did not take a batch within {self._timeout_s:g} s") from error
        except UnicodeError as error:
            raise DataRefused("not_unicode", "a text is not Unicode") from error
        except psycopg.Error as error:
            raise _kind_of(error) from error

    async def close(self) -> None:
        """See ``Store.close``."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _copy_all(self, connection: Connection, rows: Sequence[Row]) -> None:
        async with connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            for row in rows:
                await copy.write_row(row)

    async def _insert_all(self, connection: Connection, rows: Sequence[Row]) -> dict[str, Held]:
        held: dict[str, Held] = {}
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(self._insert, rows)
            if cursor.rowcount < len(rows):
                # What another transaction than this one wrote was there before.
                asked = (rows[0].pipeline, [row.event_id for row in rows])
                await cursor.execute(self._find_held, asked)
                async for event_id, key, changed_at_ms in cursor:
                    held[event_id] = Held(key, changed_at_ms)
        return held

    async def _is_missing(self, connection: Connection) -> bool:
        found = await (await connection.execute("SELECT to_regclass(%s)", (self._table,))).fetchone()
        return found is None or found[0] is None

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            yield connection
        except BaseException as error:
            # A session that was cut off or left in the middle is not used again; nor are its siblings after a restart.
            if isinstance(error, psycopg.Error) and connection.info.transaction_status is TransactionStatus.IDLE:
                self._idle.append(connection)
            else:
                await connection.close()
                await self.close()
            raise
        self._idle.append(connection)

    async def _connect(self) -> Connection:
        # No statement is prepared: that would tie the sink to one server session behind PgBouncer, and wins nothing.
        connection = await AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        # "Kept" means on the disk, whatever the database's default is; a stricter setting stays.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        return connection


def _kind_of(error: psycopg.Error) -> Exception:
    state = error.sqlstate or ""
    if state.startswith("40"):
        return Conflict(_said(error))
    reason = _DATA_CLASSES.get(state[:2]) or ("constraint" if state == "P0001" else None)
    if reason is None and not state and isinstance(error, psycopg.DataError):
        reason = "data_error"  # the client found it, before it was sent
    if reason is not None:
        return DataRefused(reason, _said(error))
    return SinkUnavailable(f"PostgreSQL: {_said(error)}")


def _is_for_a_person(error: psycopg.Error) -> bool:
    state = error.sqlstate or ""
    if state:
        return state[:2] in ("28", "3D", "3F", "42", "0A")
    return isinstance(error, psycopg.OperationalError) and any(words in str(error) for words in _REFUSALS)


def _said(error: psycopg.Error) -> str:
    """The server's first line only: what follows may quote the row."""
    message = error.diag.message_primary or str(error).partition("\n")[0]
    return f"{message} (SQLSTATE {error.sqlstate})" if error.sqlstate else message
