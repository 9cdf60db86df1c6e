"""The sink ``outbox``: an item that was written in one transaction with a business change becomes one message.

config.py     what a user may write
messages.py   items → messages

The places and the sending are those of the sink ``notify``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change
from connector.sink import Needs, Outcome, Semantics, SinkContext
from sinks.notify.publishers.kafka import KafkaPublisher
from sinks.notify.publishers.protocol import Publisher
from sinks.notify.publishers.sending import Sender
from sinks.notify.publishers.sqs import SqsPublisher
from sinks.outbox.config import OutboxSinkConfig
from sinks.outbox.messages import OutboxMessages


class OutboxSink:
    """See ``connector.sink.Sink``."""

    config_model: ClassVar[type[BaseModel]] = OutboxSinkConfig
    lanes_default: ClassVar[int] = 1
    lanes_max: ClassVar[int] = 1
    """Lanes keep the order of an item, and each message is an item of its own: only one lane keeps an aggregate's."""
    batch_size_default: ClassVar[int] = 500

    semantics = Semantics.EVENT
    place_attributes = frozenset[str]()
    needs = Needs.NEW_IMAGE

    def __init__(self, config: OutboxSinkConfig, context: SinkContext) -> None:
        places = list(config.destinations.values())
        self._publisher: Publisher
        if config.kafka is not None:
            self._publisher = KafkaPublisher(config.kafka, places, context.clock)
        else:
            assert config.sqs is not None, "the model takes exactly one of kafka and sqs"
            self._publisher = SqsPublisher(config.sqs, places)
        self._sender = Sender(self._publisher, context.clock, config.rate)
        self._messages = OutboxMessages(config)

    async def open(self) -> None:
        """Connect, and look whether every destination is there. Raises ConfigError, SinkUnavailable."""
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
