"""The tables in SQLite: one file, one thread, one transaction at a time. Numbers are texts: its own would round."""

# ruff: noqa: S608 - the only names put into statements are those of tables and columns, quoted; values are bound.

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from connector.embedded import write_ahead
from connector.errors import ConfigError, SinkUnavailable
from connector.onethread import OneThread
from connector.templates import plain
from sinks.aggregate.config import Kind
from sinks.aggregate.decimals import average, from_sortable, sortable
from sinks.aggregate.store import (
    Average,
    Cell,
    Counted,
    DataRefused,
    Group,
    GroupRow,
    Item,
    ItemRow,
    Measure,
    Schema,
    Value,
)
from sinks.aggregate.tables import check_definition, group_columns, item_column, quoted

ResultT = TypeVar("ResultT")

_FORGET_ROWS = 10_000
_REFUSED = {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
_FOR_A_PERSON = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
}


def tables(schema: Schema) -> list[str]:
    """The statements that make the tables, each harmless where it was done before."""
    table, items = quoted(schema.table), quoted(f"{schema.table}_items")
    names = "".join(f"{quoted(name)} TEXT NOT NULL, " for name in schema.columns)
    numbers = "".join(
        f", {quoted(name)} {'INTEGER' if whole else 'TEXT'}"
        for measure in schema.measures
        for name, whole in group_columns(measure)
    )
    added = "".join(f", {item_column(measure)}" for measure in schema.measures)
    statements = [
        f"CREATE TABLE IF NOT EXISTS {table} "
        f"(group_id BLOB PRIMARY KEY, {names}items INTEGER NOT NULL{numbers}) WITHOUT ROWID",
        f"CREATE TABLE IF NOT EXISTS {items} (id BLOB PRIMARY KEY, key TEXT NOT NULL, version INTEGER NOT NULL, "
        f"removed_at_ms INTEGER, group_id BLOB{added}) WITHOUT ROWID",
        f"CREATE INDEX IF NOT EXISTS {quoted(f'{schema.table}_removed')} ON {items} (removed_at_ms) "
        "WHERE removed_at_ms IS NOT NULL",
        f"CREATE TABLE IF NOT EXISTS {quoted(f'{schema.table}_values')} (group_id BLOB, measure TEXT, value_id BLOB, "
        "n INTEGER NOT NULL, PRIMARY KEY (group_id, measure, value_id)) WITHOUT ROWID",
        f"CREATE TABLE IF NOT EXISTS {quoted(f'{schema.table}_definition')} "
        "(one INTEGER PRIMARY KEY CHECK (one = 1), definition TEXT NOT NULL)",
    ]
    if schema.columns:
        listed = ", ".join(map(quoted, schema.columns))
        statements.append(f"CREATE INDEX IF NOT EXISTS {quoted(f'{schema.table}_group')} ON {table} ({listed})")
    statements += [
        f"CREATE INDEX IF NOT EXISTS {quoted(f'{schema.table}_m_{measure.name}')} "
        f"ON {items} (group_id, {item_column(measure)}) WHERE {item_column(measure)} IS NOT NULL"
        for measure in schema.measures
        if measure.kind in (Kind.MIN, Kind.MAX)
    ]
    return statements


class SQLiteStore:
    """A file. It has one writer at a time, so lanes take turns. See ``Store``."""

    def __init__(self, path: str, schema: Schema, *, create: bool, synchronous: str, timeout_s: float) -> None:
        self._path = path
        self._schema = schema
        self._create = create
        self._synchronous = synchronous
        self._timeout_s = timeout_s
        self._connection: sqlite3.Connection | None = None
        self._thread = OneThread("aggregate-sqlite")
        self._turn = asyncio.Lock()
        self.about = "not open"

    async def open(self) -> None:
        """See ``Store.open``."""
        await self._thread.run(self._open)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[_SQLiteTransaction]:
        """See ``Store.transaction``."""
        async with self._turn:
            try:
                connection = await self._thread.run(self._begin)
                yield _SQLiteTransaction(connection, self._thread, self._schema)
                await self._thread.run(lambda: connection.execute("COMMIT"))
            except (OverflowError, UnicodeError) as error:
                await self._thread.run(self._roll_back)
                raise DataRefused("data_error", str(error)) from error
            except sqlite3.Error as error:
                if _primary_code(error) in _REFUSED:
                    await self._thread.run(self._roll_back)
                    raise DataRefused("data_error", str(error)) from error
                await self._thread.run(self._disconnect)
                raise SinkUnavailable(f"SQLite: {error}") from error
            except BaseException:
                # Also when the write is cancelled: whatever still runs in the thread is before this.
                self._thread.start(self._roll_back)
                raise

    async def forget_removed(self, before_ms: int) -> None:
        """See ``Store.forget_removed``."""
        items = quoted(f"{self._schema.table}_items")
        async with self.transaction() as transaction:
            await transaction.run(
                lambda connection: connection.execute(
                    f"DELETE FROM {items} WHERE id IN (SELECT id FROM {items} WHERE removed_at_ms < ? LIMIT ?)",
                    (before_ms, _FORGET_ROWS),
                )
            )

    async def close(self) -> None:
        """See ``Store.close``."""
        if self._connection is not None:
            await self._thread.run(self._disconnect)
        self._thread.stop()

    def _open(self) -> None:
        try:
            connection = self._begin()
            if self._create:
                for statement in tables(self._schema):
                    connection.execute(statement)
            definition = quoted(f"{self._schema.table}_definition")
            if self._create:
                connection.execute(
                    f"INSERT INTO {definition} VALUES (1, ?) ON CONFLICT DO NOTHING", (self._schema.definition,)
                )
            held = connection.execute(f"SELECT definition FROM {definition}").fetchone()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._disconnect()
            if _primary_code(error) in _FOR_A_PERSON:
                raise ConfigError(f"cannot use the SQLite file: {error}", path=("url",)) from error
            raise SinkUnavailable(f"SQLite: {error}") from error
        check_definition(self._schema, None if held is None else held[0])
        self.about = f"SQLite {sqlite3.sqlite_version}"

    def _begin(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
            self._connection = connection
            write_ahead(connection, self._timeout_s)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _roll_back(self) -> None:
        # A full disk makes SQLite roll back by itself.
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class _SQLiteTransaction:
    """See ``Transaction``."""

    def __init__(self, connection: sqlite3.Connection, thread: OneThread, schema: Schema) -> None:
        self._connection = connection
        self._thread = thread
        self._measures = schema.measures
        self._table = quoted(schema.table)
        self._items = quoted(f"{schema.table}_items")
        self._values = quoted(f"{schema.table}_values")
        self._columns = [quoted(name) for name in schema.columns]
        self._added = [item_column(measure) for measure in schema.measures]
        self._numbers = [quoted(name) for measure in schema.measures for name, _ in group_columns(measure)]

    async def run(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Do something in the thread."""
        return await self._thread.run(lambda: work(self._connection))

    async def items(self, ids: Sequence[bytes]) -> Mapping[bytes, Item]:
        """See ``Transaction.items``."""
        select = f"SELECT {', '.join(['version', 'group_id', *self._added])} FROM {self._items} WHERE id = ?"

        def read(connection: sqlite3.Connection) -> dict[bytes, Item]:
            found = {}
            for item_id in ids:
                row = connection.execute(select, (item_id,)).fetchone()
                if row is not None:
                    values = tuple(map(_value, self._measures, row[2:]))
                    found[item_id] = Item(row[0], row[1], values)
            return found

        return await self.run(read)

    async def put_items(self, new: Sequence[ItemRow], known: Sequence[ItemRow]) -> None:
        """See ``Transaction.put_items``. Nobody else writes inside the transaction: there is no conflict."""
        marks = ", ".join("?" * (5 + len(self._added)))
        names = ", ".join(["id", "key", "version", "removed_at_ms", "group_id", *self._added])
        put = f"INSERT OR REPLACE INTO {self._items} ({names}) VALUES ({marks})"
        rows = [
            (row.id, row.key, row.item.version, row.removed_at_ms, row.item.group_id, *self._added_by(row.item))
            for row in (*new, *known)
        ]
        await self.run(lambda connection: connection.executemany(put, rows))

    async def groups(self, ids: Sequence[bytes]) -> Mapping[bytes, Group]:
        """See ``Transaction.groups``."""
        select = f"SELECT {', '.join(['items', *self._numbers])} FROM {self._table} WHERE group_id = ?"

        def read(connection: sqlite3.Connection) -> dict[bytes, Group]:
            found = {}
            for group_id in ids:
                row = connection.execute(select, (group_id,)).fetchone()
                if row is not None:
                    rest = iter(row[1:])
                    found[group_id] = Group(row[0], tuple(_cell(measure, rest) for measure in self._measures))
            return found

        return await self.run(read)

    async def put_groups(self, new: Sequence[GroupRow], known: Sequence[GroupRow], empty: Sequence[bytes]) -> None:
        """See ``Transaction.put_groups``."""
        names = ["group_id", *self._columns, "items", *self._numbers]
        insert = f"INSERT INTO {self._table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        setting = ", ".join(f"{name} = ?" for name in ("items", *self._numbers))
        update = f"UPDATE {self._table} SET {setting} WHERE group_id = ?"
        inserted = [(row.id, *row.names, *self._stored(row.group)) for row in new]
        updated = [(*self._stored(row.group), row.id) for row in known]

        def put(connection: sqlite3.Connection) -> None:
            connection.executemany(insert, inserted)
            connection.executemany(update, updated)
            connection.executemany(f"DELETE FROM {self._table} WHERE group_id = ?", [(group_id,) for group_id in empty])

        await self.run(put)

    async def extremes(self, measure: Measure, group_ids: Sequence[bytes]) -> Mapping[bytes, Decimal | None]:
        """See ``Transaction.extremes``."""
        name = item_column(measure)
        select = f"SELECT {measure.kind.value}({name}) FROM {self._items} WHERE group_id = ? AND {name} IS NOT NULL"

        def read(connection: sqlite3.Connection) -> dict[bytes, Decimal | None]:
            found = {}
            for group_id in group_ids:
                (text,) = connection.execute(select, (group_id,)).fetchone()
                found[group_id] = None if text is None else from_sortable(text)
            return found

        return await self.run(read)

    async def values(self, wanted: Sequence[Counted]) -> Mapping[Counted, int]:
        """See ``Transaction.values``."""
        select = f"SELECT n FROM {self._values} WHERE group_id = ? AND measure = ? AND value_id = ?"

        def read(connection: sqlite3.Connection) -> dict[Counted, int]:
            found = {}
            for value in wanted:
                row = connection.execute(select, value).fetchone()
                if row is not None:
                    found[value] = row[0]
            return found

        return await self.run(read)

    async def put_values(self, counts: Mapping[Counted, int]) -> None:
        """See ``Transaction.put_values``."""
        put = f"INSERT OR REPLACE INTO {self._values} (group_id, measure, value_id, n) VALUES (?, ?, ?, ?)"
        drop = f"DELETE FROM {self._values} WHERE group_id = ? AND measure = ? AND value_id = ?"
        kept = [(*value, count) for value, count in counts.items() if count]
        gone = [value for value, count in counts.items() if not count]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(put, kept)
            connection.executemany(drop, gone)

        await self.run(write)

    def _added_by(self, item: Item) -> Iterator[int | str | bytes | None]:
        return map(_stored_value, self._measures, item.values)

    def _stored(self, group: Group) -> tuple[Any, ...]:
        stored: list[Any] = [group.items]
        for cell in group.cells:
            if isinstance(cell, Average):
                quotient = average(cell.total, cell.number)
                stored += [None if quotient is None else plain(quotient), plain(cell.total), cell.number]
            else:
                stored.append(plain(cell) if isinstance(cell, Decimal) else cell)
        return tuple(stored)


def _stored_value(measure: Measure, value: Value) -> int | str | bytes | None:
    """What an item adds, as it is kept: extremes are looked up by order, so their texts must sort."""
    if isinstance(value, Decimal):
        return sortable(value) if measure.kind in (Kind.MIN, Kind.MAX) else plain(value)
    return value


def _value(measure: Measure, stored: int | str | bytes | None) -> Value:
    if isinstance(stored, str):
        return from_sortable(stored) if measure.kind in (Kind.MIN, Kind.MAX) else Decimal(stored)
    return stored


def _cell(measure: Measure, stored: Any) -> Cell:
    """Take a measure's columns off the row."""
    match measure.kind:
        case Kind.COUNT | Kind.DISTINCT:
            return int(next(stored))
        case Kind.AVERAGE:
            _, total, count = next(stored), next(stored), next(stored)
            return Average(Decimal(total), count)
        case Kind.SUM | Kind.MIN | Kind.MAX:
            text = next(stored)
            return None if text is None else Decimal(text)


def _primary_code(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return sqlite3.SQLITE_MISUSE if code is None else code & 0xFF
