"""Kafka topics: an idempotent producer, and a batch that is answered when every replica in sync has its records.

A record's key is the message's, so a key's messages are in one partition, in order; the header ``event_id`` tells what
was sent twice. Order holds through failures too: the client never gives up one message and goes on to the next (its
own timeout is off). When a batch is not acknowledged in time, all that the client still holds is dropped, with the
client itself, and delivery sends the batch again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from pydantic import Field

from connector.brokers import (
    PERSON_NEEDED,
    Cluster,
    Properties,
    cluster_properties,
    quiet_logger,
    shared_properties,
    with_options,
)
from connector.clock import Clock
from connector.config.units import MIB, Duration
from connector.errors import ConfigError, SinkUnavailable
from connector.onethread import OneThread
from connector.sink import APPLIED, Outcome, Rejected
from sinks.notify.publishers.protocol import Answers, Message

REQUEST_S = 15.0
_BATCH_BYTES = 1_000_000
_FRAME_BYTES = 1_024
"""Room for what the protocol puts around records, so that a full batch is below the topic's limit."""
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_POISON = {
    KafkaError.MSG_SIZE_TOO_LARGE: "message_too_large",
    KafkaError.INVALID_RECORD: "invalid_record",
}
"""What a broker says of a record itself. All else (rights, topics, leaders) passes, or a person makes it pass."""
REFUSED = frozenset(
    {
        "request.required.acks",
        "max.in.flight",
        "enable.gapless.guarantee",
        "transactional.id",
        "message.timeout.ms",
        "batch.size",
        "allow.auto.create.topics",
    }
)
DEFAULTS: Properties = {"compression.type": "lz4", "linger.ms": 2}

Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]


class KafkaPlace(Cluster):
    """How a Kafka cluster is reached and written to."""

    timeout: Annotated[Duration, Field(ge=1, le=300)] = Field(
        default=30.0, description="how long a batch may take to be acknowledged before the cluster counts as down"
    )


class KafkaConfig(KafkaPlace):
    """A Kafka topic."""

    topic: Topic = Field(description="the topic; it must be there")


class KafkaPublisher:
    """See ``Publisher``. ``to`` of a message is a topic."""

    def __init__(self, place: KafkaPlace, topics: Sequence[str], clock: Clock) -> None:
        cluster = cluster_properties(place)
        ours = {
            **cluster,
            "acks": "all",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 5,
            "delivery.timeout.ms": 0,  # never by itself: see above
            # The topic decides how much is too much.
            "message.max.bytes": 100 * MIB,
        }
        self._properties = {**DEFAULTS, **with_options(ours, place.options, REFUSED)}
        self._admin_properties = {**cluster, **shared_properties(self._properties)}
        self._topics = tuple(dict.fromkeys(topics))
        self._timeout_s = place.timeout
        self._clock = clock
        self._batch_bytes = _BATCH_BYTES
        self._producer: Producer | None = None
        self._thread = OneThread("publish-kafka")

    def describe(self) -> str:
        """For people."""
        return "Kafka topics " + ", ".join(self._topics)

    async def open(self) -> None:
        """Look at the topics. Raises ConfigError, SinkUnavailable."""
        await self._thread.run(self._look)

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """See ``Publisher.publish``. Batches of several lanes come one after another."""
        if messages:
            await self._thread.run(lambda: self._publish(messages, answers))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._thread.run(self._forget)
        self._thread.stop()

    def _look(self) -> None:
        try:
            admin = AdminClient(self._admin_properties, logger=quiet_logger(__name__))
        except KafkaException as error:
            raise ConfigError(
                f"the kafka client refuses its options: {error.args[0].str()}", path=("kafka",)
            ) from error
        try:
            known = admin.list_topics(timeout=min(REQUEST_S, self._timeout_s)).topics
            for topic in self._topics:
                if topic not in known:
                    raise ConfigError(f"topic {topic!r} does not exist, or may not be looked at", path=("kafka",))
            self._batch_bytes = min([_BATCH_BYTES, *(self._limit(admin, topic) for topic in self._topics)])
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() in PERSON_NEEDED:
                raise ConfigError(f"Kafka refuses the connection: {reason.str()}", path=("kafka",)) from error
            raise SinkUnavailable(f"Kafka cannot be reached: {reason.str()}") from error
        finally:
            admin.poll(0)  # lets the client say what was wrong with the connection

    def _limit(self, admin: AdminClient, topic: str) -> int:
        """How large a batch of several records may be, so that a broker's refusal always means one record alone."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        try:
            settings = admin.describe_configs([resource], request_timeout=REQUEST_S)[resource].result()
            return max(1, int(settings["max.message.bytes"].value) - _FRAME_BYTES)
        except (KafkaException, KeyError, TypeError, ValueError):
            return _BATCH_BYTES  # no rights to look: what brokers take unless they are told otherwise

    def _publish(self, messages: Sequence[Message], answers: Answers) -> None:
        producer = self._running_producer()
        failures: list[KafkaError] = []
        until = self._clock.monotonic() + self._timeout_s
        try:
            for at, message in enumerate(messages):
                produce = partial(
                    producer.produce,
                    message.to,
                    message.body,
                    message.key.encode("utf-8", "surrogatepass"),
                    headers=_headers(message),
                    on_delivery=_noting(at, answers, failures),
                )
                self._when_there_is_room(producer, produce, until)
            left = producer.flush(max(0.0, until - self._clock.monotonic()))
        except (KafkaException, BufferError) as error:
            self._drop(producer)
            raise SinkUnavailable(f"Kafka does not take messages: {error}") from error
        if left or failures:
            self._drop(producer)
            known = [failure for failure in failures if failure.code() not in _PURGED]
            what = f"{known[0].str()} ({known[0].name()})" if known else f"not acknowledged in {self._timeout_s:g} s"
            raise SinkUnavailable(f"Kafka does not take messages: {what}")

    def _when_there_is_room(self, producer: Producer, produce: Callable[[], None], until: float) -> None:
        while True:
            try:
                return produce()
            except BufferError:
                if self._clock.monotonic() > until:
                    raise
                producer.poll(0.1)

    def _drop(self, producer: Producer) -> None:
        """Send nothing more of what is queued; hear what became of it."""
        producer.purge(in_queue=True, in_flight=True, blocking=True)
        producer.flush(1.0)
        self._forget()

    def _running_producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {**self._properties, "batch.size": self._batch_bytes}, logger=quiet_logger(__name__)
            )
        return self._producer

    def _forget(self) -> None:
        self._producer = None


def _headers(message: Message) -> list[tuple[str, str | bytes | None]]:
    return [
        *message.headers,
        ("event_id", message.id),
        ("type", message.type),
        ("content-type", message.content_type),
    ]


def _noting(at: int, answers: Answers, failures: list[KafkaError]) -> Callable[[KafkaError | None, Delivered], None]:
    def delivered(error: KafkaError | None, _: Any) -> None:
        if error is None:
            answers[at] = APPLIED
        elif (rejected := _rejected(error)) is not None:
            answers[at] = rejected
        else:
            failures.append(error)

    return delivered


def _rejected(error: KafkaError) -> Outcome | None:
    reason = _POISON.get(error.code())
    return None if reason is None else Rejected(reason, error.str())
