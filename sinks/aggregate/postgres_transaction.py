"""One transaction in PostgreSQL: each step is one statement for the whole batch, its columns bound as arrays."""

# ruff: noqa: S608 - the only names put into statements are those of tables and columns, quoted; values are bound.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from connector.templates import plain
from sinks.aggregate.config import Kind
from sinks.aggregate.decimals import average
from sinks.aggregate.store import (
    Average,
    Cell,
    Conflict,
    Counted,
    Group,
    GroupRow,
    Item,
    ItemRow,
    Measure,
    Schema,
)
from sinks.aggregate.tables import group_columns, item_column, quoted

Connection = AsyncConnection[tuple[Any, ...]]


def sql_type(measure: Measure) -> str:
    """The type of the column that holds what an item adds."""
    return {Kind.COUNT: "smallint", Kind.DISTINCT: "bytea"}.get(measure.kind, "numeric")


class PostgresTransaction:
    """See ``Transaction``."""

    def __init__(self, connection: Connection, schema: Schema) -> None:
        self._connection = connection
        self._measures = schema.measures
        self._table = quoted(schema.table)
        self._items = quoted(f"{schema.table}_items")
        self._values = quoted(f"{schema.table}_values")
        self._added = [(item_column(measure), sql_type(measure)) for measure in schema.measures]
        self._columns = [(quoted(name), "text") for name in schema.columns]
        self._numbers = [
            (quoted(name), "bigint" if whole else "numeric")
            for measure in schema.measures
            for name, whole in group_columns(measure)
        ]

    async def run(self, statement: str, values: Sequence[Any]) -> AsyncCursor[tuple[Any, ...]]:
        """Execute a statement; what it answers comes in binary, which is read faster and as exactly."""
        return await self._connection.execute(statement.encode(), values, binary=True)

    async def items(self, ids: Sequence[bytes]) -> Mapping[bytes, Item]:
        """See ``Transaction.items``."""
        names = ", ".join(["id", "version", "group_id", *(name for name, _ in self._added)])
        cursor = await self.run(
            f"SELECT {names} FROM {self._items} WHERE id = ANY(%b::bytea[]) ORDER BY id FOR UPDATE", (list(ids),)
        )
        return {row[0]: Item(row[1], row[2], row[3:]) for row in await cursor.fetchall()}

    async def put_items(self, new: Sequence[ItemRow], known: Sequence[ItemRow]) -> None:
        """See ``Transaction.put_items``."""
        columns = [
            ("id", "bytea"),
            ("key", "text"),
            ("version", "bigint"),
            ("removed_at_ms", "bigint"),
            ("group_id", "bytea"),
            *self._added,
        ]
        if new:
            await self._insert(self._items, columns, [_item_values(row) for row in new])
        if known:
            await self._update(self._items, columns, [_item_values(row) for row in known])

    async def groups(self, ids: Sequence[bytes]) -> Mapping[bytes, Group]:
        """See ``Transaction.groups``."""
        names = ", ".join(["group_id", "items", *(name for name, _ in self._numbers)])
        cursor = await self.run(
            f"SELECT {names} FROM {self._table} WHERE group_id = ANY(%b::bytea[]) ORDER BY group_id FOR UPDATE",
            (list(ids),),
        )
        return {row[0]: Group(row[1], self._cells(row[2:])) for row in await cursor.fetchall()}

    async def put_groups(self, new: Sequence[GroupRow], known: Sequence[GroupRow], empty: Sequence[bytes]) -> None:
        """See ``Transaction.put_groups``."""
        numbers = [("items", "bigint"), *self._numbers]
        if known:
            columns = [("group_id", "bytea"), *numbers]
            await self._update(self._table, columns, [(row.id, *_group_values(row.group)) for row in known])
        if empty:
            await self.run(f"DELETE FROM {self._table} WHERE group_id = ANY(%b::bytea[])", (list(empty),))
        if new:
            columns = [("group_id", "bytea"), *self._columns, *numbers]
            await self._insert(self._table, columns, [(row.id, *row.names, *_group_values(row.group)) for row in new])

    async def extremes(self, measure: Measure, group_ids: Sequence[bytes]) -> Mapping[bytes, Decimal | None]:
        """See ``Transaction.extremes``."""
        name = item_column(measure)
        cursor = await self.run(
            f"SELECT asked.id, (SELECT {measure.kind.value}({name}) FROM {self._items} AS item "
            f"WHERE item.group_id = asked.id AND {name} IS NOT NULL) FROM unnest(%b::bytea[]) AS asked(id)",
            (list(group_ids),),
        )
        return dict(await cursor.fetchall())

    async def values(self, wanted: Sequence[Counted]) -> Mapping[Counted, int]:
        """See ``Transaction.values``."""
        cursor = await self.run(
            f"SELECT group_id, measure, value_id, n FROM {self._values} "
            "JOIN unnest(%b::bytea[], %s::text[], %b::bytea[]) AS wanted(group_id, measure, value_id) "
            "USING (group_id, measure, value_id)",
            _turned(wanted),
        )
        return {Counted(*row[:3]): row[3] for row in await cursor.fetchall()}

    async def put_values(self, counts: Mapping[Counted, int]) -> None:
        """See ``Transaction.put_values``."""
        kept = [(*value, count) for value, count in counts.items() if count]
        gone = [value for value, count in counts.items() if not count]
        if kept:
            await self.run(
                f"INSERT INTO {self._values} (group_id, measure, value_id, n) "
                "SELECT * FROM unnest(%b::bytea[], %s::text[], %b::bytea[], %b::bigint[]) "
                "ON CONFLICT (group_id, measure, value_id) DO UPDATE SET n = excluded.n",
                _turned(kept),
            )
        if gone:
            await self.run(
                f"DELETE FROM {self._values} AS held "
                "USING unnest(%b::bytea[], %s::text[], %b::bytea[]) AS gone(group_id, measure, value_id) "
                "WHERE (held.group_id, held.measure, held.value_id) = (gone.group_id, gone.measure, gone.value_id)",
                _turned(gone),
            )

    async def _insert(self, table: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
        names = ", ".join(name for name, _ in columns)
        cursor = await self.run(
            f"INSERT INTO {table} ({names}) SELECT * FROM unnest({_arrays(columns)}) ON CONFLICT DO NOTHING",
            _turned(rows),
        )
        if cursor.rowcount < len(rows):
            raise Conflict(f"a new row of {table} was made by another transaction")

    async def _update(self, table: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
        key, *others = (name for name, _ in columns)
        names = ", ".join(name for name, _ in columns)
        setting = ", ".join(f"{name} = new.{name}" for name in others)
        await self.run(
            f"UPDATE {table} AS held SET {setting} FROM unnest({_arrays(columns)}) AS new({names}) "
            f"WHERE held.{key} = new.{key}",
            _turned(rows),
        )

    def _cells(self, stored: Sequence[Any]) -> tuple[Cell, ...]:
        rest = iter(stored)
        return tuple(_cell(measure, rest) for measure in self._measures)


def _arrays(columns: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"%{'b' if kind == 'bytea' else 's'}::{kind}[]" for _, kind in columns)


def _turned(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows → columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def _item_values(row: ItemRow) -> tuple[Any, ...]:
    return (
        row.id,
        row.key,
        row.item.version,
        row.removed_at_ms,
        row.item.group_id,
        *(plain(value) if isinstance(value, Decimal) else value for value in row.item.values),
    )


def _group_values(group: Group) -> list[Any]:
    values: list[Any] = [group.items]
    for cell in group.cells:
        if isinstance(cell, Average):
            quotient = average(cell.total, cell.number)
            values += [None if quotient is None else plain(quotient), plain(cell.total), cell.number]
        else:
            values.append(plain(cell) if isinstance(cell, Decimal) else cell)
    return values


def _cell(measure: Measure, rest: Iterator[Any]) -> Cell:
    """Take a measure's columns off the row."""
    if measure.kind is not Kind.AVERAGE:
        cell: Cell = next(rest)
        return cell
    _, total, count = next(rest), next(rest), next(rest)
    return Average(total, count)
