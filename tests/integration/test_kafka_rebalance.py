"""Two members of one group on a real broker: shards move, and each record is finished by somebody, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from connector.checkpoints.protocol import Checkpoint
from connector.errors import CheckpointLost
from tests.coroutines import asynchronous
from tests.integration.kafka_harness import Member, new_group, produce
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer


@contextlib.asynccontextmanager
async def reading_on(member: Member) -> AsyncIterator[None]:
    """The member goes on reading in the background."""

    async def read() -> None:
        while True:
            await member.reading.once()

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynchronous
async def test_a_second_member_gets_half_of_the_shards_where_the_first_one_saved_them(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=4), new_group()
    produce(kafka, topic, range(1000), partitions=4)
    async with Member(kafka, topic, group) as first:
        await first.reading.until(1000)
        first.listener.drain_s = 0.5
        async with reading_on(first), Member(kafka, topic, group) as second:
            await second.until_it_owns(2)
            assert first.listener.save_errors == [], "a commit inside the revocation works"
            assert len(first.listener.owned) == 2
            assert set(first.listener.owned).isdisjoint(second.listener.owned)
            for checkpoint in second.listener.owned.values():
                assert checkpoint is not None
                assert checkpoint.position == 250
                assert checkpoint.clock > 0
            await asyncio.to_thread(produce, kafka, topic, range(1000, 2000), partitions=4)
            async with asyncio.timeout(30):
                while first.reading.count + second.reading.count < 2000:
                    await second.reading.once()
            assert sorted(first.numbers + second.numbers) == list(range(2000))


@asynchronous
async def test_only_the_shards_that_move_are_revoked_and_the_others_are_read_on(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=4), new_group()
    async with Member(kafka, topic, group) as first:
        await first.until_it_owns(4)
        async with reading_on(first), Member(kafka, topic, group) as second:
            await second.until_it_owns(2)
        revoked = [shards for what, shards in first.listener.told if what == "revoked"]
        assert [len(list(shards)) for shards in revoked if isinstance(shards, list)] == [2]
        await first.until_it_owns(4)
        assert all(what != "lost" for what, _ in first.listener.told)


@asynchronous
async def test_members_that_come_and_go_under_load_finish_every_record_in_the_order_of_its_shard(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group, total = kafka_topic(partitions=4), new_group(), 20_000
    members: list[Member] = []

    async def visit(stay_s: float) -> None:
        member = Member(kafka, topic, group)
        members.append(member)
        async with member, reading_on(member):
            await asyncio.sleep(stay_s)

    async with Member(kafka, topic, group) as host:
        members.append(host)
        async with reading_on(host):
            producing = asyncio.create_task(_produce_slowly(kafka, topic, total))
            for stay_s in (1.0, 0.3, 2.0):
                await visit(stay_s)
            await asyncio.gather(visit(2.0), visit(1.0))
            await producing
            async with asyncio.timeout(60):
                while len(_distinct(members)) < total:
                    await asyncio.sleep(0.1)
        await host.until_it_owns(4)
        await host.until_caught_up()
        await host.save()
        saved = await host.checkpoints.all()
        assert {shard: checkpoint.position for shard, checkpoint in saved.items()} == await host.source.ends()
    assert [error for member in members for error in member.listener.save_errors] == []


async def _produce_slowly(kafka: KafkaServer, topic: str, total: int) -> None:
    for first in range(0, total, 1000):
        await asyncio.to_thread(produce, kafka, topic, range(first, first + 1000), partitions=4)
        await asyncio.sleep(0.2)


def _distinct(members: list[Member]) -> set[int]:
    return {number for member in members for number in member.numbers}


@asynchronous
async def test_a_member_that_stalls_beyond_its_poll_interval_loses_its_shards_and_may_not_save_them(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=2), new_group()
    produce(kafka, topic, range(100), partitions=2)
    options = {"session_timeout": 2.0, "max_poll_interval": 2.0}
    async with Member(kafka, topic, group, **options) as stalled:
        await stalled.reading.until(100)
        async with Member(kafka, topic, group, **options) as other:
            await other.until_it_owns(2)  # the stalled one does not read meanwhile
            await other.reading.until(100)
            with pytest.raises(CheckpointLost) as lost:
                await stalled.checkpoints.save({f"{topic}/0": Checkpoint(1, 9), f"{topic}/1": Checkpoint(1, 9)})
            assert lost.value.shards == {f"{topic}/0", f"{topic}/1"}
            await other.save()
            async with asyncio.timeout(30), reading_on(other):
                while stalled.listener.owned:
                    await stalled.reading.once()
            assert "lost" in [what for what, _ in stalled.listener.told]
            assert all(isinstance(error, CheckpointLost) for error in stalled.listener.save_errors)
            saved = await other.checkpoints.all()
            assert {shard: checkpoint.position for shard, checkpoint in saved.items()} == dict.fromkeys(
                (f"{topic}/0", f"{topic}/1"), 50
            )
            async with reading_on(other):
                await stalled.until_it_owns(1)  # and it becomes a member again


@asynchronous
async def test_shards_that_come_while_the_source_is_paused_are_paused_too(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=2), new_group()
    produce(kafka, topic, range(100), partitions=2)
    async with Member(kafka, topic, group) as member:
        await member.source.pause()
        await asyncio.sleep(1.1)
        await member.until_it_owns(2)
        await member.reading.for_a_while(10)
        assert member.reading.count == 0
        await member.source.resume()
        await member.reading.until(100)
        assert sorted(member.numbers) == list(range(100))


@asynchronous
async def test_two_members_that_begin_together_at_latest_both_begin_at_the_end(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=4), new_group()
    produce(kafka, topic, range(100), partitions=4)
    one = Member(kafka, topic, group, start="latest")
    async with one, reading_on(one), Member(kafka, topic, group, start="latest") as two:
        await two.until_it_owns(2)
        produce(kafka, topic, range(100, 104), partitions=4)
        async with asyncio.timeout(30):
            while one.reading.count + two.reading.count < 4:
                await two.reading.once()
        assert sorted(one.numbers + two.numbers) == list(range(100, 104))
