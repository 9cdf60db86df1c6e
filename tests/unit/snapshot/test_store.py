"""A snapshot's progress in the file of the checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from connector.checkpoints.protocol import SHARD_END
from connector.checkpoints.sqlite import SQLiteCheckpoints
from connector.errors import ConfigError
from connector.snapshot.state import DEMAND, PIPELINE, SegmentState, SnapshotState
from connector.snapshot.store import SQLiteSnapshots

T = TypeVar("T")

STATE = SnapshotState(id="a", kind=PIPELINE, what="orders", segments=2, time_ms=1000, started_ms=5000, attempt=1)
SEGMENTS = [
    SegmentState(segment=0, position=10**20, clock=7, place='{"pk":{"S":"é"}}', items=3, pages=1, units=0.5),
    SegmentState(segment=1, position=SHARD_END, done=True),
]


def with_store(path: Path, use: Callable[[SQLiteSnapshots], Awaitable[T]], pipeline: str = "orders") -> T:
    async def main() -> T:
        store = SQLiteSnapshots(path, pipeline)
        await store.open()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def fill(store: SQLiteSnapshots) -> None:
    await store.save(STATE)
    await store.save_segments("a", SEGMENTS)


def test_what_was_saved_is_there_in_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    with_store(path, fill)

    async def look(store: SQLiteSnapshots) -> None:
        assert await store.load(PIPELINE) == STATE
        assert await store.segments("a") == {0: SEGMENTS[0], 1: SEGMENTS[1]}
        assert await store.load(DEMAND) is None

    with_store(path, look)


def test_a_new_snapshot_takes_the_place_of_the_last_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    with_store(path, fill)
    on_demand = SnapshotState(id="b", kind=DEMAND)
    newer = SnapshotState(id="c", kind=PIPELINE)

    async def begin_anew(store: SQLiteSnapshots) -> None:
        await store.save(on_demand)
        assert await store.segments("a"), "one on demand is another one"
        await store.save(newer)
        assert await store.load(PIPELINE) == newer
        assert await store.load(DEMAND) == on_demand
        assert not await store.segments("a")

    with_store(path, begin_anew)


def test_pipelines_do_not_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    with_store(path, fill)

    async def look(store: SQLiteSnapshots) -> None:
        assert await store.load(PIPELINE) is None
        assert not await store.segments("a")

    with_store(path, look, pipeline="customers")


def test_it_shares_its_file_with_the_checkpoints_of_a_running_daemon(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"

    async def main() -> None:
        checkpoints = SQLiteCheckpoints(path, "orders")
        await checkpoints.open()
        store = SQLiteSnapshots(path, "orders", exclusive=True)
        await store.open()
        await fill(store)
        await store.close()
        await checkpoints.close()

    asyncio.run(main())


def test_one_on_demand_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"

    async def main() -> None:
        first = SQLiteSnapshots(path, "orders", exclusive=True)
        await first.open()
        second = SQLiteSnapshots(path, "orders", exclusive=True)
        with pytest.raises(ConfigError, match="another snapshot"):
            await second.open()
        await second.close()
        await first.close()
        await second.open()
        await second.close()

    asyncio.run(main())


def test_a_place_that_cannot_be_written_is_a_person_s_to_mend(tmp_path: Path) -> None:
    store = SQLiteSnapshots(tmp_path / "missing" / "checkpoints.db", "orders")

    async def main() -> None:
        with pytest.raises(ConfigError, match="cannot be kept"):
            await store.open()
        await store.close()

    asyncio.run(main())
