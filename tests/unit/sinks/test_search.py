"""The embedded search sink: finding, moving, forgetting, and files that cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import Applied, Outcome, Rejected, SinkContext, Stale
from sinks.search import SearchConfig, SearchSink, search
from sinks.search.store import split_paths, texts_of
from sinks.testing import insert, modify, opened, remove

BOOKS = [
    insert("1", {"title": "The Blue Scarf", "author": {"name": "Ana Löwe"}, "tags": ["wool", "winter"]}, version=1),
    insert("2", {"title": "Scarf, scarf and scarf", "author": {"name": "Bo"}, "tags": ["humour"]}, version=2),
    insert("3", {"title": "A hat", "author": {"name": "Cy"}, "tags": ["blue"]}, version=3),
]


class StoppedClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at_ms = 1_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.at_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.at_ms += int(seconds * 1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.db"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def make(path: Path, clock: StoppedClock | None = None, **more: Any) -> SearchSink:
    config = {"path": path, "index": "books", "id": "{pk}", "fields": ["title", "author.name", "tags"], **more}
    place = SinkContext(pipeline="test", route="test", clock=clock or StoppedClock())
    return SearchSink(SearchConfig.model_validate(config), place)


def write(sink: SearchSink, *batches: Sequence[Change]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with opened(sink):
            return [outcome for batch in batches for outcome in await sink.write(batch)]

    return asyncio.run(run())


def found(path: Path, query: str, index: str = "books") -> list[str]:
    return [hit.id for hit in search(path, index, query)]


def test_documents_are_found_by_their_words_best_first(path: Path) -> None:
    write(make(path), BOOKS)
    assert found(path, "scarf") == ["2", "1"]
    assert found(path, "blue scarf") == ["1"]
    assert found(path, "lowe") == ["1"]
    assert found(path, "title:blue") == ["1"]
    assert found(path, "hat OR humour") == ["3", "2"]
    assert found(path, "nothing") == []


def test_a_hit_shows_where_the_words_are_and_the_whole_document(path: Path) -> None:
    write(make(path), BOOKS)
    (hit,) = search(path, "books", "wool")
    assert hit.snippet == "[wool] winter"
    assert hit.score > 0
    assert hit.document == {
        "pk": "1",
        "title": "The Blue Scarf",
        "author": {"name": "Ana Löwe"},
        "tags": ["wool", "winter"],
    }


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ('"blue', ["1", "3"]),
        ("blue) scarf", ["1"]),
        ("AND", ["2"]),
        ("blue's", []),
        ("nocolumn:blue", []),
        ("*", []),
        ("(", []),
        ("", []),
        ("\x00", []),
    ],
)
def test_what_is_no_query_is_taken_as_words(path: Path, query: str, ids: list[str]) -> None:
    write(make(path), BOOKS)
    assert sorted(found(path, query)) == ids


def test_the_number_of_hits_is_limited(path: Path) -> None:
    write(make(path), BOOKS)
    assert len(search(path, "books", "scarf", limit=1)) == 1


def test_a_changed_item_is_found_by_its_new_words_only(path: Path) -> None:
    write(make(path), BOOKS, [modify("3", {"title": "A glove"}, version=9), remove("1", version=10)])
    assert found(path, "hat") == []
    assert found(path, "glove") == ["3"]
    assert found(path, "blue") == []


def test_an_item_whose_id_changes_leaves_its_old_place(path: Path) -> None:
    outcomes = write(
        make(path, id="{isbn}"),
        [insert("a", {"isbn": "one", "title": "x"}, version=1)],
        [modify("a", {"isbn": "two", "title": "x"}, old={"isbn": "one", "title": "x"}, version=2)],
    )
    assert outcomes == [Applied(), Applied()]
    assert found(path, "x") == ["two"]


def test_a_removal_that_cannot_tell_its_place_is_rejected(path: Path) -> None:
    (outcome,) = write(make(path, id="{isbn}"), [remove("a")])
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "image_missing"


def test_a_deletion_is_remembered_for_as_long_as_gc_deletes_says(path: Path, clock: StoppedClock) -> None:
    sink = make(path, clock, gc_deletes="1h")
    late = insert("a", {"title": "late"}, version=1)

    async def run() -> list[Outcome]:
        async with opened(sink):
            await sink.write([remove("a", version=2)])
            clock.at_ms += 3_599_000
            just_in_time = await sink.write([late])
            clock.at_ms += 61_000
            too_late = await sink.write([remove("b", version=1)]) and await sink.write([late])
            return [*just_in_time, *too_late]

    assert asyncio.run(run()) == [Stale(), Applied()]


def test_an_index_over_other_fields_than_before_is_built_anew(path: Path) -> None:
    write(make(path), BOOKS)
    assert found(path, "3") == []
    write(make(path, fields=["title", "pk"]), [])
    assert found(path, "3") == ["3"]
    assert found(path, "wool") == []


def test_two_indexes_live_in_one_file(path: Path) -> None:
    write(make(path), BOOKS)
    write(make(path, index="books_documents"), BOOKS[2:])
    assert found(path, "scarf") == ["2", "1"]
    assert found(path, "hat", "books_documents") == ["3"]


def test_a_locked_file_makes_the_sink_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.search.store._BUSY_S", 0.05)
    sink = make(path)

    async def run() -> None:
        async with opened(sink):
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SinkUnavailable, match="SQLITE_BUSY"):
                await sink.write(BOOKS)
            other.execute("ROLLBACK")
            other.close()
            assert await sink.write(BOOKS) == [Applied()] * 3

    asyncio.run(run())


def test_a_full_disk_makes_the_sink_unavailable_and_leaves_nothing_half_done(path: Path) -> None:
    sink = make(path)
    big = [insert(str(n), {"title": "word " * 2000}, version=n + 1) for n in range(50)]

    async def run() -> None:
        async with opened(sink):
            await sink.write(BOOKS)
            assert sink._store is not None
            sink._store._connection.execute("PRAGMA max_page_count = 30")
            with pytest.raises(SinkUnavailable, match="SQLITE_FULL"):
                await sink.write(big)
            sink._store._connection.execute("PRAGMA max_page_count = 100000")
            assert found(path, "word") == []
            assert await sink.write(big) == [Applied()] * 50

    asyncio.run(run())
    assert len(found(path, "word")) == 10


def test_a_file_that_is_no_database_is_a_config_error(path: Path) -> None:
    path.write_text("this is no database, but a text of some length")
    with pytest.raises(ConfigError, match="no SQLite database"):
        write(make(path), [])


def test_searching_says_what_is_missing(path: Path) -> None:
    with pytest.raises(ConfigError, match="no search index"):
        found(path, "x")
    write(make(path), [])
    with pytest.raises(ConfigError, match="no index 'other'"):
        found(path, "x", "other")


@pytest.mark.parametrize(
    "wrong",
    [
        {"fields": []},
        {"fields": ["a", "A"]},
        {"fields": ["rank"]},
        {"fields": ["a..b"]},
        {"fields": ["a\nb"]},
        {"index": 'x"; drop table y'},
        {"index": "Upper"},
        {"id": "{pk"},
        {"id": ""},
        {"colour": "blue"},
    ],
)
def test_wrong_configurations_are_refused(path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(path, **wrong)


def test_field_names_cannot_break_out_of_the_statement(path: Path) -> None:
    field = 'x"); drop table t; --'
    write(make(path, fields=[field]), [insert("a", {field: "needle"})])
    assert found(path, "needle") == ["a"]


def test_a_path_leads_into_maps_and_into_each_member_of_a_list() -> None:
    document = {
        "address": {"city": "Porto"},
        "lines": [{"product": "teapot"}, {"product": "mug"}, "gift"],
        "tags": ["a"],
    }
    paths = split_paths(["address.city", "lines.product", "tags", "lines.price", "address"])
    assert texts_of(document, paths) == ("Porto", "teapot mug", "a", "", "Porto")
