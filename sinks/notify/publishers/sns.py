"""SNS topics, standard and FIFO: group and deduplication as in ``sqs.py``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from connector.errors import ConfigError
from sinks.notify.publishers.aws import AwsClient, AwsPlace, Refused, note_entries, note_refusal, text_size
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.rounds import send_in_rounds
from sinks.notify.publishers.sending import too_large
from sinks.notify.publishers.tokens import hashed_token, plain_token

ENTRIES_MAX = 10
BYTES_MAX = 256 * 1024
"""Of a message with its attributes, and of a batch."""


class SnsConfig(AwsPlace):
    """An SNS topic."""

    topic: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$")]
    """The topic's ARN; one that ends in ``.fifo`` keeps the order of each key and drops what is sent again within five
    minutes. Needs sns:Publish and sns:GetTopicAttributes."""


class SnsPublisher:
    """See ``Publisher``. There is one topic; ``to`` is its ARN."""

    def __init__(self, config: SnsConfig) -> None:
        self._client = AwsClient("sns", config)
        self._topic = config.topic
        self._at_once = config.concurrency

    def describe(self) -> str:
        """For people."""
        return f"SNS topic {self._topic}"

    async def open(self) -> None:
        """Look at the topic. Raises ConfigError, SinkUnavailable."""
        await self._client.open()
        try:
            await self._client.call("get_topic_attributes", TopicArn=self._topic)
        except Refused as error:
            raise ConfigError(f"the topic cannot be used: {error}", path=("sns", "topic")) from error

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """See ``Publisher.publish``."""
        entries = [self._entry(message) for message in messages]
        sizes = [_size(entry) for entry in entries]
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
        batch = [{**entries[at], "Id": str(at)} for at in places]
        try:
            told = await self._client.call("publish_batch", TopicArn=self._topic, PublishBatchRequestEntries=batch)
        except Refused as error:
            note_refusal(error, places, answers)
        else:
            note_entries("SNS did not take a message", told, answers)

    def _entry(self, message: Message) -> dict[str, Any]:
        attributes = {"event_id": message.id, "type": message.type}
        entry: dict[str, Any] = {
            "Message": message.body.decode(),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": text} for name, text in attributes.items() if text
            },
        }
        if self._topic.endswith(".fifo"):
            entry["MessageGroupId"] = hashed_token(message.key)
            entry["MessageDeduplicationId"] = plain_token(message.id)
        return entry


def _size(entry: dict[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    return text_size(entry["Message"]) + sum(
        text_size(name, value["DataType"], value["StringValue"]) for name, value in attributes
    )
