"""A model of the stream API over the truth: pages, iterators that expire, trimming, and every way of failing.

Each process sees it through an api of its own, which dies with it. The model holds readers to the order of the lineage:
whoever asks for an iterator of a shard must have finished the shards before it, as the saved checkpoints say.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connector.change import Record
from connector.checkpoints.protocol import SHARD_END
from connector.sources.streams.api import (
    DataTrimmed,
    Denied,
    IteratorExpired,
    NotFound,
    RecordPage,
    ShardPage,
    Stream,
    StreamShard,
    Throttled,
    Unavailable,
)
from connector.sources.streams.positions import After, AtTimestamp, Latest, Place, TrimHorizon
from tests.simulation.loop import EPOCH_MS
from tests.simulation.streams.truth import TrueRecord, TrueShard, TrueStream, Truth
from tests.simulation.world import BrokenPromise, World


@dataclass
class ApiFaults:
    """How often what goes wrong, of all calls."""

    throttled: float = 0.0
    unavailable: float = 0.0
    denied: float = 0.0
    expired: float = 0.0
    shard_not_found: float = 0.0
    """GetShardIterator does not find a shard that is there."""
    unlisted: float = 0.0
    """A listing leaves out a shard that is there (never twice in a row)."""
    empty: float = 0.2
    """An empty page though there is more."""
    slow: float = 0.0
    latency_s: float = 0.02
    slow_s: float = 2.0
    iterator_lives_s: float = 30.0
    retention_s: float = 86_400.0
    page_shards: int = 100
    page_records: int = 1000


class ModelStreams:
    """The service. What it says depends on the time alone, but for the faults."""

    def __init__(self, truth: Truth, faults: ApiFaults, world: World, now_s: Callable[[], float]) -> None:
        self.truth = truth
        self.faults = faults
        self.world = world
        self.now_s = now_s
        self.calls: dict[str, int] = {}
        self.down = ""
        """While set, every call fails of this."""
        self.forgotten: set[str] = set()
        """Shards whose checkpoints were deleted."""
        self._by_name = truth.shards

    def streams(self) -> list[TrueStream]:
        now = self.now_s()
        return [
            stream
            for stream in self.truth.streams
            if stream.enabled_s <= now < stream.disabled_s + self.faults.retention_s
        ]

    def stream(self, name: str) -> TrueStream:
        for stream in self.streams():
            if stream.name == name:
                return stream
        raise NotFound(f"no stream {name}")

    def listed(
        self, stream: TrueStream, after: str | None, chance: random.Random, left_out: set[str]
    ) -> tuple[list[TrueShard], bool]:
        """A page of the listing, and whether there is more."""
        now = self.now_s()
        there = [
            shard
            for shard in stream.shards.values()
            if shard.opened_s <= now < shard.closed_s + self.faults.retention_s and (after is None or shard.id > after)
        ]
        page = there[: self.faults.page_shards]
        kept = [shard for shard in page if shard is page[-1] or not self._leave_out(shard, chance, left_out)]
        return kept, len(there) > len(page)

    def _leave_out(self, shard: TrueShard, chance: random.Random, left_out: set[str]) -> bool:
        if shard.name in left_out or self.calm or chance.random() >= self.faults.unlisted:
            left_out.discard(shard.name)
            return False
        left_out.add(shard.name)
        return True

    @property
    def calm(self) -> bool:
        return self.world.faults.calm

    def shard(self, stream: Stream, id_: str) -> TrueShard:
        shard = self.stream(stream.name).shards.get(id_)
        now = self.now_s()
        if shard is None or not shard.opened_s <= now < shard.closed_s + self.faults.retention_s:
            raise NotFound(f"no shard {id_} in {stream.name}")
        return shard

    def horizon(self) -> float:
        """What was written before is gone."""
        return self.now_s() - self.faults.retention_s

    def hold_to_lineage(self, shard: TrueShard) -> None:
        """Somebody begins with a shard: everything before it must be finished and saved."""
        streams = [stream.name for stream in self.truth.streams]
        place = streams.index(shard.stream)
        before = [self._by_name[f"{shard.stream}/{parent}"] for parent in shard.parents]
        if not shard.parents and place:
            before = list(self.truth.streams[place - 1].shards.values())
        for one in before:
            saved = self.world.checkpoints.get(one.name)
            if one.name not in self.forgotten and (saved is None or saved.position != SHARD_END):
                raise BrokenPromise(f"{shard.name} is begun before {one.name} is finished ({saved})")

    def forget(self, shards: Sequence[str]) -> None:
        """Checkpoints are deleted: only of what is finished, is listed no more, and has finished children."""
        for name in shards:
            shard, saved = self._by_name[name], self.world.checkpoints.get(name)
            if saved is None or saved.position != SHARD_END:
                raise BrokenPromise(f"{name} is forgotten before it is finished")
            if shard.closed_s + self.faults.retention_s > self.now_s():
                raise BrokenPromise(f"{name} is forgotten while it is listed")
            for child in self.truth.shards.values():
                if child.stream == shard.stream and shard.id in child.parents and child.name not in self.forgotten:
                    end = self.world.checkpoints.get(child.name)
                    if end is None or end.position != SHARD_END:
                        raise BrokenPromise(f"{name} is forgotten before its child {child.name} is finished")
            self.forgotten.add(name)
            del self.world.checkpoints[name]


class ModelApi:
    """One process' view of the service."""

    def __init__(
        self, model: ModelStreams, alive: Callable[[], None], chance: random.Random, *, timestamps: bool
    ) -> None:
        self.has_timestamps = timestamps
        self._model = model
        self._alive = alive
        self._left_out: set[str] = set()
        self._chance = chance

    async def open(self) -> None:
        self._alive()

    async def close(self) -> None:
        pass

    async def streams(self) -> Sequence[Stream]:
        await self._call("streams")
        return [Stream(stream.name, stream.name) for stream in self._model.streams()]

    async def describe(self, stream: Stream, after: str | None) -> ShardPage:
        await self._call("describe")
        true = self._model.stream(stream.name)
        page, more = self._model.listed(true, after, self._chance, self._left_out)
        now = self._model.now_s()
        return ShardPage(
            [StreamShard(shard.id, shard.parents, shard.closed_s <= now) for shard in page],
            page[-1].id if more else None,
            ended=true.disabled_s <= now,
        )

    async def iterator(self, stream: Stream, shard: str, place: Place) -> str:
        await self._call("iterator")
        model = self._model
        if not model.calm and self._chance.random() < model.faults.shard_not_found:
            raise NotFound(f"no shard {shard}")
        true = model.shard(stream, shard)
        model.hold_to_lineage(true)
        records = [record for record in true.records if record.written_s <= model.now_s()]
        horizon = model.horizon()
        match place:
            case After():
                later = [record for record in records if record.position > place.sequence_number]
                gone = [record for record in later if record.written_s < horizon]
                if gone:
                    raise DataTrimmed(f"{shard} after {place.sequence_number}")
                start = place.sequence_number
            case TrimHorizon():
                kept = [record for record in records if record.written_s >= horizon]
                start = kept[0].position - 1 if kept else records[-1].position if records else 0
            case Latest():
                start = records[-1].position if records else 0
            case AtTimestamp():
                since_s = (place.timestamp_ms - EPOCH_MS) / 1000
                older = [record for record in records if record.written_s < since_s]
                start = older[-1].position if older else 0
        return f"{stream.name} {shard} {start} {model.now_s()}"

    async def records(self, iterator: str, limit: int) -> RecordPage:
        await self._call("records")
        model, chance = self._model, self._chance
        stream, id_, start_text, born_text = iterator.split(" ")
        now = model.now_s()
        expired = not model.calm and chance.random() < model.faults.expired
        if expired or now - float(born_text) > model.faults.iterator_lives_s:
            raise IteratorExpired("too old")
        shard = model.shard(Stream(stream, stream), id_)
        start = int(start_text)
        there = [record for record in shard.records if record.position > start and record.written_s <= now]
        if there and there[0].written_s < model.horizon():
            raise DataTrimmed(f"{id_} after {start}")
        empty = not model.calm and chance.random() < model.faults.empty
        page = [] if empty else there[: chance.randint(1, min(limit, model.faults.page_records))]
        if page:
            start = page[-1].position
        at_end = shard.closed_s <= now and len(page) == len(there)
        over = at_end and (model.calm or chance.random() < 0.5)
        behind_ms = 0 if len(page) == len(there) else round((now - there[0].written_s) * 1000) + 1
        return RecordPage(
            [_record(record) for record in page],
            None if over else f"{stream} {id_} {start} {now}",
            behind_ms if self.has_timestamps else None,
        )

    async def _call(self, name: str) -> None:
        model, faults, chance = self._model, self._model.faults, self._chance
        self._alive()
        model.calls[name] = model.calls.get(name, 0) + 1
        slow = not model.calm and chance.random() < faults.slow
        await asyncio.sleep(chance.random() * (faults.slow_s if slow else faults.latency_s))
        self._alive()
        if model.down:
            raise Denied(model.down)
        if model.calm:
            return
        dice = chance.random()
        for rate, error in (
            (faults.throttled, Throttled),
            (faults.unavailable, Unavailable),
            (faults.denied, Denied),
        ):
            if dice < rate:
                raise error(f"{name}: as the model wished")
            dice -= rate


def _record(record: TrueRecord) -> Record:
    return Record(
        position=record.position,
        value=str(record.event.number).encode(),
        timestamp_ms=EPOCH_MS + round(record.written_s * 1000),
    )
