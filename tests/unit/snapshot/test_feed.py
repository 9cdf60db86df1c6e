"""A snapshot at work, against told shards: what is out, what is saved, and when it gives up."""

from __future__ import annotations

import random
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

import pytest

from connector.change import Position, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.errors import SourceError
from connector.snapshot.feed import ATTEMPT_BITS, FeedOptions, SnapshotFeed
from connector.snapshot.segment import PAGES_AHEAD
from connector.snapshot.state import DEMAND
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run
from tests.simulation.parts import Life
from tests.simulation.snapshot_world import ModelScanner, ModelSnapshots, World

PAGE = 5
ITEMS = 40


class ToldShards:
    """The pipeline's shards: finished as far as a test says."""

    def __init__(self) -> None:
        self.finished: dict[ShardId, Position] = {}

    async def assigned(self, shards: Mapping[ShardId, Checkpoint | None]) -> None:
        self.finished |= {shard: checkpoint.position for shard, checkpoint in shards.items() if checkpoint}

    async def revoked(self, shards: Collection[ShardId]) -> None:
        raise NotImplementedError

    async def lost(self, shards: Collection[ShardId]) -> None:
        raise NotImplementedError

    async def ended(self, shards: Collection[ShardId]) -> Mapping[ShardId, Checkpoint]:
        done = [shard for shard in shards if self.finished.get(shard) == SHARD_END]
        for shard in done:
            del self.finished[shard]
        return {shard: Checkpoint(SHARD_END) for shard in done}

    def finished_position(self, shard: ShardId) -> Position:
        return self.finished.get(shard, SHARD_END)


class Desk:
    """A feed of one segment, and what a test does with it."""

    def __init__(self, *, stale_after_s: float | None = None) -> None:
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        self.world = World(random.Random(3), self.clock)
        self.world.faults, self.world.latency_s = 0.0, 0.001
        for number in range(ITEMS):
            self.world.write(f"item-{number:02}")
        self.shards = ToldShards()
        self.stale_after_s = stale_after_s
        self.feed = self.make()

    def make(self) -> SnapshotFeed:
        life = Life("one")
        return SnapshotFeed(
            ModelScanner(self.world, life, segments=1, page_items=PAGE),
            ModelSnapshots(self.world, life),
            FeedOptions(kind=DEMAND, what="orders", segments_at_once=1, stale_after_s=self.stale_after_s),
            clock=self.clock,
            chance=random.Random(0),
        )

    async def begin(self) -> None:
        await self.feed.prepare(once=False, first=False)
        await self.feed.begin()

    async def read(self, seconds: float) -> list[Position]:
        """The positions behind the pages that come in so long."""
        ends = []
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            if await self.feed.settle(self.shards):
                break
            ends += [batch.next_position for batch in self.feed.take(1000)]
            await self.clock.sleep(0.05)
        return ends

    def play(self, main: Coroutine[Any, Any, None]) -> None:
        run(main, self.loop)


def test_no_more_is_read_than_two_pages_ahead_of_what_is_finished() -> None:
    desk = Desk()

    async def main() -> None:
        await desk.begin()
        first = await desk.read(60)
        assert len(first) == PAGES_AHEAD
        (shard,) = desk.shards.finished
        desk.shards.finished[shard] = first[0]
        assert len(await desk.read(60)) == 1
        await desk.feed.close()

    desk.play(main())


def test_what_was_saved_is_where_the_next_attempt_begins_at_positions_of_its_own() -> None:
    desk = Desk()

    async def main() -> None:
        await desk.begin()
        ends = await desk.read(1)
        (shard,) = desk.shards.finished
        await desk.feed.save({shard: Checkpoint(ends[0], clock=77)})
        await desk.feed.close()
        state = desk.world.snapshots[DEMAND]
        saved = desk.world.segments[state.id][0]
        assert (saved.items, saved.pages, saved.clock) == (PAGE, 1, 77)

        desk.feed = desk.make()
        desk.shards = ToldShards()
        await desk.begin()
        again = await desk.read(1)
        assert again[0] == (2 << ATTEMPT_BITS) + PAGE
        status = desk.feed.status()
        assert status is not None
        assert (status.attempt, status.items) == (2, PAGE + 2 * PAGE)
        await desk.feed.close()

    desk.play(main())


def test_it_is_done_when_all_that_was_read_is_finished_and_saved() -> None:
    desk = Desk()

    async def main() -> None:
        await desk.begin()
        while True:
            ends = await desk.read(1)
            if not desk.feed.active:
                break
            (shard,) = desk.shards.finished
            await desk.feed.save({shard: Checkpoint(ends[-1])})
            desk.shards.finished[shard] = ends[-1]
        status = desk.feed.status()
        assert status is not None
        assert (status.state, status.items, status.segments_done) == ("done", ITEMS, 1)
        assert desk.world.snapshots[DEMAND].done
        await desk.feed.close()

    desk.play(main())


def test_one_on_demand_gives_up_where_an_item_waits_for_longer_than_deletions_are_remembered() -> None:
    desk = Desk(stale_after_s=45.0)

    async def main() -> None:
        await desk.begin()
        await desk.read(40)
        with pytest.raises(SourceError, match="goes on where it was"):
            await desk.read(10)
        await desk.feed.close()

    desk.play(main())


def test_beside_the_stream_it_waits_for_as_long_as_a_sink_is_down() -> None:
    desk = Desk()

    async def main() -> None:
        await desk.begin()
        await desk.read(3600)
        await desk.feed.close()

    desk.play(main())
