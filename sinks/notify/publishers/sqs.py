"""SQS queues, standard and FIFO.

FIFO: the group is a hash of the key (a key may have any length and characters, a group 128), and the deduplication id
is the message's own: what is sent twice within five minutes is there once. A standard queue keeps no order, and a
message that was sent twice is there twice; the attribute ``event_id`` tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from connector.errors import ConfigError
from connector.sink import Rejected
from sinks.notify.publishers.aws import AwsClient, AwsPlace, Refused, note_entries, note_refusal, text_size
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.rounds import send_in_rounds
from sinks.notify.publishers.sending import too_large
from sinks.notify.publishers.tokens import hashed_token, plain_token

ENTRIES_MAX = 10
ATTRIBUTES_MAX = 10
BATCH_BYTES_MAX = 256 * 1024
"""SQS takes 1 MiB in a call since August 2025, not in every partition and not by every stand-in; 256 KiB always did."""
_UNFIT = re.compile("[^\\x09\\x0a\\x0d\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""What XML 1.0 has no place for: a message that holds it is refused with its whole batch."""

QueueUrl = Annotated[str, Field(pattern=r"^https?://[^\s?#]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$", max_length=500)]


class SqsPlace(AwsPlace):
    """SQS."""


class SqsConfig(SqsPlace):
    """An SQS queue."""

    queue: QueueUrl
    """The queue's URL; one that ends in ``.fifo`` keeps the order of each key and drops what is sent again within five
    minutes. Needs sqs:SendMessage and sqs:GetQueueAttributes."""


class SqsPublisher:
    """See ``Publisher``. ``to`` of a message is a queue's URL."""

    def __init__(self, place: SqsPlace, queues: Sequence[str]) -> None:
        self._client = AwsClient("sqs", place)
        self._at_once = place.concurrency
        self._queues = tuple(queues)
        self._bytes_max: dict[str, int] = {}

    def describe(self) -> str:
        """For people."""
        return "SQS queues " + ", ".join(queue.rpartition("/")[2] for queue in self._queues)

    async def open(self) -> None:
        """Look at each queue. Raises ConfigError, SinkUnavailable."""
        await self._client.open()
        for queue in self._queues:
            try:
                told = await self._client.call(
                    "get_queue_attributes", QueueUrl=queue, AttributeNames=["MaximumMessageSize"]
                )
            except Refused as error:
                raise ConfigError(f"queue {queue} cannot be used: {error}", path=("sqs",)) from error
            self._bytes_max[queue] = int(told.get("Attributes", {}).get("MaximumMessageSize", BATCH_BYTES_MAX))

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """See ``Publisher.publish``."""
        entries = [_entry(message) for message in messages]
        for queue in dict.fromkeys(message.to for message in messages):
            limit = self._bytes_max[queue]
            sizes = [-1] * len(messages)
            for at, message in enumerate(messages):
                if message.to == queue:
                    answers[at] = _unfit(message, entries[at], limit)
                    sizes[at] = -1 if answers[at] is not None else _size(entries[at])
            await send_in_rounds(
                messages,
                sizes,
                partial(self._send, queue, entries, answers),
                count_max=ENTRIES_MAX,
                bytes_max=BATCH_BYTES_MAX,
                at_once=self._at_once,
            )

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def _send(
        self, queue: str, entries: Sequence[dict[str, Any]], answers: Answers, places: Sequence[int]
    ) -> None:
        batch = [{**entries[at], "Id": str(at)} for at in places]
        try:
            told = await self._client.call("send_message_batch", QueueUrl=queue, Entries=batch)
        except Refused as error:
            note_refusal(error, places, answers)
        else:
            note_entries("SQS did not take a message", told, answers)


def _entry(message: Message) -> dict[str, Any]:
    attributes = {**dict(message.headers), "event_id": message.id, "type": message.type}
    entry: dict[str, Any] = {
        "MessageBody": message.body.decode(),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": text} for name, text in attributes.items() if text
        },
    }
    if message.to.endswith(".fifo"):
        entry["MessageGroupId"] = hashed_token(message.key)
        entry["MessageDeduplicationId"] = plain_token(message.id)
    return entry


def _size(entry: dict[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    return text_size(entry["MessageBody"]) + sum(
        text_size(name, value["DataType"], value["StringValue"]) for name, value in attributes
    )


def _unfit(message: Message, entry: dict[str, Any], limit: int) -> Rejected | None:
    """Why a message can never be in a queue, before its batch is refused for it."""
    if not message.body:
        return Rejected("message_empty", "SQS takes no message without a body")
    attributes = entry["MessageAttributes"]
    if len(attributes) > ATTRIBUTES_MAX:
        return Rejected("too_many_headers", f"SQS takes {ATTRIBUTES_MAX} attributes with a message")
    texts = [entry["MessageBody"], *(value["StringValue"] for value in attributes.values())]
    if any(_UNFIT.search(text) for text in texts):
        return Rejected("characters", "the message holds characters that SQS takes in none")
    size = _size(entry)
    return too_large(size, limit) if size > limit else None
