"""The Kafka source itself: what the pipeline calls, carried over to the consumer's thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from pydantic import BaseModel

from connector.brokers import quiet_logger, shared_properties
from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.kafka import KafkaCheckpoints
from connector.checkpoints.protocol import CheckpointStore
from connector.errors import CheckpointError, ConfigError
from connector.sources.kafka.config import KafkaSourceConfig, consumer_properties
from connector.sources.kafka.member import GroupMember
from connector.sources.kafka.records import partition_of, shard_of
from connector.sources.kafka.thread import ConsumerThread
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.reading import KeptReading

log = structlog.get_logger(__name__)

REQUEST_S = 15.0
PARK_AFTER_S = 1.0
"""A pause shorter than this only leaves the client's queue alone; a longer one pauses the partitions, which throws
away what was fetched ahead."""


class KafkaSource:
    """Reads topics as a member of a consumer group. A shard is a partition, ``<topic>/<partition>``.

    Shards are rebalanced cooperatively: those that stay are read on while others move. Their checkpoints are the
    group's own offsets, unless the pipeline configures another store.
    """

    config_model: ClassVar[type[BaseModel]] = KafkaSourceConfig

    def __init__(self, config: KafkaSourceConfig, context: SourceContext) -> None:
        self._config = config
        self._clock = context.clock
        self._properties = consumer_properties(config)
        partitions_at_start: dict[str, int] = {}
        self._member = GroupMember(config, partitions_at_start, context.clock)
        self._checkpoints = KafkaCheckpoints(
            self._properties, config.group, config.topics, self._member, partitions_at_start
        )
        self._admin: AdminClient | None = None
        self._thread: ConsumerThread | None = None
        self._reading: KeptReading[list[RecordBatch]] = KeptReading()
        self._paused_at: float | None = None
        self._known_ends: dict[ShardId, Position] = {}
        self._found = ""

    @property
    def skipped_records(self) -> int:
        """Offsets that were skipped because their records were gone (``out_of_range: earliest | latest``)."""
        return self._member.skipped_records

    def own_checkpoints(self) -> CheckpointStore | None:
        """The group's offsets."""
        return self._checkpoints

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Connect and subscribe. Brokers that are down are waited for in ``read``; a missing topic is a ConfigError."""
        thread = self._thread = ConsumerThread(f"kafka {self._config.group}", asyncio.get_running_loop())
        consumer = await thread.call(self._connect)
        try:
            self._found = await thread.call(lambda: self._look_at_topics(consumer))
        except ConfigError:
            await self.close()
            raise
        await thread.call(lambda: self._member.join(thread, listener, checkpoints))

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """The next records, as soon as there are any. Never None: a topic has no end. Raises SourceError."""
        thread = self._opened()
        pause_s = None if self._paused_at is None else self._clock.monotonic() - self._paused_at
        if pause_s is not None and pause_s < min(PARK_AFTER_S, self._config.max_poll_interval / 4):
            await self._clock.sleep(wait_s)
            return []
        parked = pause_s is not None

        def read() -> list[RecordBatch]:
            if parked:
                self._member.park()
            else:
                self._member.unpark()
            return self._member.consume(records_max, wait_s)

        return await self._reading.get(lambda: thread.call(read))

    async def pause(self) -> None:
        """Give nothing more until ``resume``; the membership stays."""
        if self._paused_at is None:
            self._paused_at = self._clock.monotonic()

    async def resume(self) -> None:
        """Go on with the record that comes next."""
        self._paused_at = None

    async def ends(self) -> Mapping[ShardId, Position]:
        """The end of each owned partition: with ``read_committed``, the last stable offset.

        Where no broker answers these are the ends as they were last known.
        """
        owned = self._member.shards()
        known = await self._ask_ends(owned)
        self._known_ends |= known
        return {shard: self._known_ends[shard] for shard in owned if shard in self._known_ends}

    async def ends_elsewhere(self) -> Mapping[ShardId, Position]:
        """The end of each partition that is not ours at present: a batch job waits for those too, which the group may
        still keep for a member that was killed. Raises CheckpointError where they cannot be known now."""
        owned = set(self._member.shards())
        listed = await asyncio.to_thread(self._all_shards)
        others = [shard for shard in listed if shard not in owned]
        ends = await self._ask_ends(others)
        if len(ends) < len(others):
            raise CheckpointError("the ends of other members' partitions cannot be read")
        return ends

    async def _ask_ends(self, shards: Sequence[ShardId]) -> dict[ShardId, Position]:
        """The ends of these partitions, without those that no broker tells."""
        if not shards:
            return {}
        client = self._admin = self._admin or self._new_admin()
        committed_only = self._config.isolation == "read_committed"
        level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        places = {TopicPartition(*partition_of(shard)): OffsetSpec.latest() for shard in shards}  # type: ignore[no-untyped-call]
        answers = client.list_offsets(places, isolation_level=level, request_timeout=REQUEST_S)
        ends: dict[ShardId, Position] = {}
        for place, answer in answers.items():
            try:
                ends[shard_of(place.topic, place.partition)] = (await asyncio.wrap_future(answer)).offset
            except KafkaException as error:
                self._member.troubles.note(error.args[0])
        client.poll(0)  # lets it say what it has to
        if len(ends) < len(shards):
            await asyncio.to_thread(self._forget_admin)  # a new one connects anew
        return ends

    def _all_shards(self) -> list[ShardId]:
        client = self._new_admin()
        try:
            found = [client.list_topics(topic, timeout=REQUEST_S).topics[topic] for topic in self._config.topics]
        except KafkaException as error:
            raise CheckpointError(f"the topics' partitions cannot be listed: {error}") from error
        finally:
            client.poll(0)
        return [shard_of(str(each.topic), partition) for each in found for partition in each.partitions]

    async def close(self) -> None:
        """Leave the group."""
        if self._thread is None:
            return
        self._member.leave_soon()
        await self._reading.settle()
        await self._thread.call(self._member.leave)
        await self._thread.stop()
        self._thread = None
        await asyncio.to_thread(self._forget_admin)

    def describe(self) -> str:
        """One line for people: what was found at ``open``."""
        return self._found

    def _opened(self) -> ConsumerThread:
        assert self._thread is not None, "open() comes first"
        return self._thread

    def _new_admin(self) -> AdminClient:
        """A client that speaks through our log when it is polled, not past it to standard error."""
        return AdminClient(shared_properties(self._properties), logger=self._client_log())

    def _client_log(self) -> logging.Logger:
        return quiet_logger("connector.sources.kafka.client")

    def _forget_admin(self) -> None:
        self._admin = None

    def _connect(self) -> Consumer:
        logger = self._client_log()
        try:
            return self._member.connect({**self._properties, "error_cb": self._member.troubles.note, "logger": logger})
        except KafkaException as error:
            raise ConfigError(f"the kafka client refuses its options: {error.args[0].str()}") from error

    def _look_at_topics(self, consumer: Consumer) -> str:
        partitions = 0
        for topic in self._config.topics:
            try:
                found = consumer.list_topics(topic, timeout=REQUEST_S).topics[topic]
            except KafkaException as error:
                consumer.poll(0)  # lets the client say what was wrong with the connection
                if self._member.troubles.person_needed():
                    raise ConfigError(f"no broker lets us in: {self._member.troubles.last}") from error
                log.warning("no broker answers, waiting for one", reason=self._member.troubles.last or str(error))
                return f"no broker answered within {REQUEST_S:g} s: {self._member.troubles.last or error}"
            if found.error is not None:
                code = found.error.code()
                missing = code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
                what = "does not exist" if missing else f"cannot be read: {found.error.str()}"
                raise ConfigError(f"topic {topic!r} {what}", path=("topics",))
            partitions += len(found.partitions)
        return f"{len(self._config.topics)} topics with {partitions} partitions, group {self._config.group}"
