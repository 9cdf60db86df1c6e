"""EventBridge: each message is an event's detail, its type the ``detail-type``.

A bus keeps no order and drops no duplicates: the detail's ``event_id`` tells what was sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import Field, field_validator

from connector.errors import ConfigError
from connector.sink import APPLIED
from sinks.notify.publishers.aws import AwsClient, AwsPlace, Refused, entry_failed, note_refusal, text_size
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.rounds import send_in_rounds
from sinks.notify.publishers.sending import too_large

ENTRIES_MAX = 10
BYTES_MAX = 256 * 1024
"""Of all entries of a call together, counted as AWS's page "Calculating PutEvents event entry size" says."""
_TIME_BYTES = 14


class EventBridgeConfig(AwsPlace):
    """An EventBridge bus."""

    bus: Annotated[str, Field(pattern=r"^[/.A-Za-z0-9_:-]{1,1600}$")] = "default"
    """The bus's name or ARN. Needs events:PutEvents and events:DescribeEventBus."""
    source: Annotated[str, Field(min_length=1, max_length=256)] = "millrace"
    """The events' ``source``."""
    detail_type: Annotated[str, Field(min_length=1, max_length=4096)] = "{$event_name}"
    """A template: the events' ``detail-type``, 128 characters at most."""

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if source.startswith("aws."):
            raise ValueError("sources that begin with aws. are AWS's own")
        return source


class EventBridgePublisher:
    """See ``Publisher``. There is one bus; the bodies are JSON objects with the id inside."""

    def __init__(self, config: EventBridgeConfig) -> None:
        self._client = AwsClient("events", config)
        self._bus = config.bus
        self._source = config.source
        self._at_once = config.concurrency

    def describe(self) -> str:
        """For people."""
        return f"EventBridge bus {self._bus}"

    async def open(self) -> None:
        """Look at the bus. Raises ConfigError, SinkUnavailable."""
        await self._client.open()
        try:
            await self._client.call("describe_event_bus", Name=self._bus)
        except Refused as error:
            raise ConfigError(f"the bus cannot be used: {error}", path=("eventbridge", "bus")) from error

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """See ``Publisher.publish``."""
        entries = [self._entry(message) for message in messages]
        sizes = [_TIME_BYTES + text_size(entry["Source"], entry["DetailType"], entry["Detail"]) for entry in entries]
        for at, size in enumerate(sizes):
            if size > BYTES_MAX:
                answers[at] = too_large(size, BYTES_MAX)
                sizes[at] = -1
        send = partial(self._send, entries, answers)
        await send_in_rounds(messages, sizes, send, count_max=ENTRIES_MAX, bytes_max=BYTES_MAX, at_once=self._at_once)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def _send(self, entries: Sequence[dict[str, Any]], answers: Answers, places: Sequence[int]) -> None:
        try:
            told = await self._client.call("put_events", Entries=[entries[at] for at in places])
        except Refused as error:
            note_refusal(error, places, answers)
            return
        failures: list[Exception] = []
        for at, entry in zip(places, told["Entries"], strict=True):
            code = entry.get("ErrorCode")
            try:
                answers[at] = (
                    APPLIED
                    if not code
                    else entry_failed(
                        "EventBridge did not take an event", code, entry.get("ErrorMessage", ""), of_the_message=True
                    )
                )
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _entry(self, message: Message) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": self._source,
            "DetailType": message.type,
            "Detail": message.body.decode(),
            "Time": datetime.fromtimestamp(message.time_ms / 1000, UTC),
        }
