"""What a user may write for ``type: notify``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connector.documents import Numbers
from connector.errors import ConfigError
from connector.templates import compile_template
from sinks.notify.publishers.eventbridge import EventBridgeConfig
from sinks.notify.publishers.kafka import KafkaConfig
from sinks.notify.publishers.sending import Rate
from sinks.notify.publishers.sns import SnsConfig
from sinks.notify.publishers.sqs import SqsConfig
from sinks.notify.publishers.webhook import WebhookConfig

PLACES = ("webhook", "kafka", "sqs", "sns", "eventbridge")


class NotifySinkConfig(BaseModel):
    """A message for each change, to one place: a webhook, Kafka, SQS, SNS or EventBridge."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    webhook: WebhookConfig | None = None
    """An HTTP endpoint."""
    kafka: KafkaConfig | None = None
    """A Kafka topic."""
    sqs: SqsConfig | None = None
    """An SQS queue."""
    sns: SnsConfig | None = None
    """An SNS topic."""
    eventbridge: EventBridgeConfig | None = None
    """An EventBridge bus."""
    message: str | Annotated[dict[str, str], Field(min_length=1, max_length=100)] | None = None
    """A template for a text, or a mapping of templates for a JSON object of texts; unset: the change as JSON, as the
    sink ``stdout`` writes it. A REMOVE fills templates from the item as it was."""
    missing: Literal["reject", "null"] = "reject"
    """What a mapping's template does that names an attribute which the item lacks: the change is rejected, or the
    object has a null there."""
    numbers: Numbers = Numbers.NUMBER
    """How numbers are written in a change as JSON that no 64-bit type holds exactly."""
    id: str = "{$event_id}"
    """A template for the stable id: the deduplication id of FIFO queues and topics, ``webhook-id``, ``event_id``. Two
    routes that tell one place of the same change need ids of their own, such as ``paid:{$event_id}``."""
    rate: Rate | None = None
    """The most messages that may be sent, like ``100/s``, ``30/m`` or ``5/h``; unset: as many as the place takes. A
    batch is to be sent within the route's ``timeout``: a slow rate needs a small ``batch: {size: …}``."""

    @field_validator("message", "id")
    @classmethod
    def _check_templates(cls, written: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for text in written.values() if isinstance(written, dict) else [written]:
            if text is not None:
                _checked(text)
        return written

    @field_validator("eventbridge")
    @classmethod
    def _check_type(cls, place: EventBridgeConfig | None) -> EventBridgeConfig | None:
        if place is not None:
            _checked(place.detail_type)
        return place

    @model_validator(mode="after")
    def _check_whole(self) -> NotifySinkConfig:
        chosen = [name for name in PLACES if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(f"write exactly one of {', '.join(PLACES)}")
        if self.eventbridge is not None and isinstance(self.message, str):
            raise ValueError("EventBridge takes JSON objects: write 'message' as a mapping of templates")
        if "missing" in self.model_fields_set and not isinstance(self.message, dict):
            raise ValueError("'missing' belongs to a 'message' that is a mapping")
        if "numbers" in self.model_fields_set and self.message is not None:
            raise ValueError("'numbers' belongs to the change as JSON; in a 'message' numbers keep all of their digits")
        return self


def _checked(text: str) -> None:
    try:
        compile_template(text)
    except ConfigError as error:
        raise ValueError(error.message) from None
