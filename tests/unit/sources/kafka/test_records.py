"""Messages into batches, with messages of the real client."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from connector.sources.kafka.records import Cursor, Cursors, batches_of, partition_of, shard_of


def message(partition: int, offset: int, *, topic: str = "t", error: int | None = None, **more: Any) -> Message:
    made = Message(
        topic=topic,
        partition=partition,
        offset=offset,
        value=b"%d" % offset,
        error=None if error is None else KafkaError(error),
        timestamp=more.pop("timestamp", (1, 5)),
        **more,
    )
    assert (made.partition(), made.offset()) == (partition, offset)
    return made


def end(partition: int, offset: int) -> Message:
    return message(partition, offset, error=KafkaError._PARTITION_EOF)


def cursors(**positions: int) -> Cursors:
    """``t_0=5``: topic t, partition 0, next offset 5."""
    made: Cursors = {}
    for name, position in positions.items():
        topic, _, partition = name.rpartition("_")
        shard = shard_of(topic, int(partition))
        made.setdefault(topic, {})[int(partition)] = Cursor(topic, int(partition), shard, position)
    return made


def offsets(messages: list[Message], owned: Cursors) -> dict[str, tuple[list[int], int]]:
    batches, _ = batches_of(messages, owned)
    return {batch.shard: ([record.position for record in batch.records], batch.next_position) for batch in batches}


def test_interleaved_partitions_and_topics_become_one_batch_each_in_order() -> None:
    messages = [message(0, 0), message(1, 7), message(0, 1), message(0, 9, topic="u"), message(1, 8), message(0, 5)]
    owned = cursors(t_0=0, t_1=7, u_0=0)
    assert offsets(messages, owned) == {"t/0": ([0, 1, 5], 6), "t/1": ([7, 8], 9), "u/0": ([9], 10)}
    assert owned["t"][0].next_position == 6


def test_what_was_handed_out_already_and_what_is_not_ours_is_left_out() -> None:
    messages = [message(0, 3), message(0, 4), message(2, 1), message(0, 4), message(0, 5), message(0, 1, topic="u")]
    assert offsets(messages, cursors(t_0=4)) == {"t/0": ([4, 5], 6)}
    assert offsets([message(0, 3)], cursors(t_0=4)) == {}
    assert offsets([message(0, 3)], {}) == {}


def test_an_end_moves_the_position_over_holes_but_never_back() -> None:
    owned = cursors(t_0=0, t_1=0, t_2=9)
    messages = [message(0, 0), end(0, 3), message(0, 3), end(1, 44), end(2, 5), end(7, 5)]
    assert offsets(messages, owned) == {"t/0": ([0, 3], 4), "t/1": ([], 44)}
    assert owned["t"][2].next_position == 9
    assert offsets([end(1, 44)], owned) == {}


def test_other_errors_are_handed_back() -> None:
    trouble = message(0, 0, error=KafkaError._TRANSPORT)
    batches, events = batches_of([message(0, 0), trouble], cursors(t_0=0))
    assert len(batches) == 1
    assert events == [trouble]


@pytest.mark.parametrize(("timestamp", "read"), [((1, 5), 5), ((2, 6), 6), ((0, -1), 0)])
def test_a_missing_timestamp_is_zero(timestamp: tuple[int, int], read: int) -> None:
    batches, _ = batches_of([message(0, 0, timestamp=timestamp)], cursors(t_0=0))
    assert batches[0].records[0].timestamp_ms == read


def test_a_shard_s_name_names_topic_and_partition() -> None:
    assert partition_of(shard_of("orders.changes", 12)) == ("orders.changes", 12)
