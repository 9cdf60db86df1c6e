"""Where the reading of a partition begins: always an offset that is there, and never a silent jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog
from confluent_kafka import Consumer, TopicPartition

from connector.change import Position, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.errors import SourceError
from connector.sources.kafka.config import KafkaSourceConfig, StartAt
from connector.sources.kafka.records import partition_of, shard_of

log = structlog.get_logger(__name__)

REQUEST_S = 15.0


class Start(msgspec.Struct, frozen=True):
    """Where one partition is read from."""

    position: Position
    skipped: int = 0
    """How many offsets between the checkpoint and here are gone unread (a bound: compacted ones never were there)."""


class Placed(msgspec.Struct, frozen=True):
    """A partition that is about to be read."""

    topic: str
    partition: int
    start: Start
    checkpoint: Checkpoint | None
    """What the pipeline is told: None where the partition is read from the configured start."""
    to_save: bool = False
    """A start at ``latest`` is saved at once: after a crash "latest" would be a later place."""

    @property
    def shard(self) -> ShardId:
        """``topic/partition``"""
        return shard_of(self.topic, self.partition)


def place(
    consumer: Consumer,
    config: KafkaSourceConfig,
    partitions: Sequence[tuple[str, int]],
    saved: Mapping[ShardId, Checkpoint],
    partitions_at_start: dict[str, int],
) -> list[Placed]:
    """Find out where each of these partitions is read from. ``saved`` are all checkpoints of the pipeline.

    A group that begins at ``latest`` notes in ``partitions_at_start`` how many partitions the topic has: its other
    members too begin those at ``latest``, and any later one at its first record. Raises as ``from_checkpoint``.
    """
    known = {partition_of(shard)[0] for shard in saved}
    placed = []
    for topic, partition in partitions:
        checkpoint = saved.get(shard_of(topic, partition))
        if checkpoint is not None:
            start = from_checkpoint(consumer, config, topic, partition, checkpoint.position)
            placed.append(Placed(topic, partition, start, Checkpoint(start.position, checkpoint.clock)))
            continue
        if config.start == "latest" and topic not in known and topic not in partitions_at_start:
            listed = consumer.list_topics(topic, timeout=REQUEST_S).topics[topic]
            partitions_at_start[topic] = len(listed.partitions)
        added_later = config.start == "latest" and partition >= partitions_at_start.get(topic, 0)
        start = from_start(consumer, config, topic, partition, added_later=added_later)
        fixed = config.start == "latest" and not added_later
        placed.append(Placed(topic, partition, start, Checkpoint(start.position) if fixed else None, to_save=fixed))
    return placed


def from_checkpoint(consumer: Consumer, config: KafkaSourceConfig, topic: str, partition: int, at: Position) -> Start:
    """The checkpoint's position, or what ``out_of_range`` says where its records are gone.

    Raises SourceError with the policy ``stop``, KafkaException where no broker answers.
    """
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_S, cached=False)
    if low <= at <= high:
        return Start(at)
    shard = shard_of(topic, partition)
    if at < low:
        what = (
            f"{shard}: reading goes on at offset {at}, but the topic begins at {low} now: up to {low - at} records "
            "were deleted by retention before they were read"
        )
    else:
        what = (
            f"{shard}: reading goes on at offset {at}, but the topic ends at {high}: the topic was made anew, or its "
            "end was lost with a broker"
        )
    if config.out_of_range == "stop":
        raise SourceError(f"{what}; `out_of_range: earliest` or `latest` goes on without them")
    position = low if config.out_of_range == "earliest" else high
    skipped = max(0, position - at)
    log.error("records are skipped", reason=what, out_of_range=config.out_of_range, position=position, skipped=skipped)
    return Start(position, skipped)


def from_start(
    consumer: Consumer, config: KafkaSourceConfig, topic: str, partition: int, *, added_later: bool
) -> Start:
    """Where a partition without a checkpoint begins.

    One that was ``added_later`` to a topic that the group reads already begins at its first record, also where the
    group began at ``latest``: what was written to it before the group heard of it is part of what must be read.
    """
    place = TopicPartition(topic, partition)
    low, high = consumer.get_watermark_offsets(place, timeout=REQUEST_S, cached=False)
    if isinstance(config.start, StartAt):
        place.offset = config.start.timestamp_ms
        (found,) = consumer.offsets_for_times([place], timeout=REQUEST_S)
        return Start(found.offset if found.offset >= 0 else high)
    return Start(high if config.start == "latest" and not added_later else low)
