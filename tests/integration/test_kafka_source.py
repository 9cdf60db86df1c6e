"""The Kafka source on a real broker: beginnings, ends, holes, pauses."""

from __future__ import annotations

import asyncio
import random

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from connector.checkpoints.protocol import Checkpoint
from connector.errors import CheckpointError, ConfigError, SourceError
from tests.coroutines import asynchronous
from tests.integration.kafka_harness import Member, new_group, produce
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer

KEEP = {"retention.ms": "-1"}
"""For records of long ago, which the broker would delete at once."""


def delete_before(kafka: KafkaServer, topic: str, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for answer in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        answer.result()


@asynchronous
async def test_every_record_is_read_in_order_with_all_that_it_carries(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic(config=KEEP)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, b"one", key=b"k", timestamp=1234, headers=[("h", b"1"), ("h", None)])
    producer.produce(topic, None, key=b"k", timestamp=1235)
    producer.flush()
    async with Member(kafka, topic, new_group()) as member:
        await member.reading.until(2)
        one, tombstone = member.reading.records[f"{topic}/0"]
        assert (one.position, one.value, one.key, one.timestamp_ms) == (0, b"one", b"k", 1234)
        assert one.headers == (("h", b"1"), ("h", None))
        assert (tombstone.position, tombstone.value, tombstone.key, tombstone.headers) == (1, None, b"k", ())
        assert member.listener.told == [("assigned", {f"{topic}/0": None})]


@asynchronous
async def test_the_committed_offset_and_the_clock_come_back_after_a_restart(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=2), new_group()
    produce(kafka, topic, range(100), partitions=2)
    async with Member(kafka, topic, group) as member:
        await member.reading.until(100)
        await member.checkpoints.save({f"{topic}/0": Checkpoint(20, clock=2**63 - 1), f"{topic}/1": Checkpoint(50, 7)})
        assert await member.checkpoints.load([f"{topic}/0"]) == {f"{topic}/0": Checkpoint(20, 2**63 - 1)}
    async with Member(kafka, topic, group) as member:
        await member.reading.until(30)
        await member.reading.for_a_while()
        assert member.numbers == list(range(40, 100, 2))
        assert member.listener.owned == {f"{topic}/0": Checkpoint(20, 2**63 - 1), f"{topic}/1": Checkpoint(50, 7)}


@asynchronous
async def test_an_offset_that_another_program_committed_is_a_checkpoint_without_a_clock(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(10))
    other = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    other.commit(offsets=[TopicPartition(topic, 0, 4, "somebody else's words")], asynchronous=False)
    other.close()
    async with Member(kafka, topic, group) as member:
        await member.reading.until(6)
        assert member.numbers == list(range(4, 10))
        assert member.listener.owned == {f"{topic}/0": Checkpoint(4, 0)}


@asynchronous
async def test_latest_begins_at_the_end_and_a_crash_before_the_first_checkpoint_loses_nothing(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(10))
    async with Member(kafka, topic, group, start="latest") as member:
        await member.until_it_owns(1)
        assert member.listener.owned == {f"{topic}/0": Checkpoint(10)}
    produce(kafka, topic, range(10, 15))
    async with Member(kafka, topic, group, start="latest") as member:
        await member.reading.until(5)
        assert member.numbers == list(range(10, 15))


@asynchronous
async def test_partitions_that_are_added_later_begin_at_their_first_record_though_the_group_began_at_latest(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=2), new_group()
    produce(kafka, topic, range(10), partitions=2)
    options = {"topic.metadata.refresh.interval.ms": 500}
    async with Member(kafka, topic, group, start="latest", options=options) as member:
        await member.until_it_owns(2)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_partitions([NewPartitions(topic, 4)])[topic].result()
        produce(kafka, topic, [102, 103], partitions=4)
        await member.until_it_owns(4)
        await member.reading.until(2)
        assert sorted(member.numbers) == [102, 103]


@asynchronous
async def test_a_timestamp_begins_at_the_first_record_that_is_not_older(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic(partitions=2, config=KEEP)
    for number in range(10):
        produce(kafka, topic, [number], partitions=2, timestamp_ms=1_700_000_000_000 + number * 1000)
    start = {"timestamp": "2023-11-14T22:13:26Z"}  # 1_700_000_006
    async with Member(kafka, topic, new_group(), start=start) as member:
        await member.reading.until(4)
        await member.reading.for_a_while()
        assert sorted(member.numbers) == [6, 7, 8, 9]


@asynchronous
async def test_transaction_markers_and_aborted_records_are_holes_and_the_end_is_reached(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": new_group()})
    producer.init_transactions()
    for first, commit in ((0, True), (10, False), (20, True), (30, False)):
        producer.begin_transaction()
        for number in range(first, first + 10):
            producer.produce(topic, b"%d" % number)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    async with Member(kafka, topic, new_group()) as member:
        await member.until_it_owns(1)
        ends = await member.source.ends()
        assert ends == {f"{topic}/0": 44}
        await member.until_caught_up()
        assert member.numbers == [*range(10), *range(20, 30)]
        assert member.reading.next_positions == ends
        producer.begin_transaction()
        producer.produce(topic, b"open")
        producer.flush()
        await member.reading.for_a_while(5)
        assert await member.source.ends() == ends, "an open transaction is not behind the end yet"
        producer.abort_transaction()
        async with asyncio.timeout(30):
            while member.reading.next_positions != {f"{topic}/0": 46}:
                await member.reading.once()
        assert member.numbers == [*range(10), *range(20, 30)]


@asynchronous
async def test_a_partition_that_begins_late_and_is_empty_says_where_it_stands(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    produce(kafka, topic, range(60))
    delete_before(kafka, topic, 60)
    async with Member(kafka, topic, new_group()) as member:
        await member.until_it_owns(1)
        assert member.listener.owned == {f"{topic}/0": None}
        await member.reading.for_a_while()
        assert member.reading.next_positions == await member.source.ends() == {f"{topic}/0": 60}


@asynchronous
async def test_a_compacted_topic_is_read_over_its_holes(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "500",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "1000",
    }
    topic = kafka_topic(config=config)
    produce(kafka, topic, range(500))
    async with asyncio.timeout(60):
        while True:  # compaction needs a new segment, and its own time
            produce(kafka, topic, [500])
            await asyncio.sleep(0.6)
            async with Member(kafka, topic, new_group()) as member:
                await member.until_it_owns(1)
                await member.until_caught_up()
                if len(member.numbers) < 400:
                    assert set(member.numbers) == {500}
                    assert member.reading.next_positions == await member.source.ends()
                    return


@asynchronous
async def test_a_checkpoint_whose_records_are_gone_stops_the_source_and_says_how_many(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(100))
    async with Member(kafka, topic, group) as member:
        await member.reading.until(100)
        await member.checkpoints.save({f"{topic}/0": Checkpoint(20, 5)})
    delete_before(kafka, topic, 60)
    async with Member(kafka, topic, group) as member:
        with pytest.raises(SourceError, match="up to 40 records were deleted"):
            await member.reading.for_a_while(200)
        assert member.reading.count == 0
    async with Member(kafka, topic, group, out_of_range="earliest") as member:
        await member.reading.until(40)
        assert member.numbers == list(range(60, 100))
        assert member.source.skipped_records == 40
        assert member.listener.owned == {f"{topic}/0": Checkpoint(60, 5)}
    async with Member(kafka, topic, group, out_of_range="latest") as member:
        await member.until_it_owns(1)
        produce(kafka, topic, [100])
        await member.reading.until(1)
        assert (member.numbers, member.source.skipped_records) == ([100], 80)


@pytest.mark.parametrize("policy", ["stop", "earliest"])
@asynchronous
async def test_retention_that_overtakes_a_running_reader_is_treated_alike(
    kafka: KafkaServer, kafka_topic: MakeTopic, policy: str
) -> None:
    topic = kafka_topic()
    produce(kafka, topic, range(10))
    async with Member(kafka, topic, new_group(), out_of_range=policy) as member:
        await member.reading.until(10)
        await member.source.pause()
        await asyncio.sleep(1.1)
        await member.reading.for_a_while(3)
        produce(kafka, topic, range(10, 100))
        delete_before(kafka, topic, 50)
        await member.source.resume()
        if policy == "stop":
            with pytest.raises(SourceError, match="up to 40 records were deleted"):
                await member.reading.for_a_while(200)
        else:
            await member.reading.until(60)
            assert member.numbers == [*range(10), *range(50, 100)]
            assert member.source.skipped_records == 40


@asynchronous
async def test_a_topic_that_was_made_anew_with_fewer_records_is_out_of_range(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(10))
    async with Member(kafka, topic, group) as member:
        await member.reading.until(10)
        await member.checkpoints.save({f"{topic}/0": Checkpoint(1000)})
    async with Member(kafka, topic, group) as member:
        with pytest.raises(SourceError, match="ends at 10"):
            await member.reading.for_a_while(200)


@asynchronous
async def test_pauses_under_load_lose_nothing_and_repeat_nothing(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic, total = kafka_topic(partitions=4), 60_000
    produce(kafka, topic, range(total // 2), partitions=4)
    chance = random.Random(7)
    async with Member(kafka, topic, new_group(), prefetch=1024 * 1024) as member:
        producing = asyncio.create_task(
            asyncio.to_thread(produce, kafka, topic, range(total // 2, total), partitions=4)
        )
        pauses = 0
        async with asyncio.timeout(120):
            while member.reading.count < total:
                await member.reading.once(records_max=chance.randint(1, 3000))
                if pauses < 12 and chance.random() < 0.2:
                    pauses += 1
                    await member.source.pause()
                    if pauses % 2:
                        await asyncio.sleep(1.05)  # long enough for the partitions to be paused
                    before = member.reading.count
                    await member.reading.for_a_while(2)
                    assert member.reading.count == before
                    await member.source.resume()
        await producing
        await member.reading.for_a_while()
        assert pauses == 12
        for partition in range(4):
            read = [int(record.value or b"") for record in member.reading.records[f"{topic}/{partition}"]]
            assert read == list(range(partition, total, 4))


@asynchronous
async def test_what_a_cancelled_read_has_fetched_is_given_to_the_next_one(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    produce(kafka, topic, range(2000))
    async with Member(kafka, topic, new_group()) as member:
        await member.reading.until(1, records_max=1)
        for _ in range(50):
            reading = asyncio.create_task(member.reading.once(records_max=10))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await member.reading.until(2000)
        assert member.numbers == list(range(2000))


@asynchronous
async def test_a_commit_does_not_wait_for_a_long_read(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic()
    produce(kafka, topic, range(1))
    async with Member(kafka, topic, new_group()) as member:
        await member.reading.until(1)
        reading = asyncio.create_task(member.source.read(10, 20.0))
        await asyncio.sleep(0.3)
        await member.checkpoints.save({f"{topic}/0": Checkpoint(1, 1)})
        assert not reading.done()
        produce(kafka, topic, [1])
        batches = await reading
        assert batches is not None
        assert [record.value for batch in batches for record in batch.records] == [b"1"]


@asynchronous
async def test_reset_forgets_the_offset_and_is_refused_while_the_group_has_members(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(10))
    async with Member(kafka, topic, group) as member:
        await member.reading.until(10)
        await member.save()
        with pytest.raises(ConfigError, match="running members"):
            await member.checkpoints.reset([f"{topic}/0"])
    stopped = Member(kafka, topic, group)
    assert await stopped.checkpoints.all() == {f"{topic}/0": Checkpoint(10, 1)}
    await stopped.checkpoints.reset([f"{topic}/0"])
    assert await stopped.checkpoints.all() == {}
    async with stopped as member:
        await member.reading.until(10)
        assert member.numbers == list(range(10))
        assert member.listener.owned == {f"{topic}/0": None}


@asynchronous
async def test_a_broker_that_restarts_is_waited_for_and_nothing_is_lost(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(partitions=2), new_group()
    produce(kafka, topic, range(1000), partitions=2)
    async with Member(kafka, topic, group, session_timeout=60.0) as member:
        await member.reading.until(1000)
        await asyncio.to_thread(kafka.process.kill)
        await member.reading.for_a_while(5)
        await asyncio.to_thread(kafka.process.start)
        await asyncio.to_thread(produce, kafka, topic, range(1000, 2000), partitions=2)
        await member.reading.until(2000)
        assert sorted(member.numbers) == list(range(2000))
        async with asyncio.timeout(60):
            while True:
                try:
                    await member.save()
                    break
                except CheckpointError:
                    await member.reading.once()
        assert await member.checkpoints.all() == {
            f"{topic}/0": Checkpoint(1000, next(member.clocks) - 2),
            f"{topic}/1": Checkpoint(1000, next(member.clocks) - 2),
        }


def delete(kafka: KafkaServer, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result()


@asynchronous
async def test_a_topic_that_is_deleted_while_it_is_read_stops_the_source_after_a_while(
    kafka: KafkaServer, kafka_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.sources.kafka.troubles.MISSING_S", 3.0)
    monkeypatch.setattr("connector.sources.kafka.troubles.LOOK_AGAIN_S", 0.5)
    monkeypatch.setattr("connector.sources.kafka.troubles.QUIET_S", 2.0)
    topic = kafka_topic()
    produce(kafka, topic, range(10))
    options = {"topic.metadata.refresh.interval.ms": 500}
    async with Member(kafka, topic, new_group(), options=options) as member:
        await member.reading.until(10)
        delete(kafka, topic)
        with pytest.raises(SourceError, match="is gone"):
            await member.reading.for_a_while(1000)


@asynchronous
async def test_a_topic_that_is_made_anew_while_it_is_read_is_read_from_its_new_beginning_if_told_so(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    produce(kafka, topic, range(100))
    options = {"topic.metadata.refresh.interval.ms": 500}
    async with Member(kafka, topic, new_group(), out_of_range="earliest", options=options) as member:
        await member.reading.until(100)
        await member.save()
        delete(kafka, topic)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        async with asyncio.timeout(30):
            while True:
                try:
                    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
                    break
                except KafkaException:
                    await asyncio.sleep(0.2)
        produce(kafka, topic, range(1000, 1005))
        await member.reading.until(105)
        assert member.numbers[100:] == list(range(1000, 1005))
        assert [what for what, _ in member.listener.told] == ["assigned", "lost", "assigned"]


@asynchronous
async def test_a_broker_that_is_away_for_longer_than_a_session_costs_a_replay_from_the_checkpoint_and_no_record(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic, group = kafka_topic(), new_group()
    produce(kafka, topic, range(1000))
    async with Member(kafka, topic, group, session_timeout=1.0) as member:
        await member.reading.until(1000)
        await member.checkpoints.save({f"{topic}/0": Checkpoint(990, 5)})
        await asyncio.to_thread(kafka.process.kill)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(kafka.process.start)
        await asyncio.to_thread(produce, kafka, topic, range(1000, 1010))
        await member.reading.until(1020)
        assert member.numbers == [*range(1000), *range(990, 1010)]
        assert member.listener.told[1:] == [
            ("lost", [f"{topic}/0"]),
            ("assigned", {f"{topic}/0": Checkpoint(990, 5)}),
        ]


@asynchronous
async def test_a_topic_that_does_not_exist_is_a_config_error(kafka: KafkaServer) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        async with Member(kafka, "no-such-topic", new_group()):
            pass


@asynchronous
async def test_an_option_that_the_client_does_not_know_is_a_config_error(kafka: KafkaServer) -> None:
    with pytest.raises(ConfigError, match=r"no\.such\.option"):
        async with Member(kafka, "any", new_group(), options={"no.such.option": 1}):
            pass


@pytest.mark.parametrize("option", ["enable.auto.commit", "auto.offset.reset", "group.id", "bootstrap.servers"])
def test_an_option_that_the_promise_rests_on_is_refused(option: str) -> None:
    nowhere = KafkaServer("127.0.0.1:1", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=option):
        Member(nowhere, "any", "any", options={option: "true"})
