"""What every source promises, held against each of ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.sources.file import FileSource, FileSourceConfig
from connector.sources.protocol import Source
from tests.coroutines import asynchronous
from tests.integration.kafka_harness import Member, new_group, produce
from tests.unit.sources.harness import CONTEXT, Listener, MemoryCheckpoints, Reading

SHARDS = 2


@dataclass
class Opened:
    """An opened source that owns its two shards."""

    source: Source
    listener: Listener
    checkpoints: CheckpointStore
    reading: Reading


@dataclass
class Place:
    """Somewhere with two shards to read from. Number n is written to shard n modulo two."""

    write: Callable[[Sequence[int]], None]
    opened: Callable[[], AbstractAsyncContextManager[Opened]]


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return _files(tmp_path) if request.param == "file" else _topic(request)


def _files(folder: Path) -> Place:
    checkpoints = MemoryCheckpoints()
    paths = [folder / f"shard-{number}.jsonl" for number in range(SHARDS)]
    for path in paths:
        path.touch()

    def write(numbers: Sequence[int]) -> None:
        for number in numbers:
            with paths[number % SHARDS].open("ab") as file:
                file.write(b"%d\n" % number)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Opened]:
        source = FileSource(FileSourceConfig(path=str(folder / "*.jsonl"), follow=True), CONTEXT)
        listener = Listener()
        await source.open(listener, checkpoints)
        try:
            yield Opened(source, listener, checkpoints, Reading(source))
        finally:
            await source.close()

    return Place(write, opened)


def _topic(request: pytest.FixtureRequest) -> Place:
    kafka = request.getfixturevalue("kafka")
    topic: str = request.getfixturevalue("kafka_topic")(partitions=SHARDS)
    group = new_group()

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Opened]:
        async with Member(kafka, topic, group) as member:
            yield Opened(member.source, member.listener, member.checkpoints, member.reading)

    return Place(lambda numbers: produce(kafka, topic, numbers, partitions=SHARDS), opened)


def numbers(reading: Reading) -> list[int]:
    return sorted(int(value or b"") for value in reading.values)


@asynchronous
async def test_shards_are_assigned_before_their_first_record_and_read_in_order(place: Place) -> None:
    place.write(range(1000))
    async with place.opened() as opened:
        while not opened.reading.count:
            await opened.reading.once()
            assert set(opened.reading.records) <= set(opened.listener.owned)
        await opened.reading.until(1000)
        assert numbers(opened.reading) == list(range(1000))
        assert list(opened.listener.owned.values()) == [None] * SHARDS
        for records in opened.reading.records.values():
            read = [int(record.value or b"") for record in records]
            assert read == sorted(read)


@asynchronous
async def test_no_read_gives_more_than_was_asked_for(place: Place) -> None:
    place.write(range(200))
    async with place.opened() as opened:
        while opened.reading.count < 200:
            assert await opened.reading.once(records_max=7) <= 7
        assert numbers(opened.reading) == list(range(200))


@asynchronous
async def test_a_saved_next_position_is_where_reading_goes_on(place: Place) -> None:
    place.write(range(500))
    async with place.opened() as opened:
        while opened.reading.count < 300:
            await opened.reading.once(records_max=100)
        before = numbers(opened.reading)
        saved = {shard: Checkpoint(at, clock=11) for shard, at in opened.reading.next_positions.items()}
        await opened.checkpoints.save(saved)
    place.write(range(500, 600))
    async with place.opened() as opened:
        await opened.reading.until(600 - len(before))
        await opened.reading.for_a_while()
        assert sorted(before + numbers(opened.reading)) == list(range(600))
        assert {shard: opened.listener.owned[shard] for shard in saved} == saved


@asynchronous
async def test_a_record_s_own_position_reads_it_again(place: Place) -> None:
    place.write(range(0, 100, 2))
    async with place.opened() as opened:
        await opened.reading.until(50)
        (shard,) = opened.reading.records
        record = opened.reading.records[shard][20]
        await opened.checkpoints.save({shard: Checkpoint(record.position)})
    async with place.opened() as opened:
        await opened.reading.until(30)
        again = opened.reading.records[shard][0]
        assert (again.position, again.value) == (record.position, record.value)


@asynchronous
async def test_ends_are_where_next_positions_arrive(place: Place) -> None:
    place.write(range(100))
    async with place.opened() as opened:
        await opened.reading.until(1)
        ends = await opened.source.ends()
        assert set(ends) == set(opened.listener.owned)
        await opened.reading.until(100)
        assert opened.reading.next_positions == ends
        place.write([100])
        later = await opened.source.ends()
        assert sum(later.values()) > sum(ends.values())
        await opened.reading.until(101)
        assert opened.reading.next_positions == later


@asynchronous
async def test_a_paused_source_gives_nothing_and_goes_on_with_the_record_that_comes_next(place: Place) -> None:
    place.write(range(400))
    async with place.opened() as opened:
        for pause_s in (0.0, 1.1):
            await opened.reading.once(records_max=50)
            await opened.source.pause()
            await asyncio.sleep(pause_s)
            before = opened.reading.count
            await opened.reading.for_a_while()
            assert opened.reading.count == before
            await opened.source.resume()
        await opened.reading.until(400)
        await opened.reading.for_a_while()
        assert numbers(opened.reading) == list(range(400))


@asynchronous
async def test_an_empty_source_gives_nothing_and_waits(place: Place) -> None:
    async with place.opened() as opened:
        await opened.reading.for_a_while()
        assert (opened.reading.count, opened.reading.ended) == (0, False)
        place.write([0])
        await opened.reading.until(1)


@asynchronous
async def test_a_cancelled_read_loses_nothing(place: Place) -> None:
    place.write(range(1000))
    async with place.opened() as opened:
        for turn in range(60):
            reading = asyncio.create_task(opened.reading.once(records_max=9))
            await asyncio.sleep(0.001 * (turn % 5))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await opened.reading.until(1000)
        assert numbers(opened.reading) == list(range(1000))
