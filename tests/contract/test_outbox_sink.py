"""The sink ``outbox`` keeps every sink's promises, with Kafka and with a FIFO queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from connector.change import Change
from connector.sink import APPLIED, Outcome, Sink, Stale
from sinks.outbox import OutboxSink
from sinks.outbox.config import OutboxSinkConfig
from sinks.testing import (
    MakeSink,
    PoisonContract,
    ReadEvents,
    UnavailableContract,
    context,
    insert,
    modify,
    remove,
    write,
)
from tests.integration.messaging import attribute, header, make_queue, messages, records
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.moto import MotoServer

LACKING = {"destination": {"S": "all"}, "type": {"S": "Happened"}, "payload": {"M": {"n": {"N": "1"}}}}


class FurnishedSink(OutboxSink):
    """The contract's own items are no messages: each gets what it lacks before it is written."""

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        return await super().write([furnished(change) for change in batch])


def furnished(change: Change) -> Change:
    if change.new_image is None:
        return change
    image = {**LACKING, **msgspec.json.decode(change.new_image)}
    return msgspec.structs.replace(change, new_image=msgspec.json.encode(image))


def outbox_sink(destination: str, **place: Any) -> OutboxSink:
    options = {**place, "destinations": {"all": destination}, "key": "{pk}"}
    return FurnishedSink(OutboxSinkConfig.model_validate(options), context())


class OutboxContract(PoisonContract, UnavailableContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("poison", {"destination": "elsewhere"})

    @pytest.fixture
    def read_events(self) -> ReadEvents:
        raise NotImplementedError("override the fixture read_events")

    def test_each_insert_is_published_in_order_and_nothing_else(
        self, make_sink: MakeSink, read_events: ReadEvents
    ) -> None:
        batch = [insert("a", version=1), insert("b", version=2), modify("a", version=3), remove("b", version=4)]
        batch += [insert("a", event_id="again", version=5)]

        async def run() -> Sequence[str]:
            (outcomes,) = await write(make_sink, batch)
            assert outcomes == [APPLIED, APPLIED, Stale("not_an_insert"), Stale("not_an_insert"), APPLIED]
            return await read_events()

        assert list(asyncio.run(run())) == [batch[0].event_id, batch[1].event_id, "again"]


class TestOutboxToKafka(OutboxContract):
    @pytest.fixture
    def topic(self, kafka_topic: MakeTopic) -> str:
        return kafka_topic()

    @pytest.fixture
    def make_sink(self, kafka: KafkaServer, topic: str) -> MakeSink:
        return lambda: outbox_sink(topic, kafka={"brokers": [kafka.bootstrap]})

    @pytest.fixture
    def read_events(self, kafka: KafkaServer, topic: str) -> ReadEvents:
        async def read() -> list[str]:
            return [header(record, "event_id") or "" for record in records(kafka.bootstrap, topic)]

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return outbox_sink("t", kafka={"brokers": ["127.0.0.1:9"], "timeout": "1s"})


class TestOutboxToFifoQueue(OutboxContract):
    @pytest.fixture
    def queue(self, moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_server.secret_access_key)
        return make_queue(moto_server, FifoQueue="true")

    @pytest.fixture
    def make_sink(self, moto_server: MotoServer, queue: str) -> MakeSink:
        place = {"endpoint": moto_server.endpoint, "region": moto_server.region}
        return lambda: outbox_sink(queue, sqs=place)

    @pytest.fixture
    def read_events(self, moto_server: MotoServer, queue: str) -> ReadEvents:
        async def read() -> list[str]:
            return [attribute(message, "event_id") or "" for message in messages(moto_server, queue)]

        return read

    @pytest.fixture
    def unreachable_sink(self, queue: str) -> Sink:
        return outbox_sink(queue, sqs={"endpoint": "http://127.0.0.1:9", "region": "eu-central-1"})

    def test_a_large_batch_is_taken_whole(self, make_sink: MakeSink) -> None:
        """Smaller than elsewhere: moto compares each message of a FIFO queue with all those before it."""
        (outcomes,) = asyncio.run(write(make_sink, [insert(f"k{n}", version=n + 1) for n in range(200)]))
        assert outcomes == [APPLIED] * 200
