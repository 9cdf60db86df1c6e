"""Leases in PostgreSQL: one statement a call, each row of it on a condition of its own."""

# The table's name, which the configuration holds to a pattern, and constants are all that statements are made of.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from connector.change import ShardId
from connector.errors import CheckpointError, CheckpointLost, ConfigError
from connector.leases.protocol import SHARD_END, Lease, Progress
from connector.postgres import TABLE_NAME, Connection, connect, is_for_a_person, said, settings

CONNECTIONS_MAX = 4
"""Heartbeats, looking for work, and saving wait for each other only beyond this."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace.leases.schema'))"
_COLUMNS = "lease_key, lease_owner, lease_counter, epoch, wanted_by, checkpoint, clock, parents, children, ended_ms"


def schema(table: str) -> str:
    """The statement that makes the table."""
    return (
        f"CREATE TABLE {table} (pipeline text NOT NULL, lease_key text NOT NULL, lease_owner text, "
        "lease_counter bigint NOT NULL, epoch bigint NOT NULL, wanted_by text, checkpoint text NOT NULL, "
        "clock bigint NOT NULL, parents text[] NOT NULL, children text[] NOT NULL, ended_ms bigint, "
        "PRIMARY KEY (pipeline, lease_key))"
    )


class PostgresLeases:
    """A LeaseStore in one table, which pipelines may share. ``url`` is a ``postgresql://`` URL, ``timeout_s`` bounds
    each call, with connecting and waiting for a connection."""

    def __init__(self, url: str, pipeline: str, *, table: str = "millrace_leases", timeout_s: float = 3.0) -> None:
        assert re.fullmatch(TABLE_NAME, table), "the configuration lets no other names through"
        self._conninfo = settings(url, timeout_s)
        self._pipeline = pipeline
        self._table = table
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        self._statements = _statements(table)

    async def open(self) -> None:
        """Connect; make the table if it is missing. Raises ConfigError for what only a person can mend."""
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection, connection.transaction():
                await connection.execute(_LOCK)
                found = await (await connection.execute("SELECT to_regclass(%s)::text", (self._table,))).fetchone()
                if found is None or found[0] is None:
                    await connection.execute(schema(self._table))
                await connection.execute(self._statements["all"], {"pipeline": self._pipeline})
        except TimeoutError as error:
            raise CheckpointError(f"PostgreSQL did not answer within {self._timeout_s:g} s") from error
        except psycopg.Error as error:
            if is_for_a_person(error):
                raise ConfigError(f"leases cannot be kept in PostgreSQL: {said(error)}", path=("url",)) from error
            raise CheckpointError(f"leases in PostgreSQL: {said(error)}") from error

    async def all(self) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.all``."""
        return _by_key(await self._run("all"))

    async def create(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.create``."""
        values = [
            {
                "key": lease.key,
                "counter": lease.counter,
                "epoch": lease.epoch,
                "checkpoint": lease.checkpoint,
                "clock": lease.clock,
                "parents": sorted(lease.parents),
                "children": sorted(lease.children),
                "ended_ms": lease.ended_ms,
            }
            for lease in leases
        ]
        await self._run_each("create", values)

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        """See ``LeaseStore.take``."""
        return _by_key(await self._run("take", taker=owner, **_seen(lease))).get(lease.key)

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.renew``. All or none."""
        if not leases:
            return {}
        keys, owners, epochs = zip(*((lease.key, lease.owner, lease.epoch) for lease in leases), strict=True)
        return _by_key(await self._run("renew", keys=list(keys), owners=list(owners), epochs=list(epochs)))

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        """See ``LeaseStore.save``."""
        if not progress:
            return
        each = progress.values()
        saved = await self._run(
            "save",
            owner=owner,
            keys=list(progress),
            epochs=[one.epoch for one in each],
            checkpoints=[one.checkpoint for one in each],
            clocks=[one.clock for one in each],
        )
        lost = progress.keys() - {row[0] for row in saved}
        if lost:
            raise CheckpointLost(f"{', '.join(sorted(lost))} are not ours any more", shards=lost)

    async def want(self, lease: Lease, by: str) -> bool:
        """See ``LeaseStore.want``."""
        return bool(await self._run("want", by=by, wanted_by=lease.wanted_by, **_held(lease)))

    async def release(self, lease: Lease) -> bool:
        """See ``LeaseStore.release``."""
        return bool(await self._run("release", **_held(lease)))

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        """See ``LeaseStore.finish``."""
        outcome = {"clock": clock, "children": sorted(children), "ended_ms": ended_ms}
        if await self._run("finish", **outcome, **_held(lease)):
            return
        if not await self._run("finished", **_held(lease)):
            raise CheckpointLost(f"{lease.key} is not ours any more", shards=[lease.key])

    async def delete(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.delete``."""
        await self._run_each("delete", [_seen(lease) for lease in leases])

    async def close(self) -> None:
        """Let go of the connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _run(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        async with self._session() as connection:
            cursor = await connection.execute(self._statements[statement], {"pipeline": self._pipeline, **values})
            return await cursor.fetchall()

    async def _run_each(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        async with self._session() as connection, connection.cursor() as cursor:
            rows = [{"pipeline": self._pipeline, **each} for each in values]
            await cursor.executemany(self._statements[statement], rows)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._timeout_s), self._connection() as connection:
                yield connection
        except TimeoutError as error:
            raise CheckpointError(f"PostgreSQL did not answer within {self._timeout_s:g} s") from error
        except psycopg.Error as error:
            raise CheckpointError(f"leases in PostgreSQL: {said(error)}") from error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._places:
            connection = self._idle.pop() if self._idle else await connect(self._conninfo)
            try:
                yield connection
            except BaseException as error:
                # A session that was cut off or left in the middle is not used again; nor are its siblings after a
                # restart of the server.
                if isinstance(error, psycopg.Error) and connection.info.transaction_status is TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    await connection.close()
                    await self.close()
                raise
            self._idle.append(connection)


def _statements(table: str) -> dict[str, str]:
    row = "pipeline = %(pipeline)s AND lease_key = %(key)s"
    held = f"{row} AND lease_owner = %(owner)s AND epoch = %(epoch)s"
    seen = f"{row} AND lease_owner IS NOT DISTINCT FROM %(owner)s AND lease_counter = %(counter)s AND epoch = %(epoch)s"
    unfinished = f"checkpoint <> '{SHARD_END}'"
    moved = "lease_counter = lease_counter + 1"
    returned = ", ".join(f"rows.{name}" for name in _COLUMNS.split(", "))
    return {
        "all": f"SELECT {_COLUMNS} FROM {table} WHERE pipeline = %(pipeline)s",
        "create": f"INSERT INTO {table} (pipeline, {_COLUMNS}) VALUES (%(pipeline)s, %(key)s, NULL, %(counter)s, "
        "%(epoch)s, NULL, %(checkpoint)s, %(clock)s, %(parents)s, %(children)s, %(ended_ms)s) ON CONFLICT DO NOTHING",
        "take": f"UPDATE {table} SET lease_owner = %(taker)s, {moved}, epoch = epoch + 1, wanted_by = NULL "
        f"WHERE {seen} AND {unfinished} RETURNING {_COLUMNS}",
        "renew": f"UPDATE {table} AS rows SET {moved} FROM "
        "unnest(%(keys)s::text[], %(owners)s::text[], %(epochs)s::bigint[]) AS held (key, owner, epoch) "
        "WHERE pipeline = %(pipeline)s AND lease_key = held.key AND lease_owner = held.owner "
        f"AND rows.epoch = held.epoch RETURNING {returned}",
        "save": f"UPDATE {table} AS rows SET checkpoint = held.checkpoint, clock = held.clock FROM "
        "unnest(%(keys)s::text[], %(epochs)s::bigint[], %(checkpoints)s::text[], %(clocks)s::bigint[]) "
        "AS held (key, epoch, checkpoint, clock) WHERE pipeline = %(pipeline)s AND lease_key = held.key "
        f"AND lease_owner = %(owner)s AND rows.epoch = held.epoch AND rows.{unfinished} RETURNING lease_key",
        "want": f"UPDATE {table} SET wanted_by = %(by)s WHERE {held} AND "
        "(wanted_by IS NOT DISTINCT FROM %(wanted_by)s OR wanted_by = %(by)s) RETURNING lease_key",
        "release": f"UPDATE {table} SET lease_owner = NULL, {moved} WHERE {held} RETURNING lease_key",
        "finish": f"UPDATE {table} SET checkpoint = '{SHARD_END}', lease_owner = NULL, {moved}, wanted_by = NULL, "
        "clock = %(clock)s, children = %(children)s, ended_ms = %(ended_ms)s "
        f"WHERE {held} AND {unfinished} RETURNING lease_key",
        "finished": f"SELECT 1 FROM {table} WHERE {row} AND epoch = %(epoch)s AND checkpoint = '{SHARD_END}'",
        "delete": f"DELETE FROM {table} WHERE {seen}",
    }


def _held(lease: Lease) -> dict[str, Any]:
    return {"key": lease.key, "owner": lease.owner, "epoch": lease.epoch}


def _seen(lease: Lease) -> dict[str, Any]:
    return {**_held(lease), "counter": lease.counter}


def _by_key(rows: list[tuple[Any, ...]]) -> dict[ShardId, Lease]:
    leases = {}
    for key, owner, counter, epoch, wanted_by, checkpoint, clock, parents, children, ended_ms in rows:
        leases[key] = Lease(
            key=key,
            owner=owner,
            counter=counter,
            epoch=epoch,
            wanted_by=wanted_by,
            checkpoint=checkpoint,
            clock=clock,
            parents=frozenset(parents),
            children=frozenset(children),
            ended_ms=ended_ms,
        )
    return leases
