"""Dead letters as messages of an SNS topic. They reach its subscribers; we cannot read them again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from connector.config.units import KIB, Size
from connector.deadletter.aws import AwsClient, AwsOptions
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.messages import Message, TooLarge, messages_of, packed
from connector.deadletter.protocol import LetterState, LettersUnreadable, StoredLetter
from connector.errors import DeadLetterError

_ARN = re.compile(r"arn:[a-z-]+:sns:(?P<region>[a-z0-9-]+):\d{12}:(?P<name>[A-Za-z0-9_-]{1,256}(\.fifo)?)")


class SNSDeadLettersConfig(AwsOptions):
    """A topic, one message a letter: Lambda's failure record plus our envelope. For subscribers of your own: it cannot
    be listed or replayed, and a topic without subscribers forgets at once."""

    topic: str = Field(description="the topic's ARN; one that ends in .fifo keeps the letters of a key in order")
    bytes_max: Size = Field(default=256 * KIB, le=256 * KIB, description="the largest message, and the largest call")
    too_large: TooLarge = Field(
        default="wait",
        description="what becomes of a letter that is larger: its change waits, and the pipeline with it (not ready, "
        "saying why), or the letter goes without its record, as Lambda's does: it then names a change that the change "
        "log forgets after a while",
    )

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        if not _ARN.fullmatch(topic):
            raise ValueError("a topic is written as arn:aws:sns:<region>:<account>:<name>")
        return topic


class SNSDeadLetters:
    """Publishes, ten letters a call. Subscribers tell repetitions by ``requestContext.requestId``."""

    config_model: ClassVar[type[BaseModel]] = SNSDeadLettersConfig
    readable: ClassVar[bool] = False

    def __init__(self, config: SNSDeadLettersConfig, pipeline: str) -> None:
        arn = _ARN.fullmatch(config.topic)
        assert arn is not None, "the validator has seen to it"
        self._config = config
        self._what = f"the SNS topic {arn['name']}"
        self._fifo = arn["name"].endswith(".fifo")
        self._client = AwsClient("sns", config, config.region or arn["region"], self._what, calls_at_once=1)

    async def open(self) -> None:
        """Look for the topic. Raises ConfigError and DeadLetterError."""
        await self._client.open(lambda client: client.get_topic_attributes(TopicArn=self._config.topic))

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Publish letters; the topic has them when it returns. Raises DeadLetterError."""
        config = self._config
        messages = messages_of(letters, bytes_max=config.bytes_max, too_large=config.too_large, what=self._what)
        for call in packed(messages, config.bytes_max):
            entries = [self._entry(number, message) for number, message in enumerate(call)]
            answer = await self._client.call(partial(self._send, entries=entries))
            if failed := answer.get("Failed"):
                said = f"{failed[0]['Code']}: {failed[0].get('Message', '')}"
                raise DeadLetterError(f"{len(failed)} dead letters were refused by {self._what}: {said}")

    def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """Raises LettersUnreadable."""
        raise self._unreadable()

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Raises LettersUnreadable."""
        raise self._unreadable()

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    def _send(self, client: Any, *, entries: Sequence[Mapping[str, str]]) -> Any:
        return client.publish_batch(TopicArn=self._config.topic, PublishBatchRequestEntries=entries)

    def _entry(self, number: int, message: Message) -> dict[str, str]:
        entry = {"Id": str(number), "Message": message.body}
        if self._fifo:
            entry |= {"MessageGroupId": message.group, "MessageDeduplicationId": message.id}
        return entry

    def _unreadable(self) -> LettersUnreadable:
        return LettersUnreadable(
            f"dead letters went to {self._what}, from which they cannot be listed or replayed here: its subscribers "
            "have them (each has the letter with its record under 'millrace'). To replay, keep them in Kafka, "
            "PostgreSQL, S3, SQLite or a file"
        )
