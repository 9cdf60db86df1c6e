"""Leases in a SQLite file: several processes of one machine share the shards.

The file must be on a local disk. Every call is one transaction that has the file's write lock from its beginning, so
what it reads is what it writes on.
"""

# Statements are made of constants only.
# ruff: noqa: S608

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from connector.change import ShardId
from connector.embedded import EmbeddedDatabase
from connector.errors import CheckpointError, CheckpointLost, ConfigError
from connector.leases.protocol import SHARD_END, Lease, Progress

T = TypeVar("T")

# Sequence numbers have up to 40 digits, and SQLite would make a rounded REAL of them: they are text.
_TABLE = """
CREATE TABLE IF NOT EXISTS leases (
    pipeline TEXT NOT NULL,
    lease_key TEXT NOT NULL,
    lease_owner TEXT,
    lease_counter INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    wanted_by TEXT,
    checkpoint TEXT NOT NULL,
    clock INTEGER NOT NULL,
    parents TEXT NOT NULL,
    children TEXT NOT NULL,
    ended_ms INTEGER,
    PRIMARY KEY (pipeline, lease_key)
) WITHOUT ROWID
"""
_COLUMNS = "lease_key, lease_owner, lease_counter, epoch, wanted_by, checkpoint, clock, parents, children, ended_ms"
_CREATE = f"""
INSERT INTO leases (pipeline, {_COLUMNS}) VALUES (?, ?, NULL, ?, ?, NULL, ?, ?, ?, ?, ?)
ON CONFLICT (pipeline, lease_key) DO NOTHING
"""
_ROW = "WHERE pipeline = ? AND lease_key = ?"
_HELD = f"{_ROW} AND lease_owner = ? AND epoch = ?"
_SEEN = f"{_ROW} AND lease_owner IS ? AND lease_counter = ? AND epoch = ?"
_OPEN = f"AND checkpoint <> '{SHARD_END}'"
_TAKE = f"""
UPDATE leases SET lease_owner = ?, lease_counter = lease_counter + 1, epoch = epoch + 1, wanted_by = NULL
{_SEEN} {_OPEN}
"""
_RENEW = f"UPDATE leases SET lease_counter = lease_counter + 1 {_HELD}"
_SAVE = f"UPDATE leases SET checkpoint = ?, clock = ? {_HELD} {_OPEN}"
_WANT = f"UPDATE leases SET wanted_by = ? {_HELD} AND (wanted_by IS ? OR wanted_by = ?)"
_RELEASE = f"UPDATE leases SET lease_owner = NULL, lease_counter = lease_counter + 1 {_HELD}"
_FINISH = f"""
UPDATE leases SET checkpoint = '{SHARD_END}', lease_owner = NULL, lease_counter = lease_counter + 1, wanted_by = NULL,
    clock = ?, children = ?, ended_ms = ? {_HELD} {_OPEN}
"""

Row = tuple[str, str | None, int, int, str | None, str, int, str, str, int | None]


class SQLiteLeases:
    """A LeaseStore. The table is shared by all pipelines that name the file; each sees its own rows."""

    def __init__(self, path: str | Path, pipeline: str) -> None:
        self._path = Path(path)
        self._pipeline = pipeline
        self._database = EmbeddedDatabase(self._path, "sqlite-leases")

    async def open(self) -> None:
        """Create what is missing. Raises ConfigError where the file cannot be used."""
        try:
            await self._database.run(lambda: self._database.connect(_TABLE))
        except sqlite3.Error as error:
            raise ConfigError(f"leases cannot be kept in {self._path}: {error}", path=("path",)) from error

    async def all(self) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.all``."""
        return await self._run(self._all)

    async def create(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.create``."""
        rows = [
            (self._pipeline, one.key, one.counter, one.epoch, one.checkpoint, one.clock, *_lineage(one), one.ended_ms)
            for one in leases
        ]
        await self._run(lambda connection: connection.executemany(_CREATE, rows))

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        """See ``LeaseStore.take``."""
        values = (owner, self._pipeline, lease.key, lease.owner, lease.counter, lease.epoch)

        def take(connection: sqlite3.Connection) -> Lease | None:
            return self._row(connection, lease.key) if _changes(connection, _TAKE, values) else None

        return await self._run(take)

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.renew``. All or none."""

        def renew(connection: sqlite3.Connection) -> dict[ShardId, Lease]:
            ours = [lease.key for lease in leases if _changes(connection, _RENEW, self._held(lease))]
            rows = self._all(connection)
            return {key: rows[key] for key in ours}

        return await self._run(renew) if leases else {}

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        """See ``LeaseStore.save``."""

        def save(connection: sqlite3.Connection) -> list[ShardId]:
            return [
                key
                for key, one in progress.items()
                if not _changes(connection, _SAVE, (one.checkpoint, one.clock, self._pipeline, key, owner, one.epoch))
            ]

        lost = await self._run(save) if progress else []
        if lost:
            raise CheckpointLost(f"{', '.join(lost)} are not ours any more", shards=lost)

    async def want(self, lease: Lease, by: str) -> bool:
        """See ``LeaseStore.want``."""
        values = (by, *self._held(lease), lease.wanted_by, by)
        return await self._run(lambda connection: _changes(connection, _WANT, values))

    async def release(self, lease: Lease) -> bool:
        """See ``LeaseStore.release``."""
        return await self._run(lambda connection: _changes(connection, _RELEASE, self._held(lease)))

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        """See ``LeaseStore.finish``."""

        def finish(connection: sqlite3.Connection) -> bool:
            if _changes(connection, _FINISH, (clock, json.dumps(sorted(children)), ended_ms, *self._held(lease))):
                return True
            row = self._row(connection, lease.key)
            return row is not None and row.finished and row.epoch == lease.epoch

        if not await self._run(finish):
            raise CheckpointLost(f"{lease.key} is not ours any more", shards=[lease.key])

    async def delete(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.delete``."""
        rows = [(self._pipeline, lease.key, lease.owner, lease.counter, lease.epoch) for lease in leases]
        await self._run(lambda connection: connection.executemany(f"DELETE FROM leases {_SEEN}", rows))

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    def _held(self, lease: Lease) -> tuple[str, str, str | None, int]:
        return self._pipeline, lease.key, lease.owner, lease.epoch

    def _all(self, connection: sqlite3.Connection) -> dict[ShardId, Lease]:
        query = f"SELECT {_COLUMNS} FROM leases WHERE pipeline = ?"
        return {row[0]: _lease(row) for row in connection.execute(query, (self._pipeline,))}

    def _row(self, connection: sqlite3.Connection, key: ShardId) -> Lease | None:
        query = f"SELECT {_COLUMNS} FROM leases {_ROW}"
        row: Row | None = connection.execute(query, (self._pipeline, key)).fetchone()
        return None if row is None else _lease(row)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with self._database.transaction() as connection:
                return work(connection)

        try:
            return await self._database.run(run)
        except sqlite3.Error as error:
            raise CheckpointError(f"leases in {self._path}: {error}") from error


def _changes(connection: sqlite3.Connection, statement: str, values: tuple[str | int | None, ...]) -> bool:
    """Run a conditional write of one row; says whether its condition held."""
    return connection.execute(statement, values).rowcount == 1


def _lineage(lease: Lease) -> tuple[str, str]:
    return json.dumps(sorted(lease.parents)), json.dumps(sorted(lease.children))


def _lease(row: Row) -> Lease:
    key, owner, counter, epoch, wanted_by, checkpoint, clock, parents, children, ended_ms = row
    return Lease(
        key=key,
        owner=owner,
        counter=counter,
        epoch=epoch,
        wanted_by=wanted_by,
        checkpoint=checkpoint,
        clock=clock,
        parents=frozenset(json.loads(parents)),
        children=frozenset(json.loads(children)),
        ended_ms=ended_ms,
    )
