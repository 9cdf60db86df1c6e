"""The model parts around a simulated process' pipeline: codec, filter, sink, checkpoints and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change, Record, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.codecs.protocol import Decoded, Undecodable
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.delivery.lane import Refusal
from connector.delivery.route import Sifted
from connector.errors import CheckpointError, CheckpointLost, DeadLetterError, DecodeError, SinkUnavailable, Throttled
from connector.sink import APPLIED, STALE, Needs, Outcome, Rejected, Retry, Semantics
from tests.simulation.world import World


class Killed(Exception):
    """The process does not live any more: nothing that it does has an effect."""


class NoConfig(BaseModel):
    """Models have no options."""


@dataclass
class Life:
    """Whether a process lives; every model part asks before it touches the world."""

    name: str
    alive: bool = True

    def check(self) -> None:
        if not self.alive:
            raise Killed(self.name)


class ModelImages:
    """The model's changes have no images."""

    def matchable(self, image: bytes) -> dict[str, object]:
        return {}

    values = matchable

    def document(self, image: bytes, numbers: object) -> dict[str, object]:
        return {}

    def envelope(self, record: Record, index: int) -> dict[str, object]:
        return {}


class ModelCodec:
    """A record's value is its event's number."""

    name: ClassVar[str] = "model"

    def __init__(self, world: World) -> None:
        self._world = world
        self._images = ModelImages()

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        decoded = Decoded([], [])
        for record in records:
            event = self._world.by_place[shard, record.position]
            if event.undecodable:
                decoded.undecodable.append(Undecodable(record, DecodeError("garbage", "not a change")))
                continue
            decoded.changes.append(
                Change(
                    event_name=event.name,
                    key=event.key,
                    keys={"pk": event.key},
                    shard=shard,
                    record=record,
                    images=self._images,
                    event_id=str(event.number),
                    timestamp_ms=1_700_000_000_000 + event.number // 3,
                )
            )
        return decoded


class ModelSink:
    """A sink of the world, with faults: whole calls fail, single changes fail, batches are half applied."""

    config_model: ClassVar[type[BaseModel]] = NoConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 10
    needs = Needs.NOTHING

    def __init__(self, world: World, life: Life, route: str, place_attributes: frozenset[str]) -> None:
        self.place_attributes = place_attributes
        self.semantics = Semantics.STATE if route in world.states else Semantics.EVENT
        self._world = world
        self._life = life
        self._route = route
        self._writing: set[str] = set()

    async def open(self) -> None:
        self._life.check()
        if self._world.faults.strike(self._world.faults.unavailable):
            raise SinkUnavailable("down at start")

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        keys = {change.key for change in batch}
        assert not keys & self._writing, "two writes at once hold the same key"
        self._writing |= keys
        try:
            return await self._write(batch)
        finally:
            self._writing -= keys

    async def _write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        world, faults = self._world, self._world.faults
        self._life.check()
        world.calls.append((self._route, len(batch)))
        chance = faults.chance
        await asyncio.sleep(chance.random() * (2.0 if faults.strike(faults.slow) else 0.01))
        if faults.strike(faults.unavailable):
            raise SinkUnavailable("down")
        if faults.strike(faults.throttled):
            raise Throttled("too much", after_s=0.2)
        raising = any(world.raised(self._route, world.event_of(change)) for change in batch)
        fails_at = chance.randrange(len(batch)) if raising or faults.strike(faults.raises) else None
        outcomes: list[Outcome] = []
        retried: set[str] = set()
        for place, change in enumerate(batch):
            if place == fails_at or world.raised(self._route, world.event_of(change)):
                raise RuntimeError("something in this batch was wrong")
            if faults.strike(faults.half_applied / 10):
                await asyncio.sleep(0.01)
                self._life.check()
                raise SinkUnavailable("cut off in the middle")
            event = world.event_of(change)
            if change.key in retried or faults.strike(faults.retry):
                retried.add(change.key)
                outcomes.append(Retry("busy"))
            elif world.rejected(self._route, event):
                outcomes.append(Rejected("poison"))
            else:
                self._life.check()
                world.letters_in_a_row[self._life.name, self._route] = 0
                outcomes.append(APPLIED if world.written(self._route, change) else STALE)
        await asyncio.sleep(chance.random() * 0.01)
        self._life.check()
        return outcomes

    async def close(self) -> None:
        pass


class ModelCheckpoints:
    """The world's checkpoints. A process that does not own a shard any more is refused, as a group does it."""

    def __init__(self, world: World, life: Life, generations: Mapping[ShardId, int]) -> None:
        self._world = world
        self._life = life
        self._generations = generations

    async def open(self) -> None:
        self._life.check()

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        return {shard: self._world.checkpoints[shard] for shard in shards if shard in self._world.checkpoints}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        self._life.check()
        await asyncio.sleep(0.001)
        self._life.check()
        if self._world.faults.strike(self._world.faults.checkpoint_fails):
            raise CheckpointError("the store is down")
        current = self._world.generations
        not_ours = [shard for shard in checkpoints if self._generations.get(shard) != current[shard]]
        if not_ours:
            raise CheckpointLost("fenced", shards=not_ours)
        self._world.save(self._life.name, dict(checkpoints))

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        return dict(self._world.checkpoints)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class ModelLetters:
    """The world's dead letters."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def open(self) -> None:
        self._life.check()

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        self._life.check()
        await asyncio.sleep(0.001)
        self._life.check()
        if self._world.faults.strike(self._world.faults.dead_letter_fails):
            raise DeadLetterError("the destination is down")
        self._world.buried(self._life.name, letters)

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        for letter in list(self._world.letters.values()):
            yield StoredLetter(letter)

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def sieve_for(world: World, route: str) -> object:
    """The model's filter: what an event says of the route."""

    def sieve(changes: Sequence[Change]) -> Sifted:
        sifted = Sifted([], [], [])
        taken, filtered, refused = [], [], []
        for change in changes:
            event = world.event_of(change)
            if route in event.filtered_by:
                filtered.append(change)
            elif world.refused(route, event):
                refused.append(Refusal(change, "image_missing", "no image"))
            else:
                taken.append(change.as_removal() if route in event.removed_by else change)
        sifted.taken, sifted.filtered, sifted.refused = taken, filtered, refused
        return sifted

    return sieve
