"""What is Kafka's own about dead letters; the rest is in the contract suite."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connector.change import Record
from connector.deadletter.envelope import ErrorKind
from connector.deadletter.kafka import KafkaDeadLetters, KafkaDeadLettersConfig
from connector.errors import ConfigError, DeadLetterError
from tests.coroutines import asynchronous
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.unit.deadletter.letters import letter, positions, stored


def at(bootstrap: str, topic: str, **options: Any) -> KafkaDeadLetters:
    raw = {"brokers": [bootstrap], "topic": topic, **options}
    return KafkaDeadLetters(KafkaDeadLettersConfig.model_validate(raw), "orders")


@asynchronous
async def test_the_record_is_the_original_with_headers_that_kafka_connect_users_know(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    destination = at(kafka.bootstrap, topic)
    await destination.open()
    await destination.append([letter(7, record=Record(7, b"value", b"key", 5, (("trace", b"abc"),)))])
    await destination.append([letter(8, kind=ErrorKind.DECODE, shard="file:changes.jsonl", route="")])
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "look"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message, other = consumer.consume(2, 20)
    consumer.close()
    assert (message.value(), message.key()) == (b"value", b"key")
    headers = dict(message.headers() or [])
    envelope = json.loads(headers.pop("millrace.envelope") or b"")
    assert headers == {
        "trace": b"abc",
        "__connect.errors.topic": b"orders.changes",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"7",
        "__connect.errors.connector.name": b"orders",
        "__connect.errors.task.id": b"search",
        "__connect.errors.stage": b"TASK_PUT",
        "__connect.errors.class.name": b"millrace.route",
        "__connect.errors.exception.class.name": b"millrace.rejected.mapper_parsing_exception",
        "__connect.errors.exception.message": b"object mapping for [x] tried to parse as object",
    }
    assert envelope["letter"]["attempts"] == 3
    other_headers = dict(other.headers() or [])
    assert other_headers["__connect.errors.topic"] == b"file:changes.jsonl"
    assert other_headers["__connect.errors.stage"] == b"VALUE_CONVERTER"
    await destination.close()


@asynchronous
async def test_a_letter_about_a_dead_letter_keeps_the_inner_ones_headers(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    headers = (("millrace.envelope", b"inner"), ("__connect.errors.topic", b"inner"), ("millrace.mark", None))
    destination = at(kafka.bootstrap, kafka_topic())
    await destination.open()
    written = letter(1, record=Record(1, b"v", None, 5, headers))
    await destination.append([written])
    assert [each.letter for each in await stored(destination)] == [written]
    await destination.close()


@asynchronous
async def test_records_of_somebody_else_in_the_topic_are_passed_over(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for headers in ([], [("x", b"y")], [("millrace.envelope", b"{")], [("millrace.mark", b'{"type":"mark"}')]):
        producer.produce(topic, b"foreign", headers=headers)  # type: ignore[arg-type]
    producer.flush()
    destination = at(kafka.bootstrap, topic)
    await destination.open()
    await destination.append([letter(1)])
    assert await positions(destination) == [1]
    await destination.close()


@asynchronous
async def test_a_missing_topic_is_made_to_keep_letters_for_ever_or_refused(kafka: KafkaServer) -> None:
    topic = f"dead-{uuid4().hex[:8]}"
    with pytest.raises(ConfigError, match="does not exist"):
        await at(kafka.bootstrap, topic, create=False).open()
    destination = at(kafka.bootstrap, topic)
    await destination.open()
    long_ago = letter(1, first_failed_ms=1, record=Record(1, random.Random(1).randbytes(5_000_000), b"k", 1))
    await destination.append([long_ago])
    assert [each.letter for each in await stored(destination)] == [long_ago]
    await destination.close()


@asynchronous
async def test_a_compacted_topic_is_refused(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(config={"cleanup.policy": "compact"})
    with pytest.raises(ConfigError, match="compacted"):
        await at(kafka.bootstrap, topic).open()


@asynchronous
async def test_a_letter_that_is_too_big_for_the_topic_says_how_big_it_is_and_holds_up_no_other(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    destination = at(kafka.bootstrap, kafka_topic(config={"max.message.bytes": "100000"}))
    await destination.open()
    big = letter(1, record=Record(1, random.Random(1).randbytes(200_000), b"k"))
    with pytest.raises(DeadLetterError, match=r"20\d{4} bytes.*max\.message\.bytes"):
        await destination.append([big])
    await destination.append([letter(2)])
    assert await positions(destination) == [2]
    await destination.close()


@asynchronous
async def test_a_broker_that_is_down_is_a_dead_letter_error_and_later_works(
    kafka: KafkaServer, kafka_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.deadletter.kafka.destination.DELIVERY_S", 2.0)
    destination = at(kafka.bootstrap, kafka_topic())
    await destination.open()
    await destination.append([letter(1)])
    await asyncio.to_thread(kafka.process.kill)
    with pytest.raises(DeadLetterError, match="cannot be written"):
        await destination.append([letter(2)])
    await asyncio.to_thread(kafka.process.start)
    async with asyncio.timeout(60):
        while True:
            try:
                await destination.append([letter(2)])
                break
            except DeadLetterError:
                continue
    assert await positions(destination) == [1, 2]
    await destination.close()


@asynchronous
async def test_no_broker_at_all_is_a_dead_letter_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.deadletter.kafka.topic.REQUEST_S", 1.0)
    with pytest.raises(DeadLetterError, match="cannot be looked at"):
        await at("127.0.0.1:1", "any").open()
