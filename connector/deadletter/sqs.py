"""Dead letters as messages of an SQS queue. They can be consumed there, not read again by us."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator, model_validator

from connector.config.units import KIB, MIB, Size
from connector.deadletter.aws import AwsClient, AwsOptions
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.messages import Message, TooLarge, messages_of, packed
from connector.deadletter.protocol import LetterState, LettersUnreadable, StoredLetter
from connector.errors import DeadLetterError

_ARN = re.compile(r"arn:[a-z-]+:sqs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):(?P<name>[A-Za-z0-9_-]{1,80}(\.fifo)?)")
_URL = re.compile(r"https?://[^\s@]+/(?P<name>[A-Za-z0-9_-]{1,80}(\.fifo)?)")


class SQSDeadLettersConfig(AwsOptions):
    """A queue, one message a letter: Lambda's failure record plus our envelope. For consumers of your own: it cannot be
    listed or replayed."""

    queue: str = Field(description="the queue's ARN or URL; one that ends in .fifo keeps the letters of a key in order")
    bytes_max: Size = Field(
        default=256 * KIB,
        le=MIB,
        description="the largest message that the queue takes (its MaximumMessageSize, up to 1 MiB), and the largest "
        "call",
    )
    too_large: TooLarge = Field(
        default="wait",
        description="what becomes of a letter that is larger: its change waits, and the pipeline with it (not ready, "
        "saying why), or the letter goes without its record, as Lambda's does: it then names a change that the change "
        "log forgets after a while",
    )

    @field_validator("queue")
    @classmethod
    def _is_queue(cls, queue: str) -> str:
        if not _ARN.fullmatch(queue) and not _URL.fullmatch(queue):
            raise ValueError("a queue is written as arn:aws:sqs:<region>:<account>:<name>, or as its https:// URL")
        return queue

    @model_validator(mode="after")
    def _has_region(self) -> SQSDeadLettersConfig:
        if self.region is None and not _ARN.fullmatch(self.queue):
            raise ValueError("region: is needed beside a queue's URL; it is never guessed from the environment")
        return self


class SQSDeadLetters:
    """Sends, ten letters a call. A queue that is no FIFO queue may deliver a letter twice and in any order: consumers
    tell them apart by ``requestContext.requestId``."""

    config_model: ClassVar[type[BaseModel]] = SQSDeadLettersConfig
    readable: ClassVar[bool] = False

    def __init__(self, config: SQSDeadLettersConfig, pipeline: str) -> None:
        arn = _ARN.fullmatch(config.queue)
        name = (arn or _URL.fullmatch(config.queue) or {"name": ""})["name"]
        self._config = config
        self._arn = arn
        self._what = f"the SQS queue {name}"
        self._fifo = name.endswith(".fifo")
        self._url = config.queue
        region = config.region or (arn["region"] if arn else None)
        self._client = AwsClient("sqs", config, region, self._what, calls_at_once=1)

    async def open(self) -> None:
        """Look for the queue. Raises ConfigError and DeadLetterError."""
        await self._client.open(self._find)

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Send letters; the queue has them when it returns. Raises DeadLetterError."""
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

    def _find(self, client: Any) -> None:
        if self._arn is not None:
            found = client.get_queue_url(QueueName=self._arn["name"], QueueOwnerAWSAccountId=self._arn["account"])
            self._url = found["QueueUrl"]
        else:
            client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])

    def _send(self, client: Any, *, entries: Sequence[Mapping[str, str]]) -> Any:
        return client.send_message_batch(QueueUrl=self._url, Entries=entries)

    def _entry(self, number: int, message: Message) -> dict[str, str]:
        entry = {"Id": str(number), "MessageBody": message.body}
        if self._fifo:
            entry |= {"MessageGroupId": message.group, "MessageDeduplicationId": message.id}
        return entry

    def _unreadable(self) -> LettersUnreadable:
        return LettersUnreadable(
            f"dead letters went to {self._what}, from which they cannot be listed or replayed here: consume them there "
            "(each has the letter with its record under 'millrace'). To replay, keep them in Kafka, PostgreSQL, S3, "
            "SQLite or a file"
        )
