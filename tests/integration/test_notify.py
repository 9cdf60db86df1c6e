"""What ``notify`` does at a real Kafka and at moto's queues, topics and buses, beside the contract."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import APPLIED, Applied, Outcome, Rejected
from sinks.notify import NotifySink
from sinks.notify.config import NotifySinkConfig
from sinks.testing import context, insert, modify, opened
from tests.integration.messaging import attribute, aws, details, header, make_queue, messages, queue_arn, records
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.moto import MotoServer


def sink(**options: Any) -> NotifySink:
    return NotifySink(NotifySinkConfig.model_validate(options), context())


def write(one: NotifySink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(one):
            return [await one.write(batch) for batch in batches]

    return asyncio.run(run())


def open_only(one: NotifySink) -> None:
    async def run() -> None:
        async with opened(one):
            pass

    asyncio.run(run())


def noise(count: int) -> str:
    """Text that does not compress."""
    return random.Random(7).randbytes(count // 2).hex()


# Kafka


def test_a_record_has_the_items_key_and_tells_id_and_type(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(3)
    change = insert("1", {"status": "PAID"}, event_id="e1")
    place = {"brokers": [kafka.bootstrap], "topic": topic}
    write(sink(kafka=place, message={"order": "{pk}", "status": "{status}"}), [change])
    (record,) = records(kafka.bootstrap, topic)
    assert record.key() == change.key.encode()
    assert json.loads(record.value() or b"") == {"order": "1", "status": "PAID"}
    assert header(record, "event_id") == "e1"
    assert header(record, "type") == "INSERT"


def test_a_keys_records_are_in_one_partition_in_order(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(4)
    batch = [insert(f"k{n % 20}", {"n": n}, version=n + 1) for n in range(1000)]
    write(sink(kafka={"brokers": [kafka.bootstrap], "topic": topic}), batch)
    seen: dict[bytes, list[int]] = {}
    partitions: dict[bytes, set[int | None]] = {}
    for record in records(kafka.bootstrap, topic):
        key = record.key()
        assert isinstance(key, bytes)
        seen.setdefault(key, []).append(json.loads(record.value() or b"")["new"]["n"])
        partitions.setdefault(key, set()).add(record.partition())
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(1000))
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert all(len(places) == 1 for places in partitions.values())


def test_a_record_that_is_larger_than_the_topic_allows_is_rejected_alone(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    topic = kafka_topic(1, config={"max.message.bytes": "20000"})
    batch = [insert(f"k{n}", {"text": noise(30_000 if n == 5 else 3000)}, version=n + 1) for n in range(20)]
    (outcomes,) = write(sink(kafka={"brokers": [kafka.bootstrap], "topic": topic}), batch)
    assert [at for at, outcome in enumerate(outcomes) if not isinstance(outcome, Applied)] == [5]
    assert isinstance(outcomes[5], Rejected)
    assert outcomes[5].reason == "message_too_large"
    assert len(records(kafka.bootstrap, topic)) == 19


def test_a_broker_that_hangs_is_waited_for_and_nothing_is_lost(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(1)
    one = sink(kafka={"brokers": [kafka.bootstrap], "topic": topic, "timeout": "2s"})
    batch = [insert(f"k{n}", version=n + 1) for n in range(10)]

    async def run() -> None:
        async with opened(one):
            assert await one.write(batch[:5]) == [APPLIED] * 5
            kafka.process.pause()
            try:
                with pytest.raises(SinkUnavailable, match="not acknowledged in 2 s"):
                    await one.write(batch[5:])
            finally:
                kafka.process.resume()
            for _ in range(30):
                try:
                    assert await one.write(batch[5:]) == [APPLIED] * 5
                    return
                except SinkUnavailable:
                    await asyncio.sleep(1)
            raise AssertionError("the broker did not come back")

    asyncio.run(run())
    ids = [header(record, "event_id") for record in records(kafka.bootstrap, topic)]
    assert list(dict.fromkeys(ids)) == [change.event_id for change in batch]


def test_a_topic_that_is_missing_is_told_at_the_start(kafka: KafkaServer) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        open_only(sink(kafka={"brokers": [kafka.bootstrap], "topic": "never-made"}))


def test_options_that_the_order_rests_on_are_refused() -> None:
    place = {"brokers": ["127.0.0.1:9"], "topic": "t", "options": {"acks": "1"}}
    with pytest.raises(ConfigError, match="acks"):
        sink(kafka=place)


# SQS, SNS, EventBridge


@pytest.fixture
def place(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_access_key)
    return {"endpoint": moto_server.endpoint, "region": moto_server.region}


def test_a_fifo_queue_keeps_the_order_of_each_key_and_drops_what_is_sent_again(
    moto_server: MotoServer, place: dict[str, str]
) -> None:
    queue = make_queue(moto_server, FifoQueue="true")
    batch = [modify(f"k{n % 3}", {"n": n}, event_id=f"e{n}", version=n + 1) for n in range(30)]
    write(sink(sqs={**place, "queue": queue}), batch, batch[10:])
    groups: dict[str, list[int]] = {}
    for message in messages(moto_server, queue):
        groups.setdefault(message["Attributes"]["MessageGroupId"], []).append(json.loads(message["Body"])["new"]["n"])
    assert sorted(groups.values()) == [list(range(key, 30, 3)) for key in range(3)]


def test_a_deduplication_id_is_the_event_id(moto_server: MotoServer, place: dict[str, str]) -> None:
    queue = make_queue(moto_server, FifoQueue="true")
    write(sink(sqs={**place, "queue": queue}), [insert("1", event_id="e1")])
    (message,) = messages(moto_server, queue)
    assert message["Attributes"]["MessageDeduplicationId"] == "e1"
    assert attribute(message, "event_id") == "e1"


def test_what_is_larger_than_the_queue_allows_is_rejected_alone(moto_server: MotoServer, place: dict[str, str]) -> None:
    queue = make_queue(moto_server, MaximumMessageSize="2048")
    batch = [insert(f"k{n}", {"text": "x" * (3000 if n == 3 else 1000)}, version=n + 1) for n in range(12)]
    (outcomes,) = write(sink(sqs={**place, "queue": queue}), batch)
    assert [at for at, outcome in enumerate(outcomes) if not isinstance(outcome, Applied)] == [3]
    assert len(messages(moto_server, queue)) == 11


def test_batches_stay_below_what_one_call_may_hold(moto_server: MotoServer, place: dict[str, str]) -> None:
    queue = make_queue(moto_server)
    batch = [insert(f"k{n}", {"text": "x" * 200_000}, version=n + 1) for n in range(10)]
    assert write(sink(sqs={**place, "queue": queue}), batch) == [[APPLIED] * 10]
    assert len(messages(moto_server, queue)) == 10


def test_a_queue_that_is_not_there_is_no_changes_fault(moto_server: MotoServer, place: dict[str, str]) -> None:
    with pytest.raises(SinkUnavailable, match=r"NonExistentQueue|QueueDoesNotExist"):
        open_only(sink(sqs={**place, "queue": f"{moto_server.endpoint}/123456789012/nowhere"}))


def test_without_credentials_the_start_says_so(
    moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    queue = make_queue(moto_server)
    with pytest.raises(ConfigError, match="no AWS credentials"):
        open_only(sink(sqs={"endpoint": moto_server.endpoint, "region": "eu-central-1", "queue": queue}))


def test_a_topic_hands_on_id_and_type(moto_server: MotoServer, place: dict[str, str]) -> None:
    queue, client = make_queue(moto_server), aws("sns", moto_server)
    topic = client.create_topic(Name="handing-on")["TopicArn"]
    arn = queue_arn(moto_server, queue)
    client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    batch = [insert("1", {"text": "x" * 300_000}), insert("2", event_id="e2", version=2)]
    (outcomes,) = write(sink(sns={**place, "topic": topic}, message="{pk} {text}"), batch[:1])
    assert isinstance(outcomes[0], Rejected)
    (outcomes,) = write(sink(sns={**place, "topic": topic}, message="order {pk}"), batch[1:])
    assert outcomes == [APPLIED]
    (message,) = messages(moto_server, queue)
    assert (message["Body"], attribute(message, "event_id"), attribute(message, "type")) == ("order 2", "e2", "INSERT")


def test_an_event_has_its_type_its_source_and_the_id_inside(moto_server: MotoServer, place: dict[str, str]) -> None:
    queue, client = make_queue(moto_server), aws("events", moto_server)
    client.create_event_bus(Name="typed")
    pattern = json.dumps({"source": ["shop"], "detail-type": ["order PAID"]})
    client.put_rule(Name="paid", EventBusName="typed", EventPattern=pattern)
    client.put_targets(Rule="paid", EventBusName="typed", Targets=[{"Id": "q", "Arn": queue_arn(moto_server, queue)}])
    bus = {**place, "bus": "typed", "source": "shop", "detail_type": "order {status}"}
    batch = [
        insert("1", {"status": "PAID"}, event_id="e1"),
        insert("2", {"status": "NEW"}, version=2),
        insert("3", {"status": "x" * 200}, version=3),
    ]
    (outcomes,) = write(sink(eventbridge=bus, message={"order": "{pk}"}), batch)
    assert [type(outcome) for outcome in outcomes] == [Applied, Applied, Rejected]
    (event,) = details(moto_server, queue)
    assert event["detail"] == {"order": "1", "event_id": "e1"}
