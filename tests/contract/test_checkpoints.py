"""What every checkpoint store promises, held against each of ours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.checkpoints.sqlite import SQLiteCheckpoints
from tests.coroutines import asynchronous
from tests.integration.kafka_harness import Member, new_group

OpenStore = Callable[[str], AbstractAsyncContextManager[tuple[CheckpointStore, list[str]]]]
"""Opens the store of a pipeline, and names three of its shards."""


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.servers)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    if request.param == "sqlite":
        return lambda pipeline: _sqlite(tmp_path / "state.db", pipeline)
    kafka = request.getfixturevalue("kafka")
    topic: str = request.getfixturevalue("kafka_topic")(partitions=3)
    groups: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def member(pipeline: str) -> AsyncIterator[tuple[CheckpointStore, list[str]]]:
        # A pipeline's namespace is its group.
        async with Member(kafka, topic, groups.setdefault(pipeline, new_group()), out_of_range="earliest") as member:
            await member.until_it_owns(3)
            yield member.checkpoints, [f"{topic}/{partition}" for partition in range(3)]

    return member


@contextlib.asynccontextmanager
async def _sqlite(path: Path, pipeline: str) -> AsyncIterator[tuple[CheckpointStore, list[str]]]:
    store = SQLiteCheckpoints(path, pipeline)
    await store.open()
    try:
        yield store, ["shard-1", "shard/ü\r\n-2", "arn:aws:dynamodb:x/stream/2026#3"]
    finally:
        await store.close()


@asynchronous
async def test_a_shard_without_a_checkpoint_is_absent(opened: OpenStore) -> None:
    async with opened("orders") as (store, shards):
        assert await store.load(shards) == {}
        assert await store.load([]) == {}
        assert await store.all() == {}


@asynchronous
async def test_a_checkpoint_comes_back_exactly_after_a_restart(opened: OpenStore) -> None:
    async with opened("orders") as (store, (one, two, _)):
        await store.save({one: Checkpoint(2**62, clock=2**63 - 1), two: Checkpoint(0)})
        await store.save({})
    async with opened("orders") as (store, (one, two, three)):
        assert await store.load([one, three]) == {one: Checkpoint(2**62, 2**63 - 1)}
        assert await store.all() == {one: Checkpoint(2**62, 2**63 - 1), two: Checkpoint(0)}


@asynchronous
async def test_the_last_save_of_a_shard_counts_and_the_others_stay(opened: OpenStore) -> None:
    async with opened("orders") as (store, (one, two, _)):
        await store.save({one: Checkpoint(1, 1), two: Checkpoint(1, 1)})
        await store.save({one: Checkpoint(5, 7)})
        await store.save({one: Checkpoint(3, 8)})
        assert await store.all() == {one: Checkpoint(3, 8), two: Checkpoint(1, 1)}


@asynchronous
async def test_pipelines_do_not_share_checkpoints(opened: OpenStore) -> None:
    async with opened("orders") as (orders, (one, two, _)), opened("customers") as (customers, _names):
        await orders.save({one: Checkpoint(1), two: Checkpoint(2)})
        await customers.save({one: Checkpoint(9)})
        assert await orders.all() == {one: Checkpoint(1), two: Checkpoint(2)}
        assert await customers.all() == {one: Checkpoint(9)}


@asynchronous
async def test_a_reset_forgets_the_named_shards_only(opened: OpenStore, request: pytest.FixtureRequest) -> None:
    async with opened("orders") as (store, (one, two, three)):
        await store.save({one: Checkpoint(1, 1), two: Checkpoint(2, 2), three: Checkpoint(3, 3)})
        if isinstance(store, SQLiteCheckpoints):
            await store.reset([one, three])
    if not isinstance(store, SQLiteCheckpoints):
        await store.reset([one, three])  # a group's offsets can be reset when its members have left
    async with opened("orders") as (store, _):
        assert await store.all() == {two: Checkpoint(2, 2)}
        await store.save({one: Checkpoint(7, 7)})
        assert await store.all() == {one: Checkpoint(7, 7), two: Checkpoint(2, 2)}
