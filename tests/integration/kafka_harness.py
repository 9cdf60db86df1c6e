"""A Kafka source with everything around it, on a real broker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer

from connector.change import ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.errors import CheckpointError
from connector.sources.kafka import KafkaSource, KafkaSourceConfig
from tests.servers.kafka import KafkaServer
from tests.unit.sources.harness import CONTEXT, Listener, Reading


def new_group() -> str:
    return f"group-{uuid4().hex[:12]}"


def produce(
    kafka: KafkaServer, topic: str, values: Iterable[int], *, partitions: int = 1, timestamp_ms: int | None = None
) -> None:
    """Number n goes to partition n modulo ``partitions``, with the key of its partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20})
    for value in values:
        while True:
            try:
                producer.produce(
                    topic,
                    b"%d" % value,
                    key=b"k%d" % (value % partitions),
                    partition=value % partitions,
                    timestamp=0 if timestamp_ms is None else timestamp_ms,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0


class Member:
    """One process of a group, with a pipeline that finishes everything that it reads, when it is told to."""

    def __init__(self, kafka: KafkaServer, topic: str, group: str, **options: Any) -> None:
        options = {"start": "earliest", "session_timeout": 6.0, "max_poll_interval": 60.0} | options
        raw = {"brokers": [kafka.bootstrap], "topics": [topic], "group": group, **options}
        self.source = KafkaSource(KafkaSourceConfig.model_validate(raw), CONTEXT)
        store = self.source.own_checkpoints()
        assert store is not None
        self.checkpoints: CheckpointStore = store
        self.listener = DrainingListener(self)
        self.reading = Reading(self.source)
        self.clocks = itertools.count(1)

    async def __aenter__(self) -> Member:
        await self.source.open(self.listener, self.checkpoints)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.close()

    async def until_it_owns(self, shards: int) -> None:
        """Read until it has so many shards."""
        async with asyncio.timeout(60):
            while len(self.listener.owned) != shards:
                await self.reading.once()

    async def until_caught_up(self) -> None:
        """Read until the present ends of the owned shards are reached."""
        ends = await self.source.ends()
        async with asyncio.timeout(60):
            while any(self.reading.next_positions.get(shard, 0) < end for shard, end in ends.items() if end):
                await self.reading.once()

    async def save(self, shards: Collection[ShardId] | None = None) -> None:
        """Everything that was read is finished: save it."""
        wanted = self.reading.next_positions if shards is None else shards
        positions = {shard: self.reading.next_positions[shard] for shard in wanted if shard in self.listener.owned}
        await self.checkpoints.save({shard: Checkpoint(at, next(self.clocks)) for shard, at in positions.items()})

    @property
    def numbers(self) -> list[int]:
        return [int(value or b"") for value in self.reading.values]


class DrainingListener(Listener):
    """Saves revoked shards before it lets them go, as a pipeline does."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self._member = member
        self.drain_s = 0.0
        self.save_errors: list[CheckpointError] = []

    async def assigned(self, shards: Mapping[ShardId, Checkpoint | None]) -> None:
        for shard, checkpoint in shards.items():
            self._member.reading.next_positions[shard] = 0 if checkpoint is None else checkpoint.position
        await super().assigned(shards)

    async def revoked(self, shards: Collection[ShardId]) -> None:
        await asyncio.sleep(self.drain_s)
        try:
            await self._member.save([shard for shard in shards if shard in self._member.reading.next_positions])
        except CheckpointError as error:
            self.save_errors.append(error)
        await super().revoked(shards)
