"""A message, and what a place that takes messages owes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from connector.sink import Outcome


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One message, ready to be sent."""

    id: str
    """The same at each sending, so that a place or its readers can tell a repeated message from a new one."""
    key: str
    """Messages of one key arrive in their order, as far as the place keeps any."""
    to: str
    """The topic, queue or bus. A place of its own (a webhook) has one only."""
    type: str
    """What happened, for readers who choose by it."""
    body: bytes
    """UTF-8."""
    time_ms: int = 0
    """When the change happened (epoch milliseconds)."""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    """More headers or attributes, as the place has them."""


Answers = list[Outcome | None]
"""One outcome a message, in their order; None where none is known."""


class Publisher(Protocol):
    """A place that takes messages. Made without I/O; ``open`` once, ``publish`` from several tasks, ``close`` once."""

    async def open(self) -> None:
        """Connect and look whether the place is there. Raises ConfigError, SinkUnavailable."""

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """Send messages, and put the outcome of each into ``answers`` (all None at first) as soon as it is known.

        Of one key's messages none is sent before the one before it was taken or rejected; behind a ``Retry`` the
        key's others get a ``Retry`` too. Raises SinkUnavailable where the place is down: what was answered by then
        stands, and is not sent again. Anything else that it raises: nobody knows which message did it.
        """

    async def close(self) -> None:
        """Let go of connections. Never raises for a place that is down."""

    def describe(self) -> str:
        """For people: what this is and what was found there. No secrets."""
