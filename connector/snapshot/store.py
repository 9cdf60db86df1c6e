"""Snapshots in the SQLite file of the checkpoints."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from connector.embedded import EmbeddedDatabase
from connector.errors import CheckpointError, ConfigError
from connector.snapshot.state import SegmentState, SnapshotState

T = TypeVar("T")

# Positions are text: the last one has 65 digits.
_SNAPSHOTS = """
CREATE TABLE IF NOT EXISTS snapshots (
    pipeline TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    what TEXT NOT NULL,
    segments INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    items_estimate INTEGER,
    started_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (pipeline, kind)
) WITHOUT ROWID
"""
_SEGMENTS = """
CREATE TABLE IF NOT EXISTS snapshot_segments (
    pipeline TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    segment INTEGER NOT NULL,
    position TEXT NOT NULL,
    clock INTEGER NOT NULL,
    place TEXT NOT NULL,
    items INTEGER NOT NULL,
    pages INTEGER NOT NULL,
    units REAL NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (pipeline, snapshot, segment)
) WITHOUT ROWID
"""
_LOAD = """
SELECT id, what, segments, time_ms, items_estimate, started_ms, attempt, done
FROM snapshots WHERE pipeline = ? AND kind = ?
"""
_FORGET = """
DELETE FROM snapshot_segments WHERE pipeline = ?1 AND snapshot IN
    (SELECT id FROM snapshots WHERE pipeline = ?1 AND kind = ?2 AND id <> ?3)
"""


class SQLiteSnapshots:
    """One pipeline's snapshots.

    With ``exclusive`` it holds a lock (``flock`` on ``<path>.<pipeline>.snapshot.lock``) from ``open`` to ``close``,
    for ``millrace snapshot``, which may run twice by mistake; a daemon has the lock of its checkpoints.
    """

    def __init__(self, path: str | Path, pipeline: str, *, exclusive: bool = False) -> None:
        self._path = Path(path)
        self._pipeline = pipeline
        self._lock_path = self._path.with_name(f"{self._path.name}.{quote(pipeline, safe='')}.snapshot.lock")
        self._exclusive = exclusive
        self._lock: int | None = None
        self._database = EmbeddedDatabase(self._path, "sqlite-snapshots")

    async def open(self) -> None:
        """Create what is missing. Raises ConfigError where the file cannot be used or another process has the lock."""
        await self._database.run(self._open)

    async def load(self, kind: str) -> SnapshotState | None:
        """See ``SnapshotStore.load``."""
        return await self._run(lambda: self._load(kind))

    async def segments(self, snapshot: str) -> Mapping[int, SegmentState]:
        """See ``SnapshotStore.segments``."""
        return await self._run(lambda: self._load_segments(snapshot))

    async def save(self, state: SnapshotState) -> None:
        """See ``SnapshotStore.save``."""
        row = (
            *(self._pipeline, state.kind, state.id, state.what, state.segments, state.time_ms, state.items_estimate),
            *(state.started_ms, state.attempt, int(state.done)),
        )

        def save() -> None:
            with self._database.transaction() as connection:
                connection.execute(_FORGET, (self._pipeline, state.kind, state.id))
                connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

        await self._run(save)

    async def save_segments(self, snapshot: str, segments: Sequence[SegmentState]) -> None:
        """See ``SnapshotStore.save_segments``."""
        rows = [
            (
                *(self._pipeline, snapshot, one.segment, str(one.position), one.clock, one.place),
                *(one.items, one.pages, one.units, int(one.done)),
            )
            for one in segments
        ]

        def save() -> None:
            with self._database.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO snapshot_segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
                )

        await self._run(save)

    async def close(self) -> None:
        """Close the file and let go of the lock."""
        await self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await self._database.run(function)
        except sqlite3.Error as error:
            raise CheckpointError(f"the snapshot's progress cannot be kept in {self._path}: {error}") from error

    def _open(self) -> None:
        try:
            if self._exclusive:
                self._take_lock()
            self._database.connect(_SNAPSHOTS, _SEGMENTS)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the snapshot's progress cannot be kept in {self._path}: {error}") from error

    def _load(self, kind: str) -> SnapshotState | None:
        row = self._database.connection.execute(_LOAD, (self._pipeline, kind)).fetchone()
        if row is None:
            return None
        id_, what, segments, time_ms, items_estimate, started_ms, attempt, done = row
        return SnapshotState(
            id=id_,
            kind=kind,
            what=what,
            segments=segments,
            time_ms=time_ms,
            items_estimate=items_estimate,
            started_ms=started_ms,
            attempt=attempt,
            done=bool(done),
        )

    def _load_segments(self, snapshot: str) -> dict[int, SegmentState]:
        query = (
            "SELECT segment, position, clock, place, items, pages, units, done FROM snapshot_segments "
            "WHERE pipeline = ? AND snapshot = ?"
        )
        rows = self._database.connection.execute(query, (self._pipeline, snapshot)).fetchall()
        return {
            segment: SegmentState(
                segment=segment,
                position=int(position),
                clock=clock,
                place=place,
                items=items,
                pages=pages,
                units=units,
                done=bool(done),
            )
            for segment, position, clock, place, items, pages, units, done in rows
        }

    def _take_lock(self) -> None:
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ConfigError(f"another snapshot of the pipeline {self._pipeline!r} is being made") from error
        self._lock = lock
