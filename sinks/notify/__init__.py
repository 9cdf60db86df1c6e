"""The sink ``notify``: a message for each change, with an id that is the same at each sending.

config.py       what a user may write
messages.py     changes → messages
publishers/     the places, which the sink ``outbox`` shares
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change
from connector.clock import Clock
from connector.sink import Needs, Outcome, Semantics, SinkContext
from sinks.notify.config import NotifySinkConfig
from sinks.notify.messages import Messages
from sinks.notify.publishers.eventbridge import EventBridgePublisher
from sinks.notify.publishers.kafka import KafkaPublisher
from sinks.notify.publishers.protocol import Publisher
from sinks.notify.publishers.sending import Sender
from sinks.notify.publishers.sns import SnsPublisher
from sinks.notify.publishers.sqs import SqsPublisher
from sinks.notify.publishers.webhook import WebhookPublisher


class NotifySink:
    """See ``connector.sink.Sink``."""

    config_model: ClassVar[type[BaseModel]] = NotifySinkConfig
    lanes_default: ClassVar[int] = 4
    batch_size_default: ClassVar[int] = 200
    """A batch is to be sent within the route's ``timeout``, at a webhook's pace too."""

    semantics = Semantics.EVENT
    place_attributes = frozenset[str]()
    needs = Needs.NOTHING
    """Which attributes are the key's is known only when changes come: a template over others then needs images."""

    def __init__(self, config: NotifySinkConfig, context: SinkContext) -> None:
        self._publisher, to = _publisher(config, context.clock)
        self._sender = Sender(self._publisher, context.clock, config.rate)
        self._messages = Messages(
            config.message,
            to=to,
            message_id=config.id,
            message_type=config.eventbridge.detail_type if config.eventbridge else "{$event_name}",
            missing=config.missing,
            numbers=config.numbers,
            route=context.route,
            id_inside=config.eventbridge is not None,
        )

    async def open(self) -> None:
        """Connect, and look whether the place is there. Raises ConfigError, SinkUnavailable."""
        await self._publisher.open()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """See ``Sink.write``."""
        make = self._messages.make
        return await self._sender.send(batch, [make(change) for change in batch])

    async def close(self) -> None:
        """Let go of connections."""
        await self._publisher.close()

    def describe(self) -> str:
        """For ``millrace check``."""
        return self._publisher.describe()


def _publisher(config: NotifySinkConfig, clock: Clock) -> tuple[Publisher, str]:
    """The place that was chosen, and its name as messages say it."""
    if (webhook := config.webhook) is not None:
        return WebhookPublisher(webhook, clock), ""
    if (kafka := config.kafka) is not None:
        return KafkaPublisher(kafka, [kafka.topic], clock), kafka.topic
    if (sqs := config.sqs) is not None:
        return SqsPublisher(sqs, [sqs.queue]), sqs.queue
    if (sns := config.sns) is not None:
        return SnsPublisher(sns), sns.topic
    assert config.eventbridge is not None, "the model takes exactly one place"
    return EventBridgePublisher(config.eventbridge), config.eventbridge.bus
