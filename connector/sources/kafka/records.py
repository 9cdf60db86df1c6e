"""Messages of the client → batches of records, by partition. The hot loop of the source."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from confluent_kafka import KafkaError, Message

from connector.change import Position, Record, RecordBatch, ShardId


class Cursor(msgspec.Struct):
    """An owned partition, and the offset from which on its records have not been handed out."""

    topic: str
    partition: int
    shard: ShardId
    next_position: Position


Cursors = dict[str, dict[int, Cursor]]
"""By topic, then by partition: what a message is looked up with, without making a key for each."""


def shard_of(topic: str, partition: int) -> ShardId:
    """``orders.changes/3``"""
    return f"{topic}/{partition}"


def partition_of(shard: ShardId) -> tuple[str, int]:
    """The topic and the partition of a shard's name."""
    topic, _, partition = shard.rpartition("/")
    return topic, int(partition)


def batches_of(messages: Sequence[Message], cursors: Cursors) -> tuple[list[RecordBatch], list[Message]]:
    """Batches of the owned partitions' messages, and the events and errors among them. Moves the cursors.

    A message before its partition's cursor was handed out already (a refetch after a seek or pause); one of a
    partition that is not ours any more is somebody else's.
    """
    batches: dict[ShardId, RecordBatch] = {}
    events: list[Message] = []
    topic, partition, cursor, expected = "", -1, None, 0
    several = len(cursors) > 1
    records: list[Record] = []
    for message in messages:
        if message.error() is not None:
            events.append(message)
            continue
        here = message.partition()
        if here != partition or (several and message.topic() != topic) or not topic:
            if cursor is not None:
                cursor.next_position = expected
            topic, partition = message.topic() or "", -1 if here is None else here
            cursor = cursors.get(topic, {}).get(partition)
            if cursor is not None:
                expected = cursor.next_position
                batch = batches.get(cursor.shard)
                if batch is None:
                    batch = batches[cursor.shard] = RecordBatch(cursor.shard, [], expected)
                records = batch.records
        if cursor is None:
            continue
        offset = message.offset()
        if offset is None or offset < expected:
            continue
        kind, timestamp_ms = message.timestamp()
        headers = message.headers()
        records.append(
            Record(
                offset,
                message.value(),
                message.key(),
                timestamp_ms if kind else 0,
                tuple(headers) if headers else (),  # type: ignore[arg-type]
            )
        )
        expected = offset + 1
    if cursor is not None:
        cursor.next_position = expected
    for event in events:
        _move_to_end(event, cursors, batches)
    moved = []
    for batch in batches.values():
        before, batch.next_position = batch.next_position, _next_position(batch.shard, cursors)
        if batch.next_position > before:
            moved.append(batch)
    return moved, events


def _next_position(shard: ShardId, cursors: Cursors) -> Position:
    topic, partition = partition_of(shard)
    return cursors[topic][partition].next_position


def _move_to_end(event: Message, cursors: Cursors, batches: dict[ShardId, RecordBatch]) -> None:
    """The end of a partition says where reading goes on: behind transaction markers and compacted records too."""
    error, topic, partition, offset = event.error(), event.topic(), event.partition(), event.offset()
    if error is None or error.code() != KafkaError._PARTITION_EOF or topic is None or partition is None:
        return
    cursor = cursors.get(topic, {}).get(partition)
    if cursor is not None and offset is not None and offset > cursor.next_position:
        if cursor.shard not in batches:
            batches[cursor.shard] = RecordBatch(cursor.shard, [], cursor.next_position)
        cursor.next_position = offset
