"""A member of a consumer group: gets shards, gives them up, fetches. All in one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from connector.change import RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.clock import Clock
from connector.errors import CheckpointError, CheckpointLost, SourceError
from connector.sources.kafka.config import KafkaSourceConfig
from connector.sources.kafka.records import Cursor, Cursors, batches_of, partition_of, shard_of
from connector.sources.kafka.starts import Placed, from_checkpoint, place
from connector.sources.kafka.thread import ConsumerThread
from connector.sources.kafka.troubles import OUT_OF_RANGE, Troubles
from connector.sources.protocol import ShardListener

T = TypeVar("T")

log = structlog.get_logger(__name__)

SLICE_S = 0.1
"""How long ``consume`` may block: commits wait for it."""
TRY_AGAIN_S = 1.0


class GroupMember:
    """Holds the consumer. What it does runs in the consumer's thread, but for ``shards``, ``owns``, ``commit`` and
    ``leave_soon``."""

    def __init__(self, config: KafkaSourceConfig, partitions_at_start: dict[str, int], clock: Clock) -> None:
        self.cursors: Cursors = {}
        self.skipped_records = 0
        """Offsets that were skipped because their records were gone (``out_of_range``)."""
        self.troubles = Troubles(clock)
        self._config = config
        self._partitions_at_start = partitions_at_start
        self._failure: Exception | None = None
        self._made: Consumer | None = None
        self._changed: set[tuple[str, int]] = set()
        """Partitions that came or went during the fetch under way."""
        self._to_tell: list[Cursor] = []
        """Those that begin where the pipeline does not know of: nothing before is to be waited for."""
        self._to_place: list[Cursor] = []
        self._parked = False
        self._leaving = False

    def connect(self, properties: dict[str, Any]) -> Consumer:
        """Make the consumer. Raises KafkaException for properties that it does not take."""
        self._made = Consumer(properties)
        return self._made

    def join(self, thread: ConsumerThread, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Become a member; shards come while ``consume`` is called."""
        self._thread = thread
        self._listener = listener
        self._checkpoints = checkpoints
        self._consumer.subscribe(
            list(self._config.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def owns(self, shard: ShardId) -> bool:
        """Whether the shard is ours at this moment."""
        topic, partition = partition_of(shard)
        return partition in self.cursors.get(topic, {})

    def shards(self) -> list[ShardId]:
        """The shards that are ours at this moment."""
        return [cursor.shard for cursor in self._cursors()]

    def commit(self, offsets: Callable[[], list[TopicPartition]]) -> asyncio.Future[list[TopicPartition]]:
        """Commit what ``offsets`` gives in the thread, also while it waits in a callback for the pipeline."""

        def commit() -> list[TopicPartition]:
            wanted = offsets()
            return self._consumer.commit(offsets=wanted, asynchronous=False) if wanted else []

        return self._thread.call(commit, nested=True)

    def consume(self, records_max: int, wait_s: float) -> list[RecordBatch]:
        """The next records of the owned shards. Raises SourceError."""
        self._changed.clear()
        messages = self._fetch(records_max, wait_s)
        if self._failure is not None:
            raise self._failure
        if self._changed:
            messages = self._without_changed(messages)
        beginnings = self._beginnings()
        batches, events = batches_of(messages, self.cursors)
        for event in events:
            self._handle(event)
        begun_anew = self._place_again()
        self.troubles.look_for_missing(self._consumer, self._config.topics, heard=bool(messages))
        return beginnings + [batch for batch in batches if batch.shard not in begun_anew]

    def park(self) -> None:
        """Fetch nothing more for now, but stay a member."""
        if not self._parked:
            self._parked = True
            self._consumer.pause(self._places())

    def unpark(self) -> None:
        """Go on fetching, each shard at exactly the record that comes next.

        The client throws away what it had fetched ahead; from where it goes on is said to it instead of
        left to it (a batch that was taken while a partition was paused or sought has lost messages before).
        """
        if self._parked:
            self._parked = False
            self._consumer.resume(self._places())
            for cursor in self._cursors():
                self._fetch_from(cursor)

    def leave_soon(self) -> None:
        """End a wait for records: ``leave`` comes next."""
        self._leaving = True

    def leave(self) -> None:
        """Leave the group. The pipeline has let go of the shards before."""
        self._leaving = True
        if self._made is not None:
            self._made.close()
        self.cursors.clear()

    @property
    def _consumer(self) -> Consumer:
        assert self._made is not None, "connect() comes first"
        return self._made

    def _beginnings(self) -> list[RecordBatch]:
        """Batches without records that say where reading begins: an end at that place is reached by it."""
        told = [RecordBatch(each.shard, [], each.next_position) for each in self._to_tell if self.owns(each.shard)]
        self._to_tell.clear()
        return told

    def _fetch(self, records_max: int, wait_s: float) -> list[Message]:
        """What is there; else wait for the first one, and take what came with it. Never waits for a full batch."""
        until = time.monotonic() + wait_s
        try:
            while True:
                messages = self._consumer.consume(records_max, 0)
                left_s = until - time.monotonic()
                if messages or left_s <= 0 or self._leaving or self._failure is not None:
                    return messages
                if (messages := self._consumer.consume(1, min(left_s, SLICE_S))) and records_max > 1:
                    messages += self._consumer.consume(records_max - 1, 0)
                self._thread.serve_waiting()
                if messages:
                    return messages
        except KafkaException as error:
            self.troubles.weigh(error.args[0], None)
            return []

    def _without_changed(self, messages: list[Message]) -> list[Message]:
        """Leave out what belongs to partitions that came or went during the fetch: it may be of an earlier ownership.

        What is ours now is fetched again from where it begins.
        """
        kept, again = [], set()
        for message in messages:
            place = (message.topic() or "", -1 if (number := message.partition()) is None else number)
            if place in self._changed:
                again.add(place)
            else:
                kept.append(message)
        for topic, partition in again:
            if (cursor := self.cursors.get(topic, {}).get(partition)) is not None:
                self._fetch_from(cursor)
        return kept

    def _handle(self, event: Message) -> None:
        error = event.error()
        if error is None or error.code() == error._PARTITION_EOF:
            return
        topic, partition = event.topic(), event.partition()
        if error.code() in OUT_OF_RANGE:
            cursor = self.cursors.get(topic or "", {}).get(-1 if partition is None else partition)
            if cursor is not None and cursor not in self._to_place:
                self._to_place.append(cursor)
            return
        self.troubles.weigh(error, topic)

    def _place_again(self) -> set[ShardId]:
        """Find a place for the shards whose next record is gone, while a broker answers. Says which began anew."""
        begun_anew = set()
        while self._to_place:
            cursor = self._to_place[0]
            try:
                if self.owns(cursor.shard) and self._go_on_in_range(cursor):
                    begun_anew.add(cursor.shard)
            except KafkaException as error:
                self.troubles.weigh(error.args[0], cursor.topic)
                break
            self._to_place.pop(0)
        return begun_anew

    def _go_on_in_range(self, cursor: Cursor) -> bool:
        """Move the cursor to where its log is; says whether the shard begins anew with that."""
        start = from_checkpoint(self._consumer, self._config, cursor.topic, cursor.partition, cursor.next_position)
        self.skipped_records += start.skipped
        back = start.position < cursor.next_position
        if back:
            # The log was cut: what is in flight will be read under the same positions again, so it is another shard's
            # past. The pipeline begins anew with it.
            saved = self._thread.wait_for(self._checkpoints.all()).get(cursor.shard)
            self._thread.wait_for(self._listener.lost([cursor.shard]))
            checkpoint = Checkpoint(start.position, saved.clock if saved else 0)
            self._thread.wait_for(self._listener.assigned({cursor.shard: checkpoint}))
        elif start.position > cursor.next_position:
            self._to_tell.append(cursor)
        cursor.next_position = start.position
        self._fetch_from(cursor)
        return back

    def _fetch_from(self, cursor: Cursor) -> None:
        """Make the client fetch from the cursor, whatever it was about to do."""
        place = TopicPartition(cursor.topic, cursor.partition, cursor.next_position)
        try:
            self._consumer.seek(place)
        except KafkaException:
            # Not fetching at present (after an error): given up and taken again, it is.
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])
            if self._parked:
                self._consumer.pause([place])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._leaving or self._failure is not None or not partitions:
            return
        try:
            places = [(each.topic, each.partition) for each in partitions]
            placed = self._patiently(lambda: self._place(places))
            for each in placed:
                cursor = Cursor(each.topic, each.partition, each.shard, each.start.position)
                self.cursors.setdefault(each.topic, {})[each.partition] = cursor
                if each.checkpoint is None and each.start.position > 0:
                    self._to_tell.append(cursor)
                self.skipped_records += each.start.skipped
            self._changed.update(places)
            self._save_starts(placed)
            self._thread.wait_for(self._listener.assigned({each.shard: each.checkpoint for each in placed}))
            consumer.incremental_assign(
                [TopicPartition(each.topic, each.partition, each.start.position) for each in placed]
            )
            if self._parked:
                consumer.pause(partitions)
        except Exception as error:  # nothing may leave a callback: `consume` raises it
            self._failure = error

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer, partitions, self._listener.revoked, ours_until_then=True)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer, partitions, self._listener.lost, ours_until_then=False)

    def _give_up(
        self,
        consumer: Consumer,
        partitions: list[TopicPartition],
        tell: Callable[[Sequence[ShardId]], Coroutine[Any, Any, None]],
        *,
        ours_until_then: bool,
    ) -> None:
        """Tell the pipeline, which may commit revoked shards until it returns, and lost ones no more."""
        places = [(each.topic, each.partition) for each in partitions]
        shards = [shard for shard in (shard_of(*each) for each in places) if self.owns(shard)]
        self._changed.update(places)
        if not ours_until_then:
            self._drop(places)
        try:
            if shards and not self._leaving:
                self._thread.wait_for(tell(shards))
        except Exception as error:  # nothing may leave a callback: `consume` raises it
            self._failure = error
        finally:
            self._drop(places)
            consumer.incremental_unassign(partitions)

    def _place(self, partitions: Sequence[tuple[str, int]]) -> list[Placed]:
        saved = self._thread.wait_for(self._checkpoints.all())
        return place(self._consumer, self._config, partitions, saved, self._partitions_at_start)

    def _save_starts(self, placed: Sequence[Placed]) -> None:
        fixed = {each.shard: each.checkpoint for each in placed if each.to_save and each.checkpoint is not None}
        try:
            if fixed:
                self._patiently(lambda: self._thread.wait_for(self._checkpoints.save(fixed)))
        except CheckpointLost as lost:
            log.info("shards were lost while they were being taken", reason=str(lost))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try until the brokers and the checkpoint store answer; meanwhile the pipeline may commit."""
        while True:
            try:
                return attempt()
            except KafkaException as error:
                self.troubles.weigh(error.args[0], None)
            except CheckpointLost:
                raise
            except CheckpointError as error:
                log.warning("checkpoints cannot be read or saved, trying again", reason=str(error))
            if self._leaving:
                raise SourceError("the source was closed while it was waiting for its brokers")
            self._thread.serve_for(TRY_AGAIN_S)

    def _drop(self, places: Sequence[tuple[str, int]]) -> None:
        for topic, partition in places:
            self.cursors.get(topic, {}).pop(partition, None)

    def _cursors(self) -> list[Cursor]:
        return [cursor for partitions in list(self.cursors.values()) for cursor in list(partitions.values())]

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(cursor.topic, cursor.partition) for cursor in self._cursors()]
