"""The world of a simulated history: what outlives a process. A log, a consumer group, sinks, checkpoints, dead letters.

Everything here is truth: processes may crash, be fenced or be slow, and the promise is checked against what is here.
Faults come from one seeded ``Faults`` that every part asks before it does something.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from connector.change import Change, EventName, Record, RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.deadletter.envelope import DeadLetter, ErrorKind


@dataclass(frozen=True)
class Event:
    """One change of the model's log, and what each route's sink will make of it."""

    shard: ShardId
    position: int
    key: str
    name: EventName
    number: int
    """The event's number, over all shards: what the item's value becomes."""
    rejected_by: frozenset[str] = frozenset()
    """Routes whose sink answers Rejected for it."""
    raised_by: frozenset[str] = frozenset()
    """Routes whose sink raises when it is in the batch."""
    filtered_by: frozenset[str] = frozenset()
    """Routes whose filter drops it."""
    refused_by: frozenset[str] = frozenset()
    """Routes whose filter cannot judge it."""
    removed_by: frozenset[str] = frozenset()
    """STATE routes whose filter makes a removal of it (``where``)."""
    undecodable: bool = False

    def removes_from(self, route: str) -> bool:
        """True where the item is not in this route's sink after the change."""
        return self.name is EventName.REMOVE or route in self.removed_by


@dataclass
class Faults:
    """How often what goes wrong, and the one source of chance."""

    chance: random.Random
    unavailable: float = 0.0
    throttled: float = 0.0
    retry: float = 0.0
    raises: float = 0.0
    slow: float = 0.0
    checkpoint_fails: float = 0.0
    dead_letter_fails: float = 0.0
    half_applied: float = 0.0
    calm: bool = False
    """At the end of a history nothing goes wrong any more, so that it can come to rest."""

    def strike(self, rate: float) -> bool:
        return not self.calm and self.chance.random() < rate


class BrokenPromise(AssertionError):
    """The promise does not hold."""


@dataclass
class StateSink:
    """A STATE sink's data: the last write of each key that its version guard let in."""

    items: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """key → (version, the event's number or None for a removed item)"""

    def apply(self, change: Change, event: Event) -> bool:
        version = self.items.get(change.key, (-1, None))[0]
        if change.version < version:
            return False
        self.items[change.key] = (change.version, None if change.event_name is EventName.REMOVE else event.number)
        return True


@dataclass
class EventSink:
    """An EVENT sink's data: each event once, in the order of arrival."""

    order: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    numbers: set[int] = field(default_factory=set)

    def apply(self, change: Change, event: Event) -> bool:
        if event.number in self.numbers:
            return False
        self.numbers.add(event.number)
        self.order[change.key].append(event.number)
        return True


class World:
    """Everything that outlives a process."""

    def __init__(self, faults: Faults, events: list[Event], state_routes: list[str], event_routes: list[str]) -> None:
        self.faults = faults
        self.log: dict[ShardId, list[Event]] = defaultdict(list)
        for event in events:
            self.log[event.shard].append(event)
        self.by_place = {(event.shard, event.position): event for event in events}
        self.ends = {shard: log[-1].position + 1 for shard, log in self.log.items()}
        self.states = {route: StateSink() for route in state_routes}
        self.events = {route: EventSink() for route in event_routes}
        self.letters: dict[str, DeadLetter] = {}
        self.checkpoints: dict[ShardId, Checkpoint] = {}
        self.owner: dict[ShardId, str] = {}
        """Which process the consumer group says owns a shard."""
        self.generations: dict[ShardId, int] = defaultdict(int)
        """How often a shard was given to somebody: a commit of an earlier generation is refused."""
        self.versions: dict[int, int] = {}
        self.placed: dict[str, set[int]] = {}
        """By STATE route whose places hang on more than the key: the events that were written. All of them must be."""
        self.mended: set[tuple[str, int]] = set()
        """Routes and events that were poison until a person saw to it (``on_poison: stop``)."""
        self.letters_in_a_row_max: dict[str, int] = {}
        """By route with limits: how many letters one process may write with nothing accepted in between."""
        self.letters_in_a_row: dict[tuple[str, str], int] = defaultdict(int)
        self.pauses = 0
        self.calls: list[tuple[str, int]] = []

    @property
    def routes(self) -> list[str]:
        return [*self.states, *self.events]

    def give(self, shard: ShardId, process: str) -> int:
        """The group gives a shard to a process; returns the generation."""
        self.owner[shard] = process
        self.generations[shard] += 1
        return self.generations[shard]

    def _is(self, marked: frozenset[str], route: str, event: Event) -> bool:
        return route in marked and (route, event.number) not in self.mended

    def rejected(self, route: str, event: Event) -> bool:
        return self._is(event.rejected_by, route, event)

    def raised(self, route: str, event: Event) -> bool:
        return self._is(event.raised_by, route, event)

    def refused(self, route: str, event: Event) -> bool:
        return self._is(event.refused_by, route, event)

    def poison(self, route: str, event: Event) -> bool:
        """True where the change can never get into this route's sink, as things are."""
        return self.rejected(route, event) or self.raised(route, event) or self.refused(route, event)

    def event_of(self, change: Change) -> Event:
        return self.by_place[change.shard, change.position]

    def records(self, shard: ShardId, position: int, count: int) -> RecordBatch | None:
        """The next records of a shard; positions are sparse, as compaction and transactions make them."""
        found = [event for event in self.log[shard] if event.position >= position][:count]
        if not found:
            end = self.ends[shard]
            return RecordBatch(shard, [], end) if position < end else None
        records = [
            Record(position=event.position, value=str(event.number).encode(), timestamp_ms=1_700_000_000_000)
            for event in found
        ]
        return RecordBatch(shard, records, found[-1].position + 1)

    def buried(self, process: str, letters: Sequence[DeadLetter]) -> None:
        """A process made letters durable: no route past its limit does that."""
        for letter in letters:
            self.letters.setdefault(letter.id, letter)
            if letter.kind in (ErrorKind.HELD, ErrorKind.FILTER) or letter.route not in self.letters_in_a_row_max:
                continue
            self.letters_in_a_row[process, letter.route] += 1
            if self.letters_in_a_row[process, letter.route] > self.letters_in_a_row_max[letter.route]:
                raise BrokenPromise(f"{process} went on dead-lettering on {letter.route}")

    def written(self, route: str, change: Change) -> bool:
        """A sink is about to hold this change: note its version, which must be the same at every replay."""
        event = self.event_of(change)
        known = self.versions.setdefault(event.number, change.version)
        if known != change.version:
            raise BrokenPromise(f"event {event.number} was stamped {known} and then {change.version}")
        if route in self.placed:
            self.placed[route].add(event.number)
        sink = self.states.get(route) or self.events[route]
        return sink.apply(change, event)

    def letter(self, route: str, event: Event) -> DeadLetter | None:
        for letter in self.letters.values():
            if (letter.route, letter.shard, letter.position) == (route, event.shard, event.position):
                return letter
        return None

    def save(self, process: str, checkpoints: dict[ShardId, Checkpoint]) -> None:
        """A process saves: everything before each position must be finished, for every route."""
        lettered = {(letter.route, letter.shard, letter.position) for letter in self.letters.values()}
        for shard, checkpoint in checkpoints.items():
            before = self.checkpoints.get(shard)
            start = before.position if before else 0
            if checkpoint.position < start:
                raise BrokenPromise(f"{process} moved the checkpoint of {shard} back")
            for event in self.log[shard]:
                if start <= event.position < checkpoint.position:
                    self._check_finished(event, lettered)
            self.checkpoints[shard] = checkpoint

    def _check_finished(self, event: Event, lettered: set[tuple[str, str, int]]) -> None:
        if event.undecodable:
            if ("", event.shard, event.position) not in lettered:
                raise BrokenPromise(f"{event} was checkpointed, undecodable and not dead-lettered")
            return
        for route in self.routes:
            if route in event.filtered_by or (route, event.shard, event.position) in lettered:
                continue
            if route in self.events:
                done = event.number in self.events[route].numbers
            elif route in self.placed:
                done = event.number in self.placed[route]
            else:
                number = self.versions.get(event.number)
                version = self.states[route].items.get(event.key, (-1, None))[0]
                # A superseded change was never written and may have no known version: a later one of its key counts.
                later = [
                    other
                    for other in self.log[event.shard]
                    if other.key == event.key and other.position >= event.position
                ]
                reached = [self.versions[other.number] for other in later if other.number in self.versions]
                done = version >= (number if number is not None else min(reached, default=2**63))
            if not done:
                raise BrokenPromise(f"{event} was checkpointed before {route} had it")
