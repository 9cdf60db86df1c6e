"""The sink ``notify`` keeps every sink's promises, at each place that it tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from connector.change import Change
from connector.sink import Applied, Outcome, Sink
from sinks.notify import NotifySink
from sinks.notify.config import NotifySinkConfig
from sinks.testing import (
    EventContract,
    ImageContract,
    MakeSink,
    PoisonContract,
    ReadEvents,
    UnavailableContract,
    UniqueEventContract,
    context,
    insert,
    opened,
    succeeded,
    write,
)
from tests.integration.messaging import (
    Endpoint,
    attribute,
    aws,
    details,
    header,
    listening,
    make_queue,
    messages,
    queue_arn,
    records,
)
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.moto import MotoServer


def notify_sink(**options: Any) -> NotifySink:
    return NotifySink(NotifySinkConfig.model_validate(options), context())


class NotifyContract(EventContract, PoisonContract, UnavailableContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("poison", {"n": 10**37 + 1})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as one:
        yield one


class TestWebhook(NotifyContract):
    @pytest.fixture
    def make_sink(self, endpoint: Endpoint) -> MakeSink:
        webhook = {"url": endpoint.url, "allow_private": True, "secret": "s" * 24, "concurrency": 1}
        return lambda: notify_sink(webhook=webhook, numbers="reject")

    @pytest.fixture
    def read_events(self, endpoint: Endpoint) -> ReadEvents:
        async def read() -> list[str]:
            return endpoint.ids

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return notify_sink(webhook={"url": "http://127.0.0.1:9/", "allow_private": True})


class TestMessagesWithTemplates(ImageContract):
    @pytest.fixture
    def make_sink(self, endpoint: Endpoint) -> MakeSink:
        webhook = {"url": endpoint.url, "allow_private": True}
        return lambda: notify_sink(webhook=webhook, message={"id": "{pk}", "note": "{note}"}, missing="null")


class TestKafka(NotifyContract):
    @pytest.fixture
    def topic(self, kafka_topic: MakeTopic) -> str:
        return kafka_topic()

    @pytest.fixture
    def make_sink(self, kafka: KafkaServer, topic: str) -> MakeSink:
        return lambda: notify_sink(kafka={"brokers": [kafka.bootstrap], "topic": topic}, numbers="reject")

    @pytest.fixture
    def read_events(self, kafka: KafkaServer, topic: str) -> ReadEvents:
        async def read() -> list[str]:
            return [header(record, "event_id") or "" for record in records(kafka.bootstrap, topic)]

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return notify_sink(kafka={"brokers": ["127.0.0.1:9"], "topic": "t", "timeout": "1s"})


@pytest.fixture
def place(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The options that lead to moto; its keys are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_access_key)
    return {"endpoint": moto_server.endpoint, "region": moto_server.region}


NOWHERE = {"endpoint": "http://127.0.0.1:9", "region": "eu-central-1"}


class MotoContract(NotifyContract):
    """At a stand-in that takes its time."""

    def test_a_large_batch_is_taken_whole(self, make_sink: MakeSink) -> None:
        """Smaller than elsewhere: moto compares each message of a FIFO queue with all those before it."""
        batch = [insert(f"k{n}", {"text": "x" * 500}, version=n + 1) for n in range(200)]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert [type(outcome) for outcome in outcomes] == [Applied] * 200

    def test_lanes_write_at_once(self, make_sink: MakeSink) -> None:
        """Fewer messages than elsewhere."""

        async def lanes() -> list[Sequence[Outcome]]:
            async with opened(make_sink()) as sink:
                return await asyncio.gather(*(sink.write(batch) for batch in batches))

        batches = [[insert(f"lane{lane}-{n}", version=lane * 100 + n + 1) for n in range(10)] for lane in range(4)]
        outcomes = asyncio.run(lanes())
        assert all(succeeded(answer) and len(answer) == 10 for answer in outcomes)


class QueueContract(MotoContract):
    @pytest.fixture
    def make_sink(self, place: dict[str, str], queue: str) -> MakeSink:
        return lambda: notify_sink(sqs={**place, "queue": queue}, numbers="reject")

    @pytest.fixture
    def read_events(self, moto_server: MotoServer, queue: str) -> ReadEvents:
        async def read() -> list[str]:
            return [attribute(message, "event_id") or "" for message in messages(moto_server, queue)]

        return read

    @pytest.fixture
    def unreachable_sink(self, place: dict[str, str]) -> Sink:
        return notify_sink(sqs={**NOWHERE, "queue": "http://127.0.0.1:9/1/q"})


class TestStandardQueue(QueueContract):
    @pytest.fixture
    def queue(self, moto_server: MotoServer) -> str:
        return make_queue(moto_server)


class TestFifoQueue(QueueContract, UniqueEventContract):
    @pytest.fixture
    def queue(self, moto_server: MotoServer) -> str:
        return make_queue(moto_server, FifoQueue="true")


class TopicContract(MotoContract):
    fifo: str

    @pytest.fixture
    def queue(self, moto_server: MotoServer) -> str:
        return make_queue(moto_server, **({"FifoQueue": "true"} if self.fifo else {}))

    @pytest.fixture
    def topic(self, moto_server: MotoServer, queue: str) -> str:
        client = aws("sns", moto_server)
        attributes = {"FifoTopic": "true"} if self.fifo else {}
        topic = str(client.create_topic(Name=f"t-{uuid4().hex[:12]}{self.fifo}", Attributes=attributes)["TopicArn"])
        raw = {"RawMessageDelivery": "true"}
        client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn(moto_server, queue), Attributes=raw)
        return topic

    @pytest.fixture
    def make_sink(self, place: dict[str, str], topic: str) -> MakeSink:
        return lambda: notify_sink(sns={**place, "topic": topic}, numbers="reject")

    @pytest.fixture
    def read_events(self, moto_server: MotoServer, queue: str) -> ReadEvents:
        async def read() -> list[str]:
            return [attribute(message, "event_id") or "" for message in messages(moto_server, queue)]

        return read

    @pytest.fixture
    def unreachable_sink(self, place: dict[str, str]) -> Sink:
        return notify_sink(sns={**NOWHERE, "topic": "arn:aws:sns:eu-central-1:123456789012:t"})


class TestStandardTopic(TopicContract):
    fifo = ""


class TestFifoTopic(TopicContract, UniqueEventContract):
    fifo = ".fifo"


class TestEventBridge(MotoContract):
    @pytest.fixture
    def queue(self, moto_server: MotoServer) -> str:
        return make_queue(moto_server)

    @pytest.fixture
    def bus(self, moto_server: MotoServer, queue: str) -> str:
        client, name = aws("events", moto_server), f"bus-{uuid4().hex[:12]}"
        client.create_event_bus(Name=name)
        client.put_rule(Name="all", EventBusName=name, EventPattern=json.dumps({"source": ["millrace"]}))
        arn = queue_arn(moto_server, queue)
        client.put_targets(Rule="all", EventBusName=name, Targets=[{"Id": "q", "Arn": arn}])
        return name

    @pytest.fixture
    def make_sink(self, place: dict[str, str], bus: str) -> MakeSink:
        return lambda: notify_sink(eventbridge={**place, "bus": bus}, numbers="reject")

    @pytest.fixture
    def read_events(self, moto_server: MotoServer, queue: str) -> ReadEvents:
        async def read() -> list[str]:
            return [event["detail"]["event_id"] for event in details(moto_server, queue)]

        return read

    @pytest.fixture
    def unreachable_sink(self, place: dict[str, str]) -> Sink:
        return notify_sink(eventbridge=NOWHERE)
