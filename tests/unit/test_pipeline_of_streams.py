"""A pipeline over a source whose ends and record counts are not known: catching up, lag, and the retention."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from connector.change import Position, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.observe.snapshot import ShardSnapshot
from connector.reporting import snapshot
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.delivery.builders import simulated
from tests.unit.pipeline_parts import ListSource, Works
from tests.unit.test_shards import ToldStore

HOUR_MS = 3_600_000


class StreamLikeSource(ListSource):
    """Says of a shard's end only that reading stands there."""

    positions_count = False
    retention_s = 24 * 3600.0

    def __init__(self, **shards: str) -> None:
        super().__init__(follows=True, **shards)
        self.assigned_all = False
        self.at_tip: set[ShardId] = set()

    async def ends(self) -> Mapping[ShardId, Position]:
        return {shard: self.positions[shard] for shard in self.at_tip if shard in self.positions}


def shards_of(works: Works) -> dict[ShardId, ShardSnapshot]:
    return {shard.shard: shard for shard in snapshot(works.pipeline).shards}


@simulated
async def test_until_caught_up_waits_for_the_tips_and_for_shards_that_are_still_to_come(clock: SimulatedClock) -> None:
    source = StreamLikeSource(a="xyz", b="")
    works = Works(clock, source, until_caught_up=True)
    running = works.start()
    await asyncio.sleep(5)
    assert not running.done()
    source.assigned_all = True
    source.at_tip = {"a"}
    await asyncio.sleep(5)
    assert not running.done(), "of b nobody knows where it ends"
    source.at_tip = {"a", "b"}
    source.assigned_all = False
    await asyncio.sleep(5)
    assert not running.done(), "another shard may come"
    source.assigned_all = True
    await running
    assert works.positions() == {"a": 3}


@simulated
async def test_until_caught_up_ends_where_every_shard_is_finished_and_none_is_owned(clock: SimulatedClock) -> None:
    source = StreamLikeSource()
    works = Works(clock, source, until_caught_up=True)
    running = works.start()
    await asyncio.sleep(5)
    assert not running.done()
    source.assigned_all = True
    await running


@simulated
async def test_lag_is_zero_at_the_tip_and_unknown_elsewhere(clock: SimulatedClock) -> None:
    source = StreamLikeSource(a="xyz", b="xyz")
    works = Works(clock, source)
    works.start()
    source.at_tip = {"a"}
    await asyncio.sleep(10)
    found = shards_of(works)
    assert (found["a"].lag_records, found["a"].lag_ms, found["a"].retention_used) == (0, 0, 0.0)
    assert (found["b"].lag_records, found["b"].end) == (None, None)
    assert not found["b"].positions_count
    source.at_tip = set()
    await asyncio.sleep(10)
    assert shards_of(works)["a"].end is None, "what was an end once is none any more"
    works.pipeline.stop()
    await works.task


@simulated
async def test_a_checkpoint_uses_the_retention_up_while_nothing_says_that_it_is_at_the_tip(
    clock: SimulatedClock,
) -> None:
    store = ToldStore()
    store.saved["a"] = Checkpoint(1, clock=(EPOCH_MS - 6 * HOUR_MS) << 20)
    source = StreamLikeSource(a="x")
    works = Works(clock, source, store=store)
    works.start()
    await asyncio.sleep(1)
    used = shards_of(works)["a"].retention_used
    assert used is not None
    assert 0.25 <= used < 0.26
    source.at_tip = {"a"}
    await asyncio.sleep(6)
    assert shards_of(works)["a"].retention_used == 0.0
    works.pipeline.stop()
    await works.task


@simulated
async def test_a_source_without_a_retention_has_no_such_number(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xyz"))
    works.start()
    await asyncio.sleep(1)
    assert shards_of(works)["a"].retention_used is None
    works.pipeline.stop()
    await works.task
