"""Checkpoints in a Kafka consumer group's own offsets, with the version clock in each commit's metadata."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from connector.brokers import Properties, quiet_logger, shared_properties
from connector.change import ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.errors import CheckpointError, CheckpointLost, ConfigError

REQUEST_S = 10.0
FORGOTTEN = "millrace:forgotten"
"""The metadata of a reset offset: a group's offset can be overwritten, but not taken away."""

_METADATA = re.compile(r"millrace:1:(\d{1,19})(?::(\d{1,9}))?")


class Metadata(msgspec.Struct, frozen=True):
    """What a commit says beside its offset."""

    clock: int = 0
    partitions_at_start: int | None = None
    """How many partitions the topic had when the group began to read it at ``latest``."""


def read_metadata(text: str | None) -> Metadata:
    """The metadata of a commit. What another program wrote there is no error: it says nothing about a clock."""
    match = _METADATA.fullmatch(text or "")
    if match is None:
        return Metadata()
    return Metadata(int(match[1]), None if match[2] is None else int(match[2]))


def write_metadata(metadata: Metadata) -> str:
    """``millrace:1:<clock>`` or ``millrace:1:<clock>:<partitions at start>``."""
    known = "" if metadata.partitions_at_start is None else f":{metadata.partitions_at_start}"
    return f"millrace:1:{metadata.clock}{known}"


class Membership(Protocol):
    """The group's member that commits: a Kafka source."""

    def owns(self, shard: ShardId) -> bool:
        """Whether the shard is this member's at this moment."""

    def commit(self, offsets: Callable[[], list[TopicPartition]]) -> asyncio.Future[list[TopicPartition]]:
        """Commit what ``offsets`` gives, in the consumer's thread, also while it waits in a callback."""


class KafkaCheckpoints:
    """The offsets of one group. Reading and resetting need no membership; saving goes through the member."""

    def __init__(
        self,
        properties: Properties,
        group: str,
        topics: Sequence[str],
        membership: Membership,
        partitions_at_start: dict[str, int],
    ) -> None:
        self._properties = shared_properties(properties)
        self._group = group
        self._topics = frozenset(topics)
        self._membership = membership
        self._partitions_at_start = partitions_at_start
        """By topic, where the group began at ``latest``: a partition of a higher number was added later."""

    async def open(self) -> None:
        """Nothing to create: the group's offsets are there when somebody commits."""

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """The committed offsets of these shards."""
        saved = await self.all()
        return {shard: saved[shard] for shard in shards if shard in saved}

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        """Every committed offset of the group in the source's topics. Raises CheckpointError."""
        request = [ConsumerGroupTopicPartitions(self._group)]
        try:
            listed = await self._ask(
                lambda client: client.list_consumer_group_offsets(request, request_timeout=REQUEST_S)
            )
        except KafkaException as error:
            raise CheckpointError(f"the offsets of group {self._group!r} cannot be read: {error}") from error
        saved: dict[ShardId, Checkpoint] = {}
        for entry in listed.topic_partitions or []:
            if entry.error is not None:
                raise CheckpointError(f"the offset of {entry.topic}/{entry.partition} cannot be read: {entry.error}")
            if entry.offset < 0 or entry.topic not in self._topics or entry.metadata == FORGOTTEN:
                continue
            metadata = read_metadata(entry.metadata)
            if metadata.partitions_at_start is not None:
                self._partitions_at_start[entry.topic] = metadata.partitions_at_start
            saved[f"{entry.topic}/{entry.partition}"] = Checkpoint(entry.offset, metadata.clock)
        return saved

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Commit. Raises CheckpointLost for shards that are not ours any more, CheckpointError for what may pass.

        Shards that are still ours are committed also where others of the same call are lost.
        """
        if not checkpoints:
            return
        lost: list[ShardId] = []

        def offsets() -> list[TopicPartition]:
            # Looked up in the consumer's thread: between here and there a shard may be lost.
            lost.extend(shard for shard in checkpoints if not self._membership.owns(shard))
            return [self._entry(shard, each) for shard, each in checkpoints.items() if shard not in lost]

        try:
            committed = await self._membership.commit(offsets)
        except KafkaException as error:
            raise _failure(error.args[0], [shard for shard in checkpoints if shard not in lost]) from error
        for entry in committed:
            if entry.error is not None:
                raise _failure(entry.error, [f"{entry.topic}/{entry.partition}"])
        if lost:
            raise CheckpointLost(f"{', '.join(lost)} belong to another member of the group now", shards=lost)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """Forget these offsets. Raises ConfigError while the group has members: they would commit over it."""
        if not shards:
            return
        entries = []
        for shard in shards:
            topic, _, partition = shard.rpartition("/")
            entries.append(TopicPartition(topic, int(partition), 0, FORGOTTEN))
        request = [ConsumerGroupTopicPartitions(self._group, entries)]
        try:
            altered = await self._ask(
                lambda client: client.alter_consumer_group_offsets(request, request_timeout=REQUEST_S)
            )
        except KafkaException as error:
            raise self._not_reset(error.args[0]) from error
        for entry in altered.topic_partitions or []:
            if entry.error is not None:
                raise self._not_reset(entry.error)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _entry(self, shard: ShardId, checkpoint: Checkpoint) -> TopicPartition:
        topic, _, partition = shard.rpartition("/")
        metadata = write_metadata(Metadata(checkpoint.clock, self._partitions_at_start.get(topic)))
        return TopicPartition(topic, int(partition), checkpoint.position, metadata)

    async def _ask(self, request: Callable[[AdminClient], Mapping[str, Future[Any]]]) -> ConsumerGroupTopicPartitions:
        """Send one request, with a client of its own: requests are rare, and after a broker's restart those of an
        older client were seen to time out again and again."""

        def ask() -> ConsumerGroupTopicPartitions:
            client = AdminClient(self._properties, logger=quiet_logger(__name__))
            try:
                answer: ConsumerGroupTopicPartitions = request(client)[self._group].result()
            finally:
                client.poll(0)  # lets it say what was wrong with the connection
            return answer

        return await asyncio.to_thread(ask)

    def _not_reset(self, error: Any) -> ConfigError | CheckpointError:
        if error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS):
            return ConfigError(f"group {self._group!r} has running members: stop the pipeline before its reset")
        return CheckpointError(f"the offsets of group {self._group!r} cannot be reset: {error}")


def _failure(error: Any, shards: Sequence[ShardId]) -> CheckpointError:
    if error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID):
        return CheckpointLost(f"the group has taken its shards away from this member: {error}", shards=shards)
    # ILLEGAL_GENERATION too may pass: in a rebalance the member is about to hear of its new generation. Where its
    # shards are lost, it hears that next, and `owns` says so.
    return CheckpointError(f"offsets cannot be committed: {error}")
