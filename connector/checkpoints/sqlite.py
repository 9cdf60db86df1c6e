"""Checkpoints in a SQLite file: the embedded default for sources that keep none themselves."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from connector.change import ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.embedded import EmbeddedDatabase
from connector.errors import CheckpointError, ConfigError

# Positions have up to 56 digits, and SQLite would make a rounded REAL of a longer number: they are text.
_TABLE = """
CREATE TABLE IF NOT EXISTS checkpoints (
    pipeline TEXT NOT NULL,
    shard TEXT NOT NULL,
    position TEXT NOT NULL,
    clock TEXT NOT NULL,
    saved_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (pipeline, shard)
) WITHOUT ROWID
"""
_SAVE = """
INSERT INTO checkpoints (pipeline, shard, position, clock) VALUES (?, ?, ?, ?)
ON CONFLICT (pipeline, shard) DO UPDATE
SET position = excluded.position, clock = excluded.clock, saved_at = excluded.saved_at
"""


class SQLiteCheckpoints:
    """One pipeline's checkpoints in a file that other pipelines may share.

    Two processes that run the same pipeline from the same file would each overwrite what the other saved. So the
    one that writes holds a lock (``flock`` on ``<path>.<pipeline>.lock``) from ``open`` to ``close``; the operating
    system lets go of it when the process ends, however it ends. With ``exclusive=False`` ``open`` takes no lock, so
    that checkpoints can be shown while the pipeline runs; ``save`` and ``reset`` then take it when they are called.
    The file must be on a local disk: neither SQLite's log nor the lock is to be trusted on a network file system.
    """

    def __init__(self, path: str | Path, pipeline: str, *, exclusive: bool = True) -> None:
        self._path = Path(path)
        self._pipeline = pipeline
        self._exclusive = exclusive
        self._lock_path = self._path.with_name(f"{self._path.name}.{quote(pipeline, safe='')}.lock")
        self._lock: int | None = None
        self._database = EmbeddedDatabase(self._path, "sqlite-checkpoints")

    async def open(self) -> None:
        """Create what is missing. Raises ConfigError where the file cannot be used or the pipeline runs already."""
        await self._database.run(self._open)

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """The saved checkpoints of these shards; a shard without one is absent."""
        saved = await self.all()
        return {shard: saved[shard] for shard in shards if shard in saved}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Save all of them or none, on the disk before it returns (``synchronous=FULL``)."""
        rows = [
            (self._pipeline, shard, str(checkpoint.position), str(checkpoint.clock))
            for shard, checkpoint in checkpoints.items()
        ]
        await self._database.run(lambda: self._write(_SAVE, rows))

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        """Every saved checkpoint of the pipeline."""
        return await self._database.run(self._all)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """Forget these shards' checkpoints."""
        rows = [(self._pipeline, shard) for shard in shards]
        await self._database.run(lambda: self._write("DELETE FROM checkpoints WHERE pipeline = ? AND shard = ?", rows))

    async def close(self) -> None:
        """Close the file and let go of the lock."""
        await self._database.close()
        self._release_lock()

    def _open(self) -> None:
        if self._exclusive:
            self._take_lock()
        try:
            self._database.connect(_TABLE)
        except sqlite3.Error as error:
            self._release_lock()
            raise ConfigError(f"checkpoints cannot be kept in {self._path}: {error}") from error

    def _all(self) -> dict[ShardId, Checkpoint]:
        query = "SELECT shard, position, clock FROM checkpoints WHERE pipeline = ? ORDER BY shard"
        try:
            rows = self._database.connection.execute(query, (self._pipeline,)).fetchall()
        except sqlite3.Error as error:
            raise CheckpointError(f"checkpoints cannot be read from {self._path}: {error}") from error
        return {shard: Checkpoint(int(position), int(clock)) for shard, position, clock in rows}

    def _write(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        if self._lock is None:
            self._take_lock()
        try:
            with self._database.transaction() as connection:
                connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise CheckpointError(f"checkpoints cannot be saved in {self._path}: {error}") from error

    def _take_lock(self) -> None:
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"checkpoints cannot be kept in {self._path}: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise ConfigError(
                f"pipeline {self._pipeline!r} is running already with its checkpoints in {self._path} "
                f"(process {owner}); two processes need a source that shares its shards, or pipelines of other names"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
