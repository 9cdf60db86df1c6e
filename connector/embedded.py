"""A SQLite file that is used from a thread of its own: durable, shared with others, never on the event loop."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from connector.onethread import OneThread

T = TypeVar("T")

BUSY_S = 10.0
"""How long another process's transaction in the same file is waited for."""


def write_ahead(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Let readers and the writer of a file work side by side (SQLite's WAL mode). Blocks.

    SQLite does not wait by itself where two connections switch a new file at once: it says locked to one of them.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


class EmbeddedDatabase:
    """One connection in one thread. Errors are SQLite's own: whoever uses it says what they mean."""

    def __init__(self, path: str | Path, name: str) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._thread = OneThread(name)

    def connect(self, *statements: str) -> None:
        """Open the file and run these statements, which make what is missing. Called in the thread."""
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            write_ahead(connection, BUSY_S)
            connection.execute("PRAGMA synchronous=FULL")
            for statement in statements:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection. Used in the thread."""
        assert self._connection is not None, "open() comes first"
        return self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on the disk at the end. Used in the thread."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already (full disk)
                connection.execute("ROLLBACK")
            raise

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread."""
        return await self._thread.run(function)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self.run(self._close)
        self._thread.stop()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
