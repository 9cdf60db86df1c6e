"""Dead letters in a Kafka topic, with headers named as Kafka Connect names them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, ClassVar
from zlib import crc32

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import BaseModel, Field

from connector.brokers import Cluster, Properties, cluster_properties, quiet_logger, shared_properties, with_options
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.kafka.headers import Headers, headers_of_letter, headers_of_mark
from connector.deadletter.kafka.reading import Span, TopicReader
from connector.deadletter.kafka.topic import Topic, prepare_topic
from connector.deadletter.lines import Line, MarkLine, Register
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import DeadLetterError
from connector.onethread import OneThread

log = structlog.get_logger(__name__)

DELIVERY_S = 30.0
"""How long the client tries to deliver before an append fails (and is tried again by whoever appends)."""
DEFAULTS: Properties = {"compression.type": "gzip", "linger.ms": 5}
PRODUCER_REFUSED = frozenset(
    {
        "request.required.acks",
        "max.in.flight",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "transactional.id",
        "delivery.timeout.ms",
        "message.timeout.ms",
    }
)


class KafkaDeadLettersConfig(Cluster):
    """A topic that keeps dead letters."""

    topic: Topic = Field(description="the topic; pipelines may share it")
    create: bool = Field(
        default=True,
        description="make the topic where it is missing: one partition, kept for ever, records of up to 20 MiB",
    )


class KafkaDeadLetters:
    """Each letter is a record with the original's value, key and headers, and the reason in further headers.

    All letters of a pipeline go to one partition, so that they can be read in the order in which they were written.
    A letter that is bigger than what the topic takes cannot be kept: ``append`` fails, names the size, and the
    pipeline waits, until the topic's ``max.message.bytes`` is raised.
    """

    config_model: ClassVar[type[BaseModel]] = KafkaDeadLettersConfig
    from_source: ClassVar[frozenset[str]] = frozenset({"brokers", "tls", "sasl"})

    def __init__(self, config: KafkaDeadLettersConfig, pipeline: str) -> None:
        self._config = config
        self._pipeline = pipeline
        cluster = cluster_properties(config)
        ours = {
            **cluster,
            "acks": "all",
            # One request at a time keeps the order. What a retry writes twice is read once (by its id), so the
            # idempotent producer, which needs rights of its own, would add nothing.
            "max.in.flight.requests.per.connection": 1,
            "delivery.timeout.ms": round(DELIVERY_S * 1000),
            # The topic decides how much is too much.
            "message.max.bytes": 200_000_000,
        }
        self._properties = {**DEFAULTS, **with_options(ours, config.options, PRODUCER_REFUSED)}
        self._cluster = {**cluster, **shared_properties(self._properties)}
        self._reader = TopicReader(self._cluster, config.topic)
        self._producer: Producer | None = None
        self._partition = 0
        self._thread = OneThread("dead-letter-kafka")

    async def open(self) -> None:
        """Look at the topic; make it where it is missing. Raises ConfigError, and DeadLetterError without a broker."""
        partitions = await self._thread.run(
            lambda: prepare_topic(self._cluster, self._config.topic, create=self._config.create)
        )
        self._partition = crc32(self._pipeline.encode()) % partitions

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters; all replicas in sync have them when it returns. Raises DeadLetterError."""
        records = [(letter.record.value, letter.record.key, headers_of_letter(letter)) for letter in letters]
        await self._thread.run(lambda: self._write(records))

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Write a mark. Raises DeadLetterError."""
        headers = headers_of_mark(MarkLine(self._pipeline, tuple(ids), state, outcome))
        await self._thread.run(lambda: self._write([(None, None, headers)]))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline up to the topic's present end. Raises DeadLetterError."""
        span = await self._thread.run(self._reader.span)
        register = Register(self._pipeline)
        async for chunk in self._chunks(span, warn=True):
            for line in chunk:
                register.note(line)
        async for chunk in self._chunks(span, warn=False):
            for stored in register.letters(chunk, include_done=include_done):
                yield stored

    async def _chunks(self, span: Span, *, warn: bool) -> AsyncIterator[list[Line]]:
        reading = self._reader.lines(span, warn=warn)
        try:
            while (chunk := await self._thread.run(lambda: next(reading, None))) is not None:
                yield chunk
        finally:
            await self._thread.run(reading.close)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._thread.run(self._forget_producer)  # nothing waits in it: every append has been answered
        self._thread.stop()

    def _write(self, records: Sequence[tuple[bytes | None, bytes | None, Headers]]) -> None:
        """Produce and wait until every record is acknowledged."""
        failures: list[str] = []
        producer = self._running_producer()
        until = time.monotonic() + DELIVERY_S
        try:
            for value, key, headers in records:
                size = len(value or b"") + len(key or b"") + sum(len(each or b"") for _, each in headers)
                produce = partial(
                    producer.produce,
                    self._config.topic,
                    value,
                    key,
                    partition=self._partition,
                    headers=[*headers],
                    on_delivery=_noting(failures, size),
                )
                _when_there_is_room(producer, produce, until)
            left = producer.flush(DELIVERY_S + 5.0)
        except (KafkaException, BufferError) as error:
            raise DeadLetterError(f"dead letters cannot be written to topic {self._config.topic}: {error}") from error
        if left or failures:
            what = failures[0] if failures else "no broker acknowledged them in time"
            raise DeadLetterError(f"dead letters cannot be written to topic {self._config.topic}: {what}")

    def _running_producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._properties, logger=quiet_logger(__name__))
        return self._producer

    def _forget_producer(self) -> None:
        self._producer = None


def _when_there_is_room(producer: Producer, produce: Callable[[], None], until: float) -> None:
    while True:
        try:
            return produce()
        except BufferError:
            if time.monotonic() > until:
                raise
            producer.poll(0.1)


def _noting(failures: list[str], size: int) -> Callable[[KafkaError | None, Message], None]:
    def delivered(error: KafkaError | None, _: Any) -> None:
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            failures.insert(0, f"one has {size} bytes, more than the topic's max.message.bytes allows: raise that")
        else:
            failures.append(f"{error.str()} ({error.name()})")

    return delivered
