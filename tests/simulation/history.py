"""A seeded history: a world, two processes that share its shards, and everything that goes wrong, until all is at rest.

The same seed gives the same history, byte for byte. ``python -m tests.simulation SEED`` plays one and tells it.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from connector.change import ShardId
from connector.deadletter.envelope import ErrorKind
from connector.delivery.courier import StoppedByPoison, TooManyDeadLetters
from connector.delivery.policy import OnPoison
from connector.pipeline import PipelineOptions
from tests.simulation.chosen import (
    EVENT_ROUTES,
    ROUTES,
    STATE_ROUTES,
    make_events,
    make_faults,
    make_limits,
    make_policy,
)
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run
from tests.simulation.process import Process
from tests.simulation.world import BrokenPromise, Event, World

STOP_S = 120.0
"""How long a stop may take beside its drain: a read, a save and a burial that are under way."""
REST_S = 4 * 3600.0
"""A history that does not come to rest within so much simulated time has got stuck."""


@dataclass
class Told:
    """What happened in a history, in numbers."""

    seed: int
    events: int
    crashes: int = 0
    rebalances: int = 0
    zombies: int = 0
    stops: int = 0
    mended: int = 0
    limited: int = 0
    pauses: int = 0
    letters: int = 0
    calls: int = 0
    simulated_s: float = 0.0


class History:
    """Plays one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        events = make_events(self.chance)
        self.policies = {route: make_policy(self.chance) for route in ROUTES}
        self.undecodable_limits = make_limits(self.chance)
        self.world = World(make_faults(self.chance), events, STATE_ROUTES, EVENT_ROUTES)
        for route, policy in self.policies.items():
            if policy.letter_limits is not None and policy.letter_limits.max_consecutive is not None:
                # Each lane may have a batch of letters under way, and an acceptance that is not counted yet.
                most = policy.lanes * (policy.letter_limits.max_consecutive + policy.batch_size)
                self.world.letters_in_a_row_max[route] = most
        # Of the key, so that it supersedes; or of other attributes, so that every image's place counts.
        self.places = {
            route: self.chance.choice([frozenset(), frozenset({"pk"}), frozenset({"customer"})])
            for route in STATE_ROUTES
        }
        self.world.placed = {route: set() for route, names in self.places.items() if "customer" in names}
        self.told = Told(seed, len(events))
        self.processes: list[Process] = []
        self._names = (f"process-{number}" for number in range(10_000))

    def play(self) -> Told:
        """Run to the end and check the promise. Raises BrokenPromise (or any other AssertionError)."""
        run(self._play(), self.loop)
        return self.told

    async def _play(self) -> None:
        troubles = self.chance.randint(0, 12)
        self._start()
        if self.chance.random() < 0.7:
            self._start()
        self._share_out()
        for _ in range(troubles):
            await self._watch(self.chance.random() * self.chance.choice([0.05, 0.5, 5.0]))
            await self._trouble()
        self.world.faults.calm = True
        if self.chance.random() < 0.3:
            # The rest is a batch job's: it ends by itself when all is done.
            while self.processes:
                await self._stop(self.processes[0])
            self._start(until_caught_up=True)
            self._share_out()
        await self._come_to_rest()
        for process in list(self.processes):
            await self._stop(process)
        self.told.pauses = self.world.pauses
        self.told.letters = len(self.world.letters)
        self.told.calls = len(self.world.calls)
        self.told.simulated_s = self.loop.time()
        self._check_end()

    def _start(self, *, until_caught_up: bool = False) -> None:
        options = PipelineOptions(
            name="orders",
            records_max=self.chance.choice([1, 5, 50]),
            read_wait_s=0.05,
            changes_in_flight=self.chance.choice([1, 20, 10_000]),
            checkpoint_every_s=self.chance.choice([0.02, 0.5]),
            drain_s=self.chance.choice([0.0, 0.1, 30.0]),
            until_caught_up=until_caught_up,
            undecodable_limits=self.undecodable_limits,
        )
        name = next(self._names)
        self.processes.append(Process(name, self.world, self.policies, options, self.clock, places=self.places))

    async def _stop(self, process: Process) -> None:
        """Stop a process in order: it drains within its time, saves, leaves the group and ends."""
        process.pipeline.stop()
        limit_s = process.pipeline.options.drain_s + STOP_S
        await asyncio.wait([process.task], timeout=limit_s)
        if not process.task.done():
            raise BrokenPromise(f"{process.life.name} did not stop within {limit_s} s: {process.pipeline.state}")
        self._bury_dead(process)

    def _bury_dead(self, process: Process) -> None:
        """A process has ended. Where a poison change stopped it, a person mends that change."""
        self._gone(process)
        error = process.task.exception()
        if isinstance(error, TooManyDeadLetters):
            self._lift_limits(process)
        elif isinstance(error, StoppedByPoison):
            self._mend(str(error))
        elif error is not None:
            raise error

    def _gone(self, process: Process) -> None:
        """The group hears that a process is no member any more, also of what it was given and had not taken yet."""
        self.processes.remove(process)
        for shard in [shard for shard, owner in self.world.owner.items() if owner == process.life.name]:
            del self.world.owner[shard]

    def _mend(self, message: str) -> None:
        match = re.search(r"at (\S+):(\d+) is poison", message)
        assert match is not None, message
        event = self.world.by_place[match[1], int(match[2])]
        poisoned = [
            route
            for route in ROUTES
            if self.policies[route].on_poison is OnPoison.STOP and self.world.poison(route, event)
        ]
        # A zombie may have met it before it was mended, and be looked at after.
        known = poisoned or any(number == event.number for _, number in self.world.mended)
        assert known, f"stopped by a change that is no poison: {message}"
        self.world.mended |= {(route, event.number) for route in poisoned}
        self.told.mended += 1

    def _lift_limits(self, process: Process) -> None:
        """A person looks at the letters, finds each of them poison, and lets the rest become letters too."""
        past = [route.name for route in process.pipeline.routes if route.letter_watch.exceeded]
        for name in past:
            self.policies[name] = msgspec.structs.replace(self.policies[name], letter_limits=None)
            self.world.letters_in_a_row_max.pop(name, None)
        if not past:
            self.undecodable_limits = None
        self.told.limited += 1

    def _share_out(self) -> None:
        """Give shards without an owner to processes that live."""
        living = [process for process in self.processes if process.running]
        for shard in sorted(self.world.log):
            if self.world.owner.get(shard) is None and living:
                process = self.chance.choice(living)
                process.source.given.append((shard, self.world.give(shard, process.life.name)))

    async def _watch(self, seconds: float) -> None:
        """Let time pass, looking at the books on the way."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(0.1, max(until - self.loop.time(), 0.001)))
            self._look()

    def _look(self) -> None:
        for process in list(self.processes):
            process.ledgers_balance()
            if process.task.done():
                until_caught_up = process.pipeline.options.until_caught_up
                stopped_by_poison = process.task.exception() is not None
                self._bury_dead(process)
                if stopped_by_poison:
                    self._start(until_caught_up=until_caught_up)
                else:
                    assert until_caught_up, f"{process.life.name} ended by itself"
                    assert not self._owing(), "it ended before it had caught up"
        self._share_out()

    async def _trouble(self) -> None:
        process = self.chance.choice(self.processes)
        match self.chance.choice(["crash", "crash", "move", "move", "zombie", "join", "stop"]):
            case "crash":
                self.told.crashes += 1
                await process.kill()
                self._gone(process)
                self._start()
            case "move":
                self.told.rebalances += 1
                process.source.asked_to_leave |= set(process.source.positions)
            case "zombie":
                self.told.zombies += 1
                owned = [shard for shard, owner in self.world.owner.items() if owner == process.life.name]
                process.lose(owned, self.loop.time() + self.chance.random() * 3)
                process.source.given.clear()
                for shard in owned:
                    del self.world.owner[shard]
                self._start()
                others = [other for other in self.processes if other is not process]
                for shard in owned:
                    other = self.chance.choice(others)
                    other.source.given.append((shard, self.world.give(shard, other.life.name)))
            case "join":
                self._start()
            case "stop":
                self.told.stops += 1
                await self._stop(process)
                self._start()
        self._share_out()

    async def _come_to_rest(self) -> None:
        until = self.loop.time() + REST_S
        while self._owing():
            await self._watch(1.0)
            if self.loop.time() > until:
                raise BrokenPromise(
                    f"stuck: {self.world.checkpoints} of {self.world.ends}, owned by {self.world.owner}"
                )

    def _owing(self) -> list[ShardId]:
        """The shards of which not everything is finished and saved."""
        saved = self.world.checkpoints
        return [shard for shard, end in self.world.ends.items() if shard not in saved or saved[shard].position < end]

    def _check_end(self) -> None:
        """What every sink and the dead letters must hold now, told from the log alone."""
        for route in ROUTES:
            lettered = {letter.position: letter.kind for letter in self.world.letters.values() if letter.route == route}
            expected_letters = {}
            state: dict[str, int | None] = {}
            order: dict[str, list[int]] = {}
            for event, fate in self._fates(route):
                if fate == "letter":
                    expected_letters[event.shard, event.position] = event
                elif fate == "good":
                    state[event.key] = None if event.removes_from(route) else event.number
                    order.setdefault(event.key, []).append(event.number)
            found = {(letter.shard, letter.position) for letter in self.world.letters.values() if letter.route == route}
            if route in self.world.events:
                got = {key: numbers for key, numbers in self.world.events[route].order.items() if numbers}
                wrong = {key: (got.get(key), order.get(key)) for key in got | order if got.get(key) != order.get(key)}
                assert not wrong, f"{route}: events by key (found, expected): {wrong}"
                assert found == set(expected_letters), f"{route}: dead letters {sorted(found)}"
            else:
                items = {key: number for key, (_, number) in self.world.states[route].items.items()}
                off = {
                    key: (items.get(key), state.get(key)) for key in items | state if items.get(key) != state.get(key)
                }
                off = {key: pair for key, pair in off.items() if not self._ran_ahead(route, key)}
                assert not off, f"{route}: items (found, expected): {off}"
                if (placed := self.world.placed.get(route)) is not None:
                    missed = {number for numbers in order.values() for number in numbers} - placed
                    assert not missed, f"{route}: the places of {sorted(missed)} were never written"
                    assert found == set(expected_letters), f"{route}: dead letters {sorted(found)}"
                # A poison change that a good one superseded needs no dead letter; any letter must be of a poison one.
                assert found <= set(expected_letters), f"{route}: {found - set(expected_letters)} are no poison"
            for kind in lettered.values():
                assert kind is not ErrorKind.RETRIES_EXHAUSTED, "a passing failure was dead-lettered"
        undecodable = {(letter.shard, letter.position) for letter in self.world.letters.values() if letter.route == ""}
        wanted = {place for place, event in self.world.by_place.items() if event.undecodable}
        assert undecodable == wanted

    def _ran_ahead(self, route: str, key: str) -> bool:
        """Under ``hold_key`` one process may supersede a poison change by a good later one, and crash or be fenced;
        another meets the poison alone and holds the key. Versions make the replay of that letter harmless; what must
        hold all the same: whatever good came after what the sink holds is among the dead letters."""
        if self.policies[route].on_poison is not OnPoison.HOLD_KEY:
            return False
        version = self.world.states[route].items.get(key, (-1, None))[0]
        later = [
            event
            for event in self.world.by_place.values()
            if event.key == key
            and not (event.undecodable or route in event.filtered_by or self.world.poison(route, event))
            and self.world.versions.get(event.number, version + 1) > version
            and event.position > self._position_of(version, key)
        ]
        return all(self.world.letter(route, event) is not None for event in later)

    def _position_of(self, version: int, key: str) -> int:
        versions = self.world.versions
        places = [event for event in self.world.by_place.values() if event.key == key]
        return max((event.position for event in places if versions.get(event.number) == version), default=-1)

    def _fates(self, route: str) -> Iterator[tuple[Event, str]]:
        """What becomes of each event on a route: good, letter or filtered, from the log alone."""
        hold = self.policies[route].on_poison is OnPoison.HOLD_KEY
        held: set[str] = set()
        for log in self.world.log.values():
            for event in log:
                if event.undecodable or route in event.filtered_by:
                    yield event, "filtered"
                elif self.world.poison(route, event) or event.key in held:
                    if hold and self._surely_lettered(route, event):
                        held.add(event.key)
                    yield event, "letter"
                else:
                    yield event, "good"

    def _surely_lettered(self, route: str, event: Event) -> bool:
        """Under ``hold_key`` a STATE sink's poison change holds its key only if it was not superseded: the letters
        that were written say which. (Whether it was is a matter of how the batches fell.)"""
        return route in self.world.events or route in self.world.placed or self.world.letter(route, event) is not None
