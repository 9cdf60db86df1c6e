"""The embedded search sink keeps every sink's promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from connector.change import Change
from connector.sink import Sink
from sinks.search import SearchConfig, SearchSink
from sinks.testing import (
    ImageContract,
    Item,
    MakeSink,
    PoisonContract,
    ReadState,
    UnavailableContract,
    VersionedContract,
    context,
    insert,
)


class TestSearchSink(VersionedContract, ImageContract, PoisonContract, UnavailableContract):
    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> MakeSink:
        return lambda: _sink(tmp_path / "search.db", "{pk}")

    @pytest.fixture
    def read_state(self, tmp_path: Path) -> ReadState:
        async def read() -> Mapping[str, Item]:
            connection = sqlite3.connect(tmp_path / "search.db")
            try:
                rows = connection.execute('SELECT id, document FROM "items:documents" WHERE document IS NOT NULL')
                return {id: msgspec.json.decode(document) for id, document in rows}
            finally:
                connection.close()

        return read

    @pytest.fixture
    def poison(self) -> Change:
        return insert({"pk": b"\x00" * 20_000})  # an id that is longer than any may be

    @pytest.fixture
    def unreachable_sink(self, tmp_path: Path) -> Sink:
        return _sink(tmp_path / "no such folder" / "search.db", "{pk}")


def _sink(path: Path, id: str) -> SearchSink:
    config = {"path": path, "index": "items", "id": id, "fields": ["name", "text", "nested.list"]}
    return SearchSink(SearchConfig.model_validate(config), context())
