"""The audit table in SQLite: one file, one writing thread, one transaction a batch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from connector.embedded import write_ahead
from connector.errors import ConfigError, SinkUnavailable
from sinks.audit.store import COLUMNS, DataRefused, Held, Row

ResultT = TypeVar("ResultT")

_COLUMN_TYPES = {"changed_at_ms": "INTEGER", "version": "INTEGER", "recorded_at_ms": "INTEGER"}
_NULLABLE = {"before", "after", "diff", "identity"}

_REFUSED = {
    sqlite3.SQLITE_TOOBIG: "too_big",
    sqlite3.SQLITE_CONSTRAINT: "constraint",
    sqlite3.SQLITE_MISMATCH: "data_error",
}
_FOR_A_PERSON = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
}


def schema(table: str) -> list[str]:
    """The statements that make the table and keep it append-only, each harmless where it was done before."""
    columns = ", ".join(
        f"{name} {_COLUMN_TYPES.get(name, 'TEXT')}{'' if name in _NULLABLE else ' NOT NULL'}" for name in Row._fields
    )
    refuse = "SELECT RAISE(ABORT, 'the audit table is append-only')"
    return [
        f"CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY (pipeline, event_id))",
        f"CREATE INDEX IF NOT EXISTS {table}_key ON {table} (key)",
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_update BEFORE UPDATE ON {table} BEGIN {refuse}; END",
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_delete BEFORE DELETE ON {table} BEGIN {refuse}; END",
        # INSERT OR REPLACE deletes without asking the trigger above: a row that is there stays as it is.
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE pipeline = NEW.pipeline AND event_id = NEW.event_id) "
        f"OR EXISTS (SELECT 1 FROM {table} WHERE rowid = NEW.rowid) BEGIN SELECT RAISE(IGNORE); END",
    ]


class SQLiteStore:
    """A file. SQLite has one writer at a time, so every lane's batches go through one thread."""

    def __init__(self, path: str, table: str, *, create: bool, synchronous: str, timeout_s: float) -> None:
        self._path = path
        self._table = table
        self._create = create
        self._synchronous = synchronous
        self._timeout_s = timeout_s
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.about = "not open"
        marks = ", ".join("?" * len(Row._fields))
        # Not INSERT OR IGNORE: that would also drop rows that break any other constraint, silently.
        self._insert = f"INSERT INTO {table} ({COLUMNS}) VALUES ({marks}) ON CONFLICT (pipeline, event_id) DO NOTHING"  # noqa: S608
        self._find_held = (
            f"SELECT event_id, key, changed_at_ms FROM {table} "  # noqa: S608
            "WHERE pipeline = ? AND event_id IN (SELECT value FROM json_each(?)) AND rowid <= ?"
        )

    async def open(self) -> None:
        """See ``Store.open``."""
        await self._in_thread(self._open)

    async def insert(self, rows: Sequence[Row]) -> Mapping[str, Held]:
        """See ``Store.insert``."""
        return await self._in_thread(lambda: self._insert_all(rows))

    async def close(self) -> None:
        """See ``Store.close``."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(sqlite3.Error):
                await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
            thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit-sqlite")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        try:
            connection = self._connect()
            if self._create:
                for statement in schema(self._table):
                    connection.execute(statement)
            marks = len(Row._fields)
            connection.execute(f"EXPLAIN {self._insert}", [None] * marks)
            connection.execute(f"EXPLAIN {self._find_held}", [None] * 3)
            guards = connection.execute(
                "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? AND name LIKE ? || '_no_%'",
                (self._table, self._table),
            ).fetchone()[0]
        except sqlite3.Error as error:
            self._disconnect()
            if _primary_code(error) in _FOR_A_PERSON:
                raise ConfigError(f"cannot use the SQLite file: {error}", path=("url",)) from error
            raise SinkUnavailable(f"SQLite: {error}") from error
        self.about = f"SQLite {sqlite3.sqlite_version}, {'append-only' if guards == 3 else 'not guarded by triggers'}"

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
            self._connection = connection
            write_ahead(connection, self._timeout_s)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _insert_all(self, rows: Sequence[Row]) -> dict[str, Held]:
        held: dict[str, Held] = {}
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                (last,) = connection.execute(f"SELECT max(rowid) FROM {self._table}").fetchone()  # noqa: S608
                kept = connection.executemany(self._insert, rows).rowcount
                if kept < len(rows):
                    # Nobody else writes inside this transaction: what has an older row id was there before.
                    asked = (rows[0].pipeline, json.dumps([row.event_id for row in rows]), last or 0)
                    for event_id, *rest in connection.execute(self._find_held, asked):
                        held[event_id] = Held(*rest)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (OverflowError, UnicodeError) as error:
            raise DataRefused("data_error", str(error)) from error
        except sqlite3.Error as error:
            reason = _REFUSED.get(_primary_code(error))
            if reason is not None:
                raise DataRefused(reason, str(error)) from error
            self._disconnect()
            raise SinkUnavailable(f"SQLite: {error}") from error
        return held


def _primary_code(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return sqlite3.SQLITE_MISUSE if code is None else code & 0xFF
