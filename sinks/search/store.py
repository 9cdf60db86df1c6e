"""The SQLite file: documents with versions, tombstones, and the full-text index over them. All of it blocks.

Per index: the table ``<index>:documents`` holds each document as JSON with its version (a deleted one has a NULL
document: its tombstone), and the FTS5 table ``<index>:texts`` holds the searched texts under the same row numbers.
"""

# ruff: noqa: S608 - the only names put into statements are those of tables and columns, quoted; values are bound.

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from connector.embedded import write_ahead
from connector.errors import ConfigError, SinkUnavailable

_BUSY_S = 5.0
_REBUILD_ROWS = 1000
_FIELDS_TABLE = "millrace_search"


class Put(msgspec.Struct, frozen=True, gc=False):
    """A document to be kept and found by its texts (one for each field)."""

    id: str
    version: int
    document: bytes
    texts: tuple[str, ...]


class Delete(msgspec.Struct, frozen=True, gc=False):
    """A document to be forgotten; its tombstone keeps the version."""

    id: str
    version: int


Write = Put | Delete


class Store:
    """One index in one file, on one connection. Not for two threads at once."""

    def __init__(self, path: Path, index: str, fields: Sequence[str]) -> None:
        self._fields = list(fields)
        self._documents = quoted(f"{index}:documents")
        self._texts = quoted(f"{index}:texts")
        self._connection = _connect(path)
        try:
            self._prepare(index)
        except BaseException:
            self._connection.close()
            raise
        self._put = f"""
            INSERT INTO {self._documents} (id, version, document, deleted_ms) VALUES (?, ?, ?, NULL)
            ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = excluded.document, deleted_ms = NULL
            WHERE excluded.version >= version RETURNING row"""
        self._bury = f"""
            INSERT INTO {self._documents} (id, version, document, deleted_ms) VALUES (?, ?, NULL, ?)
            ON CONFLICT (id) DO UPDATE SET version = excluded.version, document = NULL, deleted_ms = excluded.deleted_ms
            WHERE excluded.version >= version RETURNING row"""
        places = ", ".join("?" * (len(fields) + 1))
        self._index = f"INSERT INTO {self._texts} (rowid, {_columns(fields)}) VALUES ({places})"
        self._unindex = f"DELETE FROM {self._texts} WHERE rowid = ?"

    def write(self, writes: Sequence[Write], now_ms: int) -> list[bool]:
        """All of it in one transaction; of each write, whether it was done (False: something newer is there)."""
        execute = self._connection.execute
        done: list[bool] = []
        with self._transaction():
            for write in writes:
                if isinstance(write, Put):
                    row = execute(self._put, (write.id, write.version, write.document)).fetchone()
                else:
                    row = execute(self._bury, (write.id, write.version, now_ms)).fetchone()
                done.append(row is not None)
                if row is None:
                    continue
                execute(self._unindex, row)
                if isinstance(write, Put):
                    execute(self._index, (*row, *write.texts))
        return done

    def forget_deletions(self, before_ms: int) -> None:
        """Drop the tombstones of what was deleted before this time."""
        with self._transaction():
            self._connection.execute(
                f"DELETE FROM {self._documents} WHERE document IS NULL AND deleted_ms < ?", (before_ms,)
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)

    def _prepare(self, index: str) -> None:
        """Create what is missing. An index over other fields than before is built anew from the documents."""
        execute = self._connection.execute
        with self._transaction():
            execute(f"CREATE TABLE IF NOT EXISTS {_FIELDS_TABLE} (name TEXT PRIMARY KEY, fields TEXT NOT NULL)")
            execute(
                f"""CREATE TABLE IF NOT EXISTS {self._documents} (
                    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
                    document BLOB, deleted_ms INTEGER)"""
            )
            execute(
                f"""CREATE INDEX IF NOT EXISTS {quoted(f"{index}:deleted")}
                    ON {self._documents} (deleted_ms) WHERE document IS NULL"""
            )
            known = execute(f"SELECT fields FROM {_FIELDS_TABLE} WHERE name = ?", (index,)).fetchone()
            if known is not None and json.loads(known[0]) == self._fields:
                return
            execute(f"DROP TABLE IF EXISTS {self._texts}")
            execute(
                f"""CREATE VIRTUAL TABLE {self._texts}
                    USING fts5({_columns(self._fields)}, tokenize = 'unicode61 remove_diacritics 2')"""
            )
            self._index_all()
            execute(f"INSERT OR REPLACE INTO {_FIELDS_TABLE} VALUES (?, ?)", (index, json.dumps(self._fields)))

    def _index_all(self) -> None:
        paths = split_paths(self._fields)
        places = ", ".join("?" * (len(self._fields) + 1))
        rows = self._connection.execute(f"SELECT row, document FROM {self._documents} WHERE document IS NOT NULL")
        while some := rows.fetchmany(_REBUILD_ROWS):
            self._connection.executemany(
                f"INSERT INTO {self._texts} (rowid, {_columns(self._fields)}) VALUES ({places})",
                [(row, *texts_of(msgspec.json.decode(document), paths)) for row, document in some],
            )


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT; what goes wrong with the file is told as SinkUnavailable."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise file_unavailable(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as failed:
                self._roll_back()
                raise file_unavailable(failed) from failed
            return
        self._roll_back()
        if isinstance(error, sqlite3.OperationalError):
            raise file_unavailable(error) from error

    def _roll_back(self) -> None:
        # A full disk makes SQLite roll back by itself.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def file_unavailable(error: sqlite3.Error) -> SinkUnavailable:
    """A locked file, a full disk, a file that may not be written: nothing is any change's fault."""
    return SinkUnavailable(f"the search index's file cannot be used ({error.sqlite_errorname}: {error})")


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise file_unavailable(error) from error
    try:
        write_ahead(connection, _BUSY_S)
        # A checkpoint may be saved elsewhere as soon as a batch is written: it must be on the disk by then.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.OperationalError as error:
        connection.close()
        raise file_unavailable(error) from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigError(f"{path} is no SQLite database", path=("path",)) from error
    return connection


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _columns(fields: Sequence[str]) -> str:
    return ", ".join(map(quoted, fields))


Path_ = tuple[str, ...]


def split_paths(fields: Sequence[str]) -> list[Path_]:
    """``address.city`` → ``("address", "city")``."""
    return [tuple(field.split(".")) for field in fields]


def texts_of(document: dict[str, Any], paths: Sequence[Path_]) -> tuple[str, ...]:
    """The text at each path: of lists and maps, the texts of their members. A path leads into each member of a list."""
    return tuple(" ".join(_texts(list(_at(document, path)))).replace("\x00", " ") for path in paths)


def _at(value: Any, path: Path_) -> Iterator[Any]:
    if not path:
        yield value
    elif isinstance(value, dict):
        yield from _at(value.get(path[0]), path[1:])
    elif isinstance(value, list):
        for member in value:
            yield from _at(member, path)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
