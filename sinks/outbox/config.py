"""What a user may write for ``type: outbox``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connector.errors import ConfigError
from connector.templates import compile_template
from sinks.notify.publishers.kafka import KafkaPlace
from sinks.notify.publishers.sending import Rate
from sinks.notify.publishers.sqs import ATTRIBUTES_MAX, SqsPlace

Name = Annotated[str, Field(min_length=1, max_length=255)]
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_QUEUE = re.compile(r"https?://[^\s?#]+/[A-Za-z0-9_-]{1,80}(\.fifo)?")
_HEADER = re.compile(r"(?!(?:aws|amazon)\.)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.IGNORECASE)
"""What SQS takes as an attribute's name; Kafka takes anything."""
_OURS = frozenset({"event_id", "type", "content-type"})


class OutboxSinkConfig(BaseModel):
    """A transactional outbox: each item that is inserted becomes one message in Kafka or SQS."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    kafka: KafkaPlace | None = None
    """The Kafka cluster; destinations are topics."""
    sqs: SqsPlace | None = None
    """SQS; destinations are queues' URLs."""
    destinations: Annotated[dict[Name, Annotated[str, Field(max_length=500)]], Field(min_length=1, max_length=100)]
    """Where messages may go: the name that an item says, and the topic or the queue's URL that it stands for. An item
    that says another name is rejected (``destination_unknown``)."""
    destination: Name = "destination"
    """The attribute that says the destination's name."""
    default: Name | None = None
    """The destination of an item without that attribute; unset: such an item is rejected."""
    key: Annotated[str, Field(min_length=1)]
    """A template for the aggregate: messages with the same key arrive in their order. Use what is the item's partition
    key in the table, ``{pk}`` say: the change log keeps the order of one partition key."""
    event_type: Name = "type"
    """The attribute that says what happened: text, sent as the header ``type``."""
    payload: Name = "payload"
    """The attribute with the message: text that is JSON, sent as it is, or a map, sent as JSON."""
    headers: Annotated[dict[str, Name], Field(max_length=ATTRIBUTES_MAX - 2)] = {}
    """More headers by name, and the attributes that they come from; an item without one goes without that header."""
    id: Annotated[str, Field(min_length=1)] = "{$event_id}"
    """A template for the stable id: the header ``event_id``, and a FIFO queue's deduplication id."""
    rate: Rate | None = None
    """The most messages that may be sent, like ``100/s``, ``30/m`` or ``5/h``; unset: as many as the place takes. A
    batch is to be sent within the route's ``timeout``: a slow rate needs a small ``batch: {size: …}``."""

    @field_validator("key", "id")
    @classmethod
    def _check_templates(cls, text: str) -> str:
        try:
            compile_template(text)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return text

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if not _HEADER.fullmatch(name) or len(name) > 256:
                raise ValueError(f"{name!r} is no name of a header: write letters, digits, '-', '_' and single dots")
            if name.lower() in _OURS:
                raise ValueError(f"the header {name} is not yours to set")
        return headers

    @model_validator(mode="after")
    def _check_whole(self) -> OutboxSinkConfig:
        if (self.kafka is None) == (self.sqs is None):
            raise ValueError("write exactly one of 'kafka' and 'sqs'")
        pattern, what = (_TOPIC, "a topic's name") if self.kafka is not None else (_QUEUE, "a queue's URL")
        for name, place in self.destinations.items():
            if not pattern.fullmatch(place):
                raise ValueError(f"what {name!r} stands for in 'destinations' is not {what}")
        if self.default is not None and self.default not in self.destinations:
            raise ValueError(f"the default {self.default!r} is not among the destinations")
        return self
