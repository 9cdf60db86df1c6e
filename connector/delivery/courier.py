"""The courier brings a batch to its end: every change applied, stale, superseded, dead-lettered or abandoned.

Failures have kinds (DESIGN: Delivery) and each kind one treatment:

    SinkUnavailable      the same changes again, after a back-off, for ever
    any other exception  bisect, in order, until one change is alone; then as a Retry
    Retry                that change again, up to ``retry.attempts``; then a dead letter
    Rejected             a dead letter at once

Parts of a batch wait on a stack with the earliest on top, so that whatever happens to one part, a later change of a
key is never written before an earlier one has its outcome.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from connector.change import Change
from connector.clock import Clock
from connector.deadletter.envelope import ErrorKind
from connector.delivery.counts import Ending
from connector.delivery.letter_limits import LetterWatch
from connector.delivery.policy import OnPoison, RoutePolicy, backoff
from connector.delivery.supersede import Earlier, supersede, unique_runs
from connector.delivery.tally import Tally
from connector.delivery.writer import Writer
from connector.errors import MillraceError, SinkUnavailable
from connector.sink import APPLIED, Applied, Outcome, Rejected, Retry, Semantics, Stale


class Poison(NamedTuple):
    """A change that goes to the dead letters, and why."""

    change: Change
    kind: ErrorKind
    code: str
    message: str
    attempts: int
    first_failed_ms: int


class StoppedByPoison(MillraceError):
    """Poison stops the pipeline (``on_poison: stop``). It stays unfinished: a restart meets it again."""


class TooManyDeadLetters(StoppedByPoison):
    """``dead_letter_limits``: so much is poison that something else is broken. What is not dead-lettered yet stays
    unfinished."""


class Failure:
    """What is known of a change that failed and is tried again."""

    __slots__ = ("count", "first_ms")

    def __init__(self, first_ms: int) -> None:
        self.count = 0
        self.first_ms = first_ms


def _without(changes: list[Change], gone: Sequence[Change]) -> list[Change]:
    gone_ids = set(map(id, gone))
    return [change for change in changes if id(change) not in gone_ids]


Bury = Callable[[list[Poison]], Awaitable[None]]
"""Make dead letters durable, whatever it takes; returns when they are."""
LookAgain = Callable[[], Awaitable[bool]]
"""Look whether held keys have been let go since; says whether any was."""
Finish = Callable[[Sequence[Change], Ending], None]
"""Take note in the ledger that changes came to their end."""


class Courier:
    """Delivers the batches of one route's lanes. Several lanes call ``deliver`` at once, with disjoint keys."""

    def __init__(
        self,
        *,
        writer: Writer,
        semantics: Semantics,
        place_attributes: frozenset[str],
        policy: RoutePolicy,
        held: dict[str, int],
        bury: Bury,
        look_again: LookAgain,
        finish: Finish,
        letter_watch: LetterWatch,
        clock: Clock,
        chance: random.Random,
        tally: Tally,
    ) -> None:
        self._writer = writer
        self._supersedes = semantics is Semantics.STATE
        self._place_attributes = place_attributes
        self._policy = policy
        self._held = held
        self._bury = bury
        self._look_again = look_again
        self._finish = finish
        self._letter_watch = letter_watch
        self._clock = clock
        self._chance = chance
        self._tally = tally

    async def deliver(self, batch: list[Change]) -> None:
        """Bring a batch to its end. Raises StoppedByPoison and TooManyDeadLetters where that is the route's policy."""
        earlier: Earlier = {}
        if lost := self._drop_lost(batch):
            # Before superseding: what a lost shard's next owner reads again must not stand for what is still ours.
            batch = _without(batch, lost)
        if self._supersedes:
            batch, earlier = supersede(batch, self._place_attributes)
        parts = [batch]
        if self._policy.on_poison is not OnPoison.CONTINUE:
            parts = unique_runs(batch)[::-1]
        failures: dict[int, Failure] = {}
        while parts:
            part = await self._still_ours(parts.pop(), earlier, parts)
            if not part:
                continue
            kind = ErrorKind.RETRIES_EXHAUSTED
            try:
                outcomes = await self._writer.write(part)
            except SinkUnavailable:
                parts.append(part)
                continue
            except Exception as error:
                # Its name only: what a foreign exception says may hold attribute values. The dead letter keeps it all.
                self._tally.last_error = f"the sink raised {type(error).__name__}"
                if len(part) > 1:
                    self._tally.bisections += 1
                    middle = len(part) // 2
                    parts.extend((part[middle:], part[:middle]))
                    continue
                kind = ErrorKind.UNKNOWN
                outcomes = [Retry(type(error).__name__, str(error))]
            if outcomes.count(APPLIED) == len(outcomes):
                self._letter_watch.accepted(len(part))
                self._applied(part, earlier)
                continue
            await self._sort(part, outcomes, earlier, failures, parts, kind=kind)

    async def refuse(self, poison: list[Poison]) -> None:
        """Dead-letter changes that the route itself could not take (a filter without its image)."""
        ours = [item for item in poison if not self._drop_lost([item.change])]
        self._letter_watch.judged([False] * len(ours))
        await self._dead_letter(ours, {}, [])

    def _applied(self, part: Sequence[Change], earlier: Earlier) -> None:
        now_ms = self._clock.now_ms()
        ages_s = [(now_ms - change.timestamp_ms) / 1000 for change in part if change.ledger_entry.ledger.timed]
        self._tally.end_to_end_seconds.observe_many(ages_s)
        self._finish(part, Ending.APPLIED)
        self._finish_superseded(part, earlier)

    def _finish_superseded(self, part: Sequence[Change], earlier: Earlier) -> None:
        if earlier:
            done = [old for change in part for old in earlier.pop(id(change), ())]
            if done:
                self._finish(done, Ending.SUPERSEDED)

    async def _still_ours(self, part: list[Change], earlier: Earlier, parts: list[list[Change]]) -> list[Change]:
        """Drop what belongs to a lost shard; dead-letter what a held key keeps back; the rest may be written."""
        if lost := self._drop_lost(part):
            part = _without(part, lost)
            for change in lost:
                if older := earlier.pop(id(change), None):
                    self._finish(older, Ending.ABANDONED)
        if self._held:
            behind = [change for change in part if self._behind_a_letter(change)]
            if behind:
                part = [change for change in part if not self._behind_a_letter(change)]
                await self._hold_back(behind, earlier, parts)
        return part

    def _behind_a_letter(self, change: Change) -> bool:
        return self._held.get(change.key, change.version) < change.version

    async def _hold_back(self, behind: list[Change], earlier: Earlier, parts: list[list[Change]]) -> None:
        """Dead-letter held changes with those that they superseded, but for ones older than the letter itself."""
        if await self._look_again():
            if free := [change for change in behind if not self._behind_a_letter(change)]:
                parts.append(free)
            behind = [change for change in behind if self._behind_a_letter(change)]
        held: list[Change] = []
        for change in behind:
            older = earlier.pop(id(change), [])
            before = [old for old in older if not self._behind_a_letter(old)]
            if before:
                earlier[id(change)] = before
            held.extend(older[len(before) :])
            held.append(change)
        now_ms = self._clock.now_ms()
        message = "an earlier change of this key is in the dead letters"
        poison = [Poison(change, ErrorKind.HELD, "key_held", message, 0, now_ms) for change in held]
        await self._dead_letter(poison, earlier, parts)

    def _drop_lost(self, part: Sequence[Change]) -> list[Change]:
        lost = [change for change in part if change.ledger_entry.ledger.lost]
        if lost:
            self._finish(lost, Ending.ABANDONED)
        return lost

    async def _sort(
        self,
        part: list[Change],
        outcomes: Sequence[Outcome],
        earlier: Earlier,
        failures: dict[int, Failure],
        parts: list[list[Change]],
        *,
        kind: ErrorKind,
    ) -> None:
        """Treat each outcome by its kind; what is to be tried again goes back on top of the parts, after a wait.

        ``kind`` is what an exhausted Retry is called. A Retry behind another one of the same key is no failure of its
        own (a sink must answer so, to keep the order): it costs that change no attempt.
        """
        applied: list[Change] = []
        stale: list[Change] = []
        poison: list[Poison] = []
        again: list[Change] = []
        verdicts: list[bool] = []
        waited_for: set[str] = set()
        wait_s = 0.0
        now_ms = self._clock.now_ms()
        for change, outcome in zip(part, outcomes, strict=True):
            match outcome:
                case Applied():
                    applied.append(change)
                    verdicts.append(True)
                case Stale():
                    stale.append(change)
                    verdicts.append(True)
                case Rejected(reason, detail):
                    failure = failures.get(id(change)) or Failure(now_ms)
                    attempts = failure.count + 1
                    poison.append(Poison(change, ErrorKind.REJECTED, reason, detail, attempts, failure.first_ms))
                    verdicts.append(False)
                case Retry(reason, _, after_s):
                    self._tally.retries[reason] += 1
                    if change.key in waited_for:
                        again.append(change)
                        continue
                    waited_for.add(change.key)
                    failure = failures.setdefault(id(change), Failure(now_ms))
                    failure.count += 1
                    if verdict := self._given_up(change, outcome, kind, failure, now_ms):
                        poison.append(verdict)
                        verdicts.append(False)
                    else:
                        again.append(change)
                        asked_s = min(after_s or 0.0, self._policy.backoff_max_s)
                        wait_s = max(wait_s, backoff(self._policy, failure.count, self._chance.random()), asked_s)
        self._letter_watch.judged(verdicts)
        if applied:
            self._applied(applied, earlier)
        if stale:
            self._finish(stale, Ending.STALE)
            self._finish_superseded(stale, earlier)
        if again:
            parts.append(again)
        if poison:
            await self._dead_letter(poison, earlier, parts)
        if again:
            await self._clock.sleep(wait_s)

    def _given_up(self, change: Change, retry: Retry, kind: ErrorKind, failure: Failure, now_ms: int) -> Poison | None:
        """The poison that a failing change becomes when it was tried often enough, or got too old."""
        max_age_s = self._policy.max_age_s if change.ledger_entry.ledger.timed else None
        if max_age_s is not None and now_ms - change.timestamp_ms > max_age_s * 1000:
            kind = ErrorKind.TOO_OLD
        elif self._policy.retry_attempts is None or failure.count <= self._policy.retry_attempts:
            return None
        return Poison(change, kind, retry.reason, retry.detail, failure.count, failure.first_ms)

    async def _dead_letter(self, poison: list[Poison], earlier: Earlier, parts: list[list[Change]]) -> None:
        """Bury poison changes; what they had superseded is written in their stead: a key keeps its last good state."""
        if not poison:
            return
        if self._policy.on_poison is OnPoison.STOP:
            first = poison[0]
            # Without its key: a key is made of attribute values, which stay out of logs and pages.
            message = (
                f"the change at {first.change.shard}:{first.change.position} is poison "
                f"({first.kind}, {first.code}) and the route says on_poison: stop"
            )
            raise StoppedByPoison(message)
        if self._letter_watch.exceeded:
            first = poison[0]
            message = (
                f"too many dead letters: {self._letter_watch.exceeded}; the last reason was {first.kind}, "
                f"{first.code}. Nothing more is dead-lettered until a restart (dead_letter_limits)"
            )
            raise TooManyDeadLetters(message)
        await self._bury(poison)
        for item in poison:
            key, version = item.change.key, item.change.version
            self._tally.dead_letters[item.kind, item.code] += 1
            if self._policy.on_poison is OnPoison.HOLD_KEY:
                self._held[key] = min(version, self._held.get(key, version))
            if older := earlier.pop(id(item.change), None):
                stand_in = older.pop()
                parts.append([stand_in])
                if older:
                    earlier[id(stand_in)] = older
        self._finish([item.change for item in poison], Ending.DEAD_LETTERED)
