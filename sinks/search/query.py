"""Searching an embedded index: for the command line, the demo, and anybody with Python."""

# ruff: noqa: S608 - the only names put into statements are those of tables, quoted; values are bound.

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from connector.errors import ConfigError
from sinks.search.store import file_unavailable, quoted

LIMIT_MAX = 1000
_SNIPPET_WORDS = 12


class Hit(msgspec.Struct, frozen=True):
    """A document that was found. A higher ``score`` is a better one (BM25); ``snippet`` marks words as ``[word]``."""

    id: str
    score: float
    snippet: str
    document: dict[str, Any]


def search(path: Path, index: str, query: str, limit: int = 10) -> list[Hit]:
    """The best documents for a query, best first. Blocks.

    The query is FTS5's language (``blue "wool scarf"``, ``title:scarf OR hat*``); what is no such query is taken as
    words that all must be there. Raises ConfigError where there is no such file or index, SinkUnavailable where the
    file cannot be used.
    """
    if not path.is_file():
        raise ConfigError(f"there is no search index at {path}")
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (f"{index}:documents",)).fetchone()
        if known is None:
            raise ConfigError(f"there is no index {index!r} in {path}")
        limit = max(0, min(limit, LIMIT_MAX))
        try:
            return _hits(connection, index, query, limit)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_ERROR":
                raise
            words = " ".join(quoted(word) for word in query.replace("\x00", " ").split())
            return _hits(connection, index, words, limit) if words else []
    except sqlite3.OperationalError as error:
        raise file_unavailable(error) from error
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"{path} is no SQLite database") from error
    finally:
        connection.close()


def _hits(connection: sqlite3.Connection, index: str, query: str, limit: int) -> list[Hit]:
    texts, documents = quoted(f"{index}:texts"), quoted(f"{index}:documents")
    rows = connection.execute(
        f"""SELECT d.id, -bm25({texts}), snippet({texts}, -1, '[', ']', '…', {_SNIPPET_WORDS}), d.document
            FROM {texts} JOIN {documents} AS d ON d.row = {texts}.rowid
            WHERE {texts} MATCH ? ORDER BY rank LIMIT ?""",
        (query, limit),
    )
    return [Hit(id, score, snippet, msgspec.json.decode(document)) for id, score, snippet, document in rows]
