"""What a dead-letter destination is: a durable place that can be read again."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Protocol

import msgspec
from pydantic import BaseModel

from connector.deadletter.envelope import DeadLetter
from connector.errors import DeadLetterError


class LetterState(enum.StrEnum):
    """What became of a dead letter since it was written."""

    DEAD = "dead"
    REPLAYED = "replayed"
    PURGED = "purged"


class StoredLetter(msgspec.Struct, frozen=True):
    """A letter as a destination holds it. ``replay_outcome`` says what the last replay came to, in a word."""

    letter: DeadLetter
    state: LetterState = LetterState.DEAD
    replay_outcome: str = ""


class LettersUnreadable(DeadLetterError):
    """The destination takes letters and cannot give them back. The message says what to do instead."""


def is_readable(destination: object) -> bool:
    """Whether letters can be read again where they are kept (``readable`` of a destination, true unless it says so)."""
    return bool(getattr(destination, "readable", True))


class DeadLetters(Protocol):
    """Keeps dead letters durably. Found by an entry point in the group ``millrace.dead_letters``.

    Made as ``DeadLettersClass(config, pipeline)``; making it does no I/O. A letter's ``id`` is unique: appending a
    letter that is there already changes nothing that can be seen by ``letters`` (a destination that can only append
    takes the first and drops the others when it is read).

    A class may have ``from_source: ClassVar[frozenset[str]]``: options (those of the connection) that are taken from a
    source of the same type where the user writes none of them (connector.config.specs.inherit_from_source).

    One that cannot read its letters again (a queue) has ``readable = False``, and its ``letters`` and ``mark`` raise
    LettersUnreadable. A route that holds keys is refused there: it could not know which.
    """

    config_model: ClassVar[type[BaseModel]]

    async def open(self) -> None:
        """Connect; create what is missing. Raises ConfigError or DeadLetterError."""

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters; return only when they are durable. Raises DeadLetterError otherwise (tried again)."""

    def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline in the order in which they were first written; only DEAD ones unless asked."""

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Say what became of these letters, durably."""

    async def close(self) -> None:
        """Let go of connections."""
