"""Reads a topic of dead letters from its beginning to its present end, without being a member of any group."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connector.brokers import Properties, quiet_logger
from connector.deadletter.kafka.headers import line_of
from connector.deadletter.lines import Line
from connector.errors import DeadLetterError

log = structlog.get_logger(__name__)

REQUEST_S = 15.0
SILENCE_S = 30.0
"""How long a broker may give nothing before reading fails."""
MESSAGES_AT_ONCE = 500

Span = dict[int, tuple[int, int]]
"""By partition: the first offset, and the one behind the last."""


class TopicReader:
    """Its methods block: they are called in a thread."""

    def __init__(self, properties: Properties, topic: str) -> None:
        self._topic = topic
        self._properties = {
            **properties,
            "group.id": "millrace-dead-letters",  # the client wants a name, though nothing is ever committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 16 * 1024,
            "fetch.queue.backoff.ms": 10,
        }

    def span(self) -> Span:
        """What the topic holds at present. Raises DeadLetterError."""
        with self._consumer() as consumer:
            listed = consumer.list_topics(self._topic, timeout=REQUEST_S).topics[self._topic]
            if listed.error is not None:
                raise DeadLetterError(f"topic {self._topic!r} cannot be read: {listed.error.str()}")
            return {
                partition: consumer.get_watermark_offsets(
                    TopicPartition(self._topic, partition), timeout=REQUEST_S, cached=False
                )
                for partition in sorted(listed.partitions)
            }

    def lines(self, span: Span, *, warn: bool) -> Generator[list[Line], None, None]:
        """The letters and marks in the span, some at a time, one partition after the other. Raises DeadLetterError."""
        for partition, (low, high) in span.items():
            if low < high:
                yield from self._partition(partition, low, high, warn)

    def _partition(self, partition: int, low: int, high: int, warn: bool) -> Generator[list[Line], None, None]:
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(self._topic, partition, low)])
            position = low
            heard = time.monotonic()
            while position < high:
                lines = []
                for message in consumer.consume(MESSAGES_AT_ONCE, 0) or consumer.consume(1, 1.0):
                    error, offset = message.error(), message.offset()
                    if error is not None and error.code() != KafkaError._PARTITION_EOF:
                        log.warning("kafka client reports trouble, going on", topic=self._topic, reason=error.str())
                        continue
                    heard = time.monotonic()
                    assert offset is not None, "records and ends have offsets"
                    position = offset if error is not None else offset + 1
                    if error is None and offset < high:
                        try:
                            line = line_of(message)
                        except msgspec.DecodeError as damaged:
                            if warn:
                                log.warning("a record is no dead letter", offset=offset, reason=str(damaged))
                            continue
                        if line is not None:
                            lines.append(line)
                yield lines
                if time.monotonic() - heard > SILENCE_S:
                    raise DeadLetterError(f"topic {self._topic!r} gives nothing after offset {position}")

    @contextlib.contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        try:
            consumer = Consumer(self._properties, logger=quiet_logger(__name__))
            try:
                yield consumer
            finally:
                consumer.close()
        except KafkaException as error:
            raise DeadLetterError(f"topic {self._topic!r} cannot be read: {error.args[0].str()}") from error
