"""A batch on its way to a publisher: at the rate that is allowed, and without sending twice what once went through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from connector.change import Change
from connector.clock import Clock
from connector.sink import APPLIED, Outcome, Rejected, Retry
from sinks.notify.publishers.protocol import Answers, Message, Publisher

RATE_PATTERN = r"^[0-9]+(\.[0-9]+)?/(s|m|h)$"
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BURST_S = 0.1
"""A bucket holds so many seconds' worth (and at least one message): more would come as a thud after a pause."""
_SENT_MAX = 100_000

BEHIND = Retry("behind_a_retry", "an earlier message of the same key is to be sent first")

Place = tuple[str, int, int]


def _rate(value: Any) -> Any:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a rate is written as a number and a unit of time, like 100/s, 30/m or 5/h")
    return float(match[1]) / _SECONDS[match[2]]


Rate = Annotated[
    float,
    BeforeValidator(_rate),
    Field(ge=1 / 3600, le=1_000_000),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["100/s"]}),
]
"""Messages a second as a float; written with a unit of time."""


class TokenBucket:
    """Gives out so many tokens a second, whoever asks."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        self._per_s = per_s
        self._clock = clock
        self._room = max(1.0, per_s * _BURST_S)
        self._tokens = self._room
        self._filled_at = clock.monotonic()

    async def take(self, wanted: int) -> int:
        """How many of ``wanted`` may be sent now: at least one, after a wait where there is none."""
        while True:
            now = self._clock.monotonic()
            self._tokens = min(self._room, self._tokens + (now - self._filled_at) * self._per_s)
            self._filled_at = now
            # A hair less than a whole token is one: sums of floats must not cost a second sleep.
            granted = min(wanted, int(self._tokens + 1e-6))
            if granted:
                self._tokens -= granted
                return granted
            await self._clock.sleep((1.0 - self._tokens) / self._per_s)


class Sender:
    """Hands batches to a publisher.

    A call that failed midway (the place went down, the route's ``timeout`` passed) is made again with the same
    changes. What had gone through is remembered and not sent again; only a message whose answer was lost is.
    """

    def __init__(self, publisher: Publisher, clock: Clock, rate_per_s: float | None) -> None:
        self._publisher = publisher
        self._bucket = TokenBucket(rate_per_s, clock) if rate_per_s is not None else None
        self._sent: dict[Place, None] = {}

    async def send(self, batch: Sequence[Change], messages: Sequence[Message | Outcome]) -> list[Outcome]:
        """Send the message of each change; one that already has its outcome is not sent. Raises as ``publish``."""
        answers: Answers = [None if isinstance(message, Message) else message for message in messages]
        if self._sent:
            for at, change in enumerate(batch):
                if answers[at] is None and _place(change) in self._sent:
                    answers[at] = APPLIED
        waiting = [at for at, answer in enumerate(answers) if answer is None]
        held: set[str] = set()
        try:
            while waiting:
                count = await self._bucket.take(len(waiting)) if self._bucket is not None else len(waiting)
                await self._publish(waiting[:count], messages, answers, held)
                waiting = waiting[count:]
        except BaseException:
            self._remember(batch, messages, answers)
            raise
        if self._sent:
            for change in batch:
                self._sent.pop(_place(change), None)
        return [_known(answer) for answer in answers]

    async def _publish(
        self, places: Sequence[int], messages: Sequence[Message | Outcome], answers: Answers, held: set[str]
    ) -> None:
        sendable: list[tuple[int, Message]] = []
        for at in places:
            message = messages[at]
            assert isinstance(message, Message), "what has its outcome does not wait"
            if message.key in held:
                answers[at] = BEHIND
            else:
                sendable.append((at, message))
        got: Answers = [None] * len(sendable)
        try:
            await self._publisher.publish([message for _, message in sendable], got)
        finally:
            for (at, message), answer in zip(sendable, got, strict=True):
                answers[at] = answer
                if isinstance(answer, Retry):
                    held.add(message.key)

    def _remember(self, batch: Sequence[Change], messages: Sequence[Message | Outcome], answers: Answers) -> None:
        for change, message, answer in zip(batch, messages, answers, strict=True):
            if answer is APPLIED and isinstance(message, Message):
                self._sent[_place(change)] = None
        while len(self._sent) > _SENT_MAX:  # of shards that were lost and came to nobody here again
            del self._sent[next(iter(self._sent))]


def _place(change: Change) -> Place:
    return change.shard, change.position, change.index


def _known(answer: Outcome | None) -> Outcome:
    assert answer is not None, "a publisher answers each message or raises"
    return answer


def too_large(size: int, limit: int) -> Rejected:
    """The outcome of a message that the place will never take for its size (bytes)."""
    return Rejected("message_too_large", f"the message has {size} bytes; {limit} may be sent")
