"""Several destinations in order: where one fails for some time, letters go to the next, until the first works again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connector.clock import Clock, SystemClock
from connector.config.specs import DeadLetterDestination
from connector.config.units import Duration
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import DeadLetters, LetterState, StoredLetter, is_readable
from connector.errors import ConfigError, DeadLetterError

log = structlog.get_logger(__name__)


class FallbackDeadLettersConfig(BaseModel):
    """Several destinations: each is used while those before it fail."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)

    destinations: list[DeadLetterDestination] = Field(
        min_length=2, max_length=10, description="the destinations, the preferred one first"
    )
    after: Duration = Field(
        default=30.0,
        le=86_400,
        description="how long one must have failed before letters go to the next; it is tried again as often",
    )
    timeout: Duration = Field(
        default=60.0, ge=1, le=3600, description="how long writing some letters may take before it counts as failed"
    )

    @model_validator(mode="after")
    def _is_flat(self) -> FallbackDeadLettersConfig:
        if any(spec.type == "fallback" for spec in self.destinations):
            raise ValueError("a fallback has no fallback among its destinations: write them all in one list")
        return self


class _Member:
    """One destination, and how it does."""

    def __init__(self, name: str, destination: DeadLetters) -> None:
        self.name = name
        self.destination = destination
        self.is_open = False
        self.failing_since: float | None = None
        self.again_at = 0.0

    async def open(self) -> None:
        if not self.is_open:
            await self.destination.open()
            self.is_open = True


class FallbackDeadLetters:
    """Letters may lie in any of the destinations: they are read from all, and marked in all.

    A write that was cut off may have reached one destination and be made again in the next: the letter is then in both,
    and shown once, from the earlier of them.
    """

    config_model: ClassVar[type[BaseModel]] = FallbackDeadLettersConfig

    def __init__(self, config: FallbackDeadLettersConfig, pipeline: str, *, clock: Clock | None = None) -> None:
        self._after_s = config.after
        self._timeout_s = config.timeout
        self._clock = clock or SystemClock()
        self._members: list[_Member] = []
        self._used: _Member | None = None
        for number, spec in enumerate(config.destinations):
            try:
                destination: DeadLetters = spec.plugin_class(spec.options, pipeline)
            except ConfigError as error:
                raise ConfigError(error.message, path=("destinations", number, *error.path)) from error
            self._members.append(_Member(f"{number + 1} ({spec.type})", destination))

    @property
    def readable(self) -> bool:
        """Whether all of them can be read again."""
        return all(is_readable(member.destination) for member in self._members)

    async def open(self) -> None:
        """Open all; those that are down are opened later, if one is there. Raises ConfigError and DeadLetterError."""
        errors = []
        for member in self._members:
            try:
                await member.open()
            except DeadLetterError as error:
                self._failed(member, error)
                errors.append(error)
        if len(errors) == len(self._members):
            raise DeadLetterError("; ".join(map(str, errors)))

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters to the first destination that takes them. Raises DeadLetterError (tried again)."""
        now = self._clock.monotonic()
        due = [member for member in self._members if member.again_at <= now]
        errors = []
        for member in due or self._members:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await member.open()
                    await member.destination.append(letters)
            except (DeadLetterError, ConfigError, TimeoutError) as error:
                said = str(error) or f"no answer within {self._timeout_s:g} s"
                self._failed(member, error)
                errors.append(f"destination {member.name}: {said}")
                if not self._given_up(member):
                    break
            else:
                self._worked(member)
                return
        raise DeadLetterError("; ".join(errors))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of all destinations, the first one's first. Raises DeadLetterError, if one cannot be read."""
        given: set[str] = set()
        for member in self._members:
            await member.open()
            async for stored in member.destination.letters(include_done=include_done):
                if stored.letter.id not in given:
                    given.add(stored.letter.id)
                    yield stored

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Note in every destination what became of letters, wherever they are. Raises DeadLetterError."""
        for member in self._members:
            await member.open()
            await member.destination.mark(ids, state, outcome)

    async def close(self) -> None:
        """Close all."""
        for member in self._members:
            await member.destination.close()
            member.is_open = False

    def _failed(self, member: _Member, error: BaseException) -> None:
        now = self._clock.monotonic()
        if member.failing_since is None:
            member.failing_since = now
            log.warning("dead-letter destination failed", destination=member.name, error=str(error))
        if self._given_up(member):
            member.again_at = now + self._after_s

    def _given_up(self, member: _Member) -> bool:
        """Whether it has failed for long enough, now that it failed again."""
        return member.failing_since is not None and self._clock.monotonic() - member.failing_since >= self._after_s

    def _worked(self, member: _Member) -> None:
        if member is not self._used and (self._used is not None or member is not self._members[0]):
            log.warning("dead letters go to another destination now", destination=member.name)
        self._used = member
        member.failing_since = None
        member.again_at = 0.0
