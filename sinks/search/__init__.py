"""Embedded full-text search: SQLite FTS5, so that a whole pipeline, search included, runs without a server."""

from sinks.search.config import SearchConfig
from sinks.search.query import Hit, search
from sinks.search.sink import SearchSink

__all__ = ["Hit", "SearchConfig", "SearchSink", "search"]
