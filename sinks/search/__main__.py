"""``python -m sinks.search FILE INDEX QUERY``: search an embedded index from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from connector.errors import MillraceError
from sinks.search.query import search


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sinks.search", description="Search an embedded index.")
    parser.add_argument("file", type=Path, help="the index's SQLite file")
    parser.add_argument("index", help="the index's name inside the file")
    parser.add_argument("query", help="words, or a query as SQLite's FTS5 takes it")
    parser.add_argument("--limit", type=int, default=5, help="how many documents at most (default: 5)")
    options = parser.parse_args()
    try:
        hits = search(options.file, options.index, options.query, options.limit)
    except MillraceError as error:
        raise SystemExit(str(error)) from None
    table = Table("id", "score", "found")
    for hit in hits:
        table.add_row(hit.id, f"{hit.score:.3f}", hit.snippet)
    Console().print(table if hits else "nothing found")


if __name__ == "__main__":
    main()
