"""A route: filter → lanes by key → courier → one sink. Its door is synchronous and works on a whole batch."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from zlib import crc32

import msgspec

from connector.change import Change
from connector.clock import Clock
from connector.deadletter.envelope import DeadLetter, ErrorKind, letter_for_change
from connector.delivery.bounds import Bounds
from connector.delivery.counts import Ending
from connector.delivery.courier import Courier, LookAgain, Poison, StoppedByPoison
from connector.delivery.lane import Lane, Refusal
from connector.delivery.ledger import Ledger, Segment
from connector.delivery.letter_limits import LetterWatch
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.delivery.tally import Tally
from connector.delivery.writer import Writer
from connector.sink import Sink


class Sifted(msgspec.Struct):
    """What a route's filter makes of a batch; each list in the batch's order."""

    taken: Sequence[Change]
    """What goes on, as it is or as a removal (``where``)."""
    filtered: Sequence[Change] = ()
    refused: Sequence[Refusal] = ()
    """What the filter could not judge."""


Sieve = Callable[[Sequence[Change]], Sifted]
"""A route's filter, on a whole batch."""

Bury = Callable[[Sequence[DeadLetter]], Awaitable[None]]
"""Make dead letters durable, whatever it takes; returns when they are."""

Told = Callable[[Sequence[Change], Ending], None]
"""Hear of changes as they come to their end (a replay marks its letters by it). Must not block."""

_ledger_entry = attrgetter("ledger_entry")


async def let_nothing_go() -> bool:
    """Held keys stay held (a replay's own are)."""
    return False


class Route:
    """One route of a pipeline, with its lanes, counters and held keys."""

    def __init__(
        self,
        *,
        name: str,
        number: int,
        pipeline: str,
        sink: Sink,
        sieve: Sieve | None,
        policy: RoutePolicy,
        bounds: Bounds,
        bury: Bury,
        codec: str,
        clock: Clock,
        chance: random.Random,
        held: dict[str, int],
        look_again: LookAgain = let_nothing_go,
        told: Told | None = None,
    ) -> None:
        self.name = name
        self.number = number
        """The route's place in each ledger's ``counts``."""
        self.policy = policy
        self.sink = sink
        self.tally = Tally()
        self.held = held
        """Keys that are held, with the version of the letter that holds each."""
        self.writer = Writer(sink, policy, clock, chance, self.tally)
        self.letter_watch = LetterWatch(policy.letter_limits, clock)
        self._pipeline = pipeline
        self._codec = codec
        self._sieve = sieve
        self._bounds = bounds
        self._bury_letters = bury
        self._clock = clock
        self._told = told
        self._courier = Courier(
            writer=self.writer,
            semantics=sink.semantics,
            place_attributes=sink.place_attributes,
            policy=policy,
            held=held,
            bury=self._bury,
            look_again=look_again,
            finish=self.finish,
            letter_watch=self.letter_watch,
            clock=clock,
            chance=chance,
            tally=self.tally,
        )
        self.lanes = [Lane(policy, clock, self._courier.deliver, self._refuse) for _ in range(policy.lanes)]
        self.finished = asyncio.Event()
        """Set at every finish, so that a drain can look again."""

    def accept(self, segment: Segment, changes: Sequence[Change]) -> None:
        """Take a batch of one shard in at the door: filter it and queue what goes on in its lanes."""
        sifted = Sifted(changes) if self._sieve is None else self._sieve(changes)
        in_flight = len(sifted.taken) + len(sifted.refused)
        counts = segment.ledger.counts[self.number]
        counts.read += len(changes)
        counts.in_flight += in_flight
        if sifted.filtered:
            counts.ended[Ending.FILTERED] += len(sifted.filtered)
            self.tally.ended(sifted.filtered, Ending.FILTERED)
            if self._told is not None:
                self._told(sifted.filtered, Ending.FILTERED)
        if not in_flight:
            return
        segment.pending += in_flight
        self._bounds.take(in_flight, in_flight * segment.delivery_bytes)
        self._queue(sifted.taken, sifted.refused)

    def _queue(self, taken: Sequence[Change], refused: Sequence[Refusal]) -> None:
        lanes = self.lanes
        if len(lanes) == 1:
            lanes[0].queue.extend(taken)
        else:
            count = len(lanes)
            queues = [lane.queue for lane in lanes]
            for change in taken:
                # Not hash(): it differs from process to process, and the simulation replays byte for byte.
                queues[crc32(change.key.encode("utf-8", "surrogatepass")) % count].append(change)
        for refusal in refused:
            lanes[crc32(refusal.change.key.encode("utf-8", "surrogatepass")) % len(lanes)].refusals.append(refusal)
        for lane in lanes:
            if lane.queue or lane.refusals:
                lane.wake()

    def finish(self, changes: Sequence[Change], ending: Ending) -> None:
        """Take note that changes came to their end, and move the watermarks of their shards."""
        self.tally.ended(changes, ending)
        ledgers: set[Ledger] = set()
        for segment, finished in Counter(map(_ledger_entry, changes)).items():
            segment.pending -= finished
            assert segment.pending >= 0, "a change was finished twice"
            counts = segment.ledger.counts[self.number]
            counts.in_flight -= finished
            counts.ended[ending] += finished
            self._bounds.release(finished, finished * segment.delivery_bytes)
            ledgers.add(segment.ledger)
        now_ms = self._clock.now_ms()
        for ledger in ledgers:
            ledger.advance(now_ms)
        if self._told is not None:
            self._told(changes, ending)
        self.finished.set()

    async def _refuse(self, refusals: list[Refusal]) -> None:
        now_ms = self._clock.now_ms()
        await self._courier.refuse(
            [Poison(refusal.change, ErrorKind.FILTER, refusal.code, refusal.message, 0, now_ms) for refusal in refusals]
        )

    async def _bury(self, poison: list[Poison]) -> None:
        """Poison changes as dead letters, made durable."""
        now_ms = self._clock.now_ms()
        await self._bury_letters(
            [
                letter_for_change(
                    item.change,
                    pipeline=self._pipeline,
                    route=self.name,
                    kind=item.kind,
                    code=item.code,
                    message=item.message,
                    attempts=item.attempts,
                    first_failed_ms=item.first_failed_ms,
                    last_failed_ms=now_ms,
                    format=self._codec,
                    holds_key=self.policy.on_poison is OnPoison.HOLD_KEY,
                )
                for item in poison
            ]
        )

    async def run_lane(self, lane: Lane) -> None:
        """Run one lane until it is cancelled. Raises StoppedByPoison."""
        try:
            await lane.run()
        except StoppedByPoison as error:
            self.tally.stopped_reason = str(error)
            raise
