"""What truly happened in a simulated table: its writes in time, and the shards of its streams that they went to.

All of it is settled by the seed before anything is read. Shards split, are merged and roll over; the stream is disabled
and another one enabled; after a while what is old is trimmed.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from connector.change import EventName, ShardId
from tests.simulation.world import Event

HASHES = 1024
TABLE = "orders"


@dataclass
class TrueRecord:
    position: int
    written_s: float
    event: Event


@dataclass
class TrueShard:
    """One shard: a range of hashes for a span of time."""

    stream: str
    id: str
    parents: tuple[str, ...]
    low: int
    high: int
    opened_s: float
    closed_s: float = float("inf")
    records: list[TrueRecord] = field(default_factory=list)

    @property
    def name(self) -> ShardId:
        return f"{self.stream}/{self.id}"


@dataclass
class TrueStream:
    name: str
    enabled_s: float
    disabled_s: float = float("inf")
    shards: dict[str, TrueShard] = field(default_factory=dict)


@dataclass
class Shape:
    """What kind of history it is."""

    shards: int = 2
    writes: int = 100
    keys: int = 20
    bursts: int = 2
    burst_s: float = 20.0
    quiet_s: float = 0.0
    turnover_every_s: float = 8.0
    """How often, on average, some shard splits, rolls over or is merged."""
    merges: bool = False
    switches: int = 0
    """How often the stream is disabled and another one enabled."""
    routes: tuple[str, ...] = ()


class Truth:
    """The table's whole history."""

    def __init__(self, chance: random.Random, shape: Shape) -> None:
        self.streams: list[TrueStream] = []
        self.events: list[Event] = []
        self.written_s: dict[int, float] = {}
        self._chance = chance
        self._shape = shape
        self._number = 0
        self._sequence = 10**21
        self._now = 0.0
        self._enable()
        self._live()

    @property
    def end_s(self) -> float:
        """When the last thing happened."""
        return self._now

    @property
    def shards(self) -> dict[ShardId, TrueShard]:
        return {shard.name: shard for stream in self.streams for shard in stream.shards.values()}

    def _live(self) -> None:
        chance, shape = self._chance, self._shape
        turnover_s = chance.expovariate(1 / shape.turnover_every_s)
        for burst in range(shape.bursts):
            for _ in range(shape.writes // shape.bursts):
                self._now += chance.expovariate(shape.writes / shape.bursts / shape.burst_s)
                while turnover_s < self._now:
                    self._turn_over(turnover_s)
                    turnover_s += chance.expovariate(1 / shape.turnover_every_s)
                self._write()
            if burst < shape.switches:
                self._switch()
            if burst < shape.bursts - 1:
                until = self._now + shape.quiet_s
                while turnover_s < until:
                    self._turn_over(turnover_s)
                    turnover_s += chance.expovariate(1 / shape.turnover_every_s) * 4
                self._now = until

    def _write(self) -> None:
        chance, stream = self._chance, self.streams[-1]
        key = f"key-{chance.randrange(chance.choice([1, 3, self._shape.keys]))}"
        point = hash_of(key)
        (shard,) = [each for each in stream.shards.values() if each.low <= point < each.high and self._is_open(each)]
        self._sequence += chance.choice([1, 1, 2, 1000, 10**9])
        event = Event(
            shard=shard.name,
            position=self._sequence,
            key=key,
            name=chance.choice([EventName.INSERT, EventName.MODIFY, EventName.REMOVE]),
            number=len(self.events),
            filtered_by=frozenset(route for route in self._shape.routes if chance.random() < 0.1),
        )
        self.events.append(event)
        self.written_s[event.number] = self._now
        shard.records.append(TrueRecord(self._sequence, self._now, event))

    def _is_open(self, shard: TrueShard) -> bool:
        return shard.closed_s == float("inf")

    def _turn_over(self, at_s: float) -> None:
        chance, stream = self._chance, self.streams[-1]
        open_shards = sorted(
            (each for each in stream.shards.values() if self._is_open(each)), key=lambda each: each.low
        )
        shard = chance.choice(open_shards)
        neighbours = [each for each in open_shards if each.low == shard.high]
        how = chance.choice(["roll", "roll", "split", "merge" if self._shape.merges and neighbours else "roll"])
        if how == "merge":
            (other,) = neighbours
            shard.closed_s = other.closed_s = at_s
            self._open(stream, (shard.id, other.id), shard.low, other.high, at_s)
        elif how == "split" and shard.high - shard.low > 1:
            middle = chance.randrange(shard.low + 1, shard.high)
            shard.closed_s = at_s
            self._open(stream, (shard.id,), shard.low, middle, at_s)
            self._open(stream, (shard.id,), middle, shard.high, at_s)
        else:
            shard.closed_s = at_s
            self._open(stream, (shard.id,), shard.low, shard.high, at_s)

    def _enable(self) -> None:
        stream = TrueStream(f"{TABLE}/label-{len(self.streams):03}", self._now)
        self.streams.append(stream)
        edges = [HASHES * number // self._shape.shards for number in range(self._shape.shards + 1)]
        for low, high in itertools.pairwise(edges):
            self._open(stream, (), low, high, self._now)

    def _switch(self) -> None:
        """What is written while the stream is disabled is in no stream: nothing is, here."""
        stream = self.streams[-1]
        stream.disabled_s = self._now
        for shard in stream.shards.values():
            shard.closed_s = min(shard.closed_s, self._now)
        self._now += self._chance.random() * 5
        self._enable()

    def _open(self, stream: TrueStream, parents: tuple[str, ...], low: int, high: int, at_s: float) -> None:
        self._number += 1
        shard = TrueShard(stream.name, f"shard-{self._number:05}", parents, low, high, at_s)
        stream.shards[shard.id] = shard


def hash_of(key: str) -> int:
    """Where a key lies, the same in every process."""
    return int(key.split("-")[1]) * 397 % HASHES
