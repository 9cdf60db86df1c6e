"""Outbox items in Kafka topics and SQS queues: each aggregate in order, only where the list allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from connector.change import Change
from connector.sink import APPLIED, Applied, Outcome, Rejected
from sinks.outbox import OutboxSink
from sinks.outbox.config import OutboxSinkConfig
from sinks.testing import context, insert, opened
from tests.integration.messaging import attribute, header, make_queue, messages, records
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.moto import MotoServer


def write(one: OutboxSink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(one):
            return [await one.write(batch) for batch in batches]

    return asyncio.run(run())


def sink(**options: Any) -> OutboxSink:
    return OutboxSink(OutboxSinkConfig.model_validate({"key": "{pk}", **options}), context())


def item(aggregate: str, number: int, destination: str = "orders", **more: Any) -> Change:
    content = {"destination": destination, "type": f"Event{number}", "payload": {"n": number}, **more}
    return insert({"pk": aggregate, "sk": f"OUTBOX#{number:06}"}, content, version=number + 1)


def test_each_aggregates_messages_are_in_order_whatever_their_items_keys(
    kafka: KafkaServer, kafka_topic: MakeTopic
) -> None:
    orders, stock = kafka_topic(4), kafka_topic(2)
    one = sink(kafka={"brokers": [kafka.bootstrap]}, destinations={"orders": orders, "stock": stock})
    batch = [item(f"A{n % 7}", n, "stock" if n % 3 == 0 else "orders") for n in range(300)]
    assert write(one, batch[:100], batch[100:]) == [[APPLIED] * 100, [APPLIED] * 200]
    for topic, expected in ((orders, [n for n in range(300) if n % 3]), (stock, list(range(0, 300, 3)))):
        found: dict[bytes, list[int]] = {}
        for record in records(kafka.bootstrap, topic):
            key = record.key()
            assert isinstance(key, bytes)
            found.setdefault(key, []).append(json.loads(record.value() or b"")["n"])
        assert sorted(n for numbers in found.values() for n in numbers) == expected
        assert set(found) == {f"A{n}".encode() for n in range(7)}
        assert all(numbers == sorted(numbers) for numbers in found.values())


def test_a_record_tells_type_id_and_headers(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic()
    one = sink(
        kafka={"brokers": [kafka.bootstrap]},
        destinations={"orders": topic},
        headers={"tenant": "tenant", "trace": "trace"},
        id="{message_id}",
    )
    change = item("A", 1, tenant="t1", message_id="m-1", payload='{"exactly": 1.50}')
    assert write(one, [change]) == [[APPLIED]]
    (record,) = records(kafka.bootstrap, topic)
    assert record.value() == b'{"exactly": 1.50}'
    assert {name: header(record, name) for name in ("event_id", "type", "tenant", "trace")} == {
        "event_id": "m-1",
        "type": "Event1",
        "tenant": "t1",
        "trace": None,
    }


def test_a_message_for_an_unknown_place_is_rejected_alone(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic()
    one = sink(kafka={"brokers": [kafka.bootstrap]}, destinations={"orders": topic})
    (outcomes,) = write(one, [item("A", 1), item("A", 2, destination="__consumer_offsets"), item("A", 3)])
    assert [type(outcome) for outcome in outcomes] == [Applied, Rejected, Applied]
    assert len(records(kafka.bootstrap, topic)) == 2


def test_queues_get_each_aggregate_as_a_group(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_access_key)
    orders, stock = make_queue(moto_server, FifoQueue="true"), make_queue(moto_server)
    place = {"endpoint": moto_server.endpoint, "region": moto_server.region}
    one = sink(sqs=place, destinations={"orders": orders, "stock": stock}, headers={"tenant": "tenant"})
    batch = [item(f"A{n % 3}", n, tenant="t1") for n in range(24)] + [item("A0", 24, "stock")]
    assert write(one, batch, batch[:24]) == [[APPLIED] * 25, [APPLIED] * 24]
    groups: dict[str, list[int]] = {}
    for message in messages(moto_server, orders):
        groups.setdefault(message["Attributes"]["MessageGroupId"], []).append(json.loads(message["Body"])["n"])
        assert attribute(message, "tenant") == "t1"
    assert sorted(groups.values()) == [list(range(start, 24, 3)) for start in range(3)]
    assert [json.loads(message["Body"]) for message in messages(moto_server, stock)] == [{"n": 24}]
