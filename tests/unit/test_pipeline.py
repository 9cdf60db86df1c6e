"""A whole pipeline between told parts: reading, pausing, catching up, stopping, failing, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from connector.change import Change
from connector.delivery.courier import StoppedByPoison
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.errors import ConfigError, SinkUnavailable, SourceError
from connector.observe.snapshot import PipelineState
from connector.reporting import snapshot
from connector.sink import APPLIED, Outcome, Rejected
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import simulated
from tests.unit.pipeline_parts import ListSource, WatchedSink, Works
from tests.unit.test_shards import ToldStore


async def never(batch: Sequence[Change]) -> Sequence[Outcome]:
    await asyncio.sleep(1_000_000)
    return []


@simulated
async def test_it_delivers_to_every_route_saves_and_stops_when_told(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xyz", b="uv"), WatchedSink(), WatchedSink())
    works.start()
    await asyncio.sleep(5)
    assert works.pipeline.state is PipelineState.RUNNING
    assert works.positions() == {"a": 3, "b": 2}
    works.balance()
    works.pipeline.stop()
    await works.task
    assert [sorted(sink.keys) for sink in works.sinks] == [list("uvxyz")] * 2
    assert works.pipeline.state.value == "stopped"
    works.assert_all_closed()


@simulated
async def test_a_source_that_ends_ends_the_pipeline_when_all_is_delivered_and_saved(clock: SimulatedClock) -> None:
    async def slow(batch: Sequence[Change]) -> Sequence[Outcome]:
        await asyncio.sleep(3)
        return [APPLIED] * len(batch)

    works = Works(clock, ListSource(follows=False, a="xyz"), WatchedSink(slow), checkpoint_every_s=1000)
    await works.start()
    assert works.sinks[0].keys == list("xyz")
    assert works.positions() == {"a": 3}
    assert works.pipeline.state is PipelineState.STOPPED


@simulated
async def test_reading_pauses_at_a_bound_goes_on_being_polled_and_resumes(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="x" * 50), WatchedSink(never), records_max=5, changes_in_flight=10)
    works.start()
    await asyncio.sleep(30)
    assert works.source.told == ["open", "pause"]
    assert works.pipeline.bounds.changes == 10
    assert works.source.reads_while_paused > 10, "a paused source is polled: heartbeats"
    assert snapshot(works.pipeline).source.paused
    works.sinks[0].answer = lambda batch: [APPLIED] * len(batch)
    await asyncio.sleep(60)  # the write that hung times out
    assert works.source.told[:3] == ["open", "pause", "resume"]
    assert works.positions() == {"a": 50}
    assert not snapshot(works.pipeline).source.paused


@simulated
async def test_bounds_by_bytes_pause_too(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="x" * 50), WatchedSink(never), records_max=5, bytes_in_flight=20)
    works.start()
    await asyncio.sleep(30)
    assert works.source.told == ["open", "pause"]
    assert works.pipeline.bounds.bytes == 20


@simulated
async def test_until_caught_up_it_ends_at_the_end_that_was_there_also_where_a_shard_is_empty(
    clock: SimulatedClock,
) -> None:
    works = Works(clock, ListSource(a="xyz", empty="", holes="..."), until_caught_up=True)
    await works.start()
    assert works.sinks[0].keys == list("xyz")
    assert works.positions() == {"a": 3, "holes": 3}
    assert works.pipeline.state is PipelineState.STOPPED


@simulated
async def test_until_caught_up_it_does_not_chase_an_end_that_moves(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xyz"), until_caught_up=True, records_max=1)
    works.start()

    async def write_on() -> None:
        while not works.task.done():
            works.source.shards["a"] += "w"
            await asyncio.sleep(0.001)

    writing = asyncio.ensure_future(write_on())
    await works.task
    await writing
    assert clock.monotonic() < 60


@simulated
async def test_until_caught_up_waits_for_dead_letters_and_retries(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        return [Rejected("no") if change.key == "y" else APPLIED for change in batch]

    works = Works(clock, ListSource(a="xy?z"), WatchedSink(answer), until_caught_up=True)
    await works.start()
    assert sorted(letter.position for letter in works.letters.kept) == [1, 2]
    assert works.positions() == {"a": 4}


@simulated
async def test_a_restart_goes_on_from_the_checkpoint(clock: SimulatedClock) -> None:
    store = ToldStore()
    first = Works(clock, ListSource(follows=False, a="xyz"), store=store)
    await first.start()
    second = Works(clock, ListSource(follows=False, a="xyzuv"), store=store)
    await second.start()
    assert second.sinks[0].keys == list("uv")


@simulated
async def test_a_sink_that_is_down_at_start_is_waited_for(clock: SimulatedClock) -> None:
    sink = WatchedSink()
    sink.down_until_s = 100
    works = Works(clock, ListSource(follows=False, a="xyz"), WatchedSink(), sink)
    works.start()
    await asyncio.sleep(50)
    assert works.sinks[0].keys == list("xyz"), "the other route goes on"
    (waiting,) = [route for route in snapshot(works.pipeline).routes if route.unavailable_since_ms is not None]
    assert (waiting.name, waiting.last_error) == ("route-1", "down at start")
    await works.task
    assert sink.keys == list("xyz")


@simulated
async def test_it_can_be_stopped_while_a_sink_is_down_at_start(clock: SimulatedClock) -> None:
    sink = WatchedSink()
    sink.down_until_s = 1e9
    works = Works(clock, ListSource(a="xyz"), sink, WatchedSink())
    works.start()
    await asyncio.sleep(50)
    works.pipeline.stop()
    await works.task
    assert clock.monotonic() < 50 + 30 + 2
    assert works.pipeline.state is PipelineState.STOPPED
    assert not works.pipeline.drained
    assert works.positions() == {}
    works.assert_all_closed()


@simulated
async def test_a_stop_while_a_sink_is_down_ends_within_the_drain_and_saves_what_is_finished(
    clock: SimulatedClock,
) -> None:
    def down_for_y(batch: Sequence[Change]) -> Sequence[Outcome]:
        if any(change.key == "y" for change in batch):
            raise SinkUnavailable("down")
        return [APPLIED] * len(batch)

    policy = RoutePolicy(lanes=1, batch_size=1)
    works = Works(clock, ListSource(a="xxyx"), WatchedSink(down_for_y), drain_s=20.0, records_max=1, policy=policy)
    works.start()
    await asyncio.sleep(10)
    works.pipeline.stop()
    await works.task
    assert 29 < clock.monotonic() < 32
    assert works.positions() == {"a": 2}
    assert not works.letters.kept
    works.assert_all_closed()


@simulated
async def test_a_wrong_configuration_of_one_sink_closes_all_others(clock: SimulatedClock) -> None:
    sink = WatchedSink()
    sink.open_error = ConfigError("no such index")
    works = Works(clock, ListSource(a="x"), WatchedSink(), sink)
    with pytest.raises(ConfigError):
        await works.start()
    assert works.pipeline.state is PipelineState.FAILED
    assert works.pipeline.reason == "no such index"
    works.assert_all_closed()


@simulated
async def test_one_part_that_cannot_be_closed_does_not_keep_the_others_open(clock: SimulatedClock) -> None:
    first = WatchedSink()
    first.close_error = RuntimeError("?")
    works = Works(clock, ListSource(follows=False, a="x"), first, WatchedSink())
    await works.start()
    works.assert_all_closed()
    assert works.pipeline.state is PipelineState.STOPPED


@pytest.mark.parametrize("error", [SourceError("the offset is gone"), RuntimeError("?")])
def test_a_source_that_fails_ends_everything_and_saves_what_is_finished(error: Exception) -> None:
    @simulated
    async def check(clock: SimulatedClock) -> None:
        works = Works(clock, ListSource(a="xyz"), checkpoint_every_s=1000)
        works.start()
        await asyncio.sleep(5)
        works.source.failure = error
        with pytest.raises(type(error)):
            await works.task
        assert works.pipeline.state is PipelineState.FAILED
        assert works.positions() == {"a": 3}
        works.assert_all_closed()

    check()


@simulated
async def test_a_poison_change_under_stop_fails_the_pipeline_and_is_met_again(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        return [Rejected("no") if change.key == "y" else APPLIED for change in batch]

    store = ToldStore()
    for _ in range(2):
        works = Works(
            clock,
            ListSource(a="xyz"),
            WatchedSink(answer),
            WatchedSink(),
            store=store,
            policy=RoutePolicy(on_poison=OnPoison.STOP, batch_size=1),
            records_max=1,
        )
        with pytest.raises(StoppedByPoison):
            await works.start()
        assert works.pipeline.state is PipelineState.FAILED
        assert "a:1 is poison" in works.pipeline.reason
        assert snapshot(works.pipeline).routes[0].stopped_reason == works.pipeline.reason
        assert works.positions() == {"a": 1}
        assert not works.letters.kept
        works.assert_all_closed()


@simulated
async def test_a_cancelled_pipeline_saves_what_is_finished_and_closes_everything(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xy"), WatchedSink(), WatchedSink(), checkpoint_every_s=1000)
    works.start()
    await asyncio.sleep(5)
    works.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await works.task
    assert works.positions() == {"a": 2}
    works.assert_all_closed()


@simulated
async def test_a_revoked_shard_is_drained_and_saved_before_it_goes(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xy", b="z"), checkpoint_every_s=1000)
    works.start()
    await asyncio.sleep(5)
    await works.source.revoke("a")
    assert works.positions() == {"a": 2}
    assert [shard.shard for shard in snapshot(works.pipeline).shards] == ["b"]


@simulated
async def test_changes_of_a_lost_shard_are_abandoned_and_not_saved(clock: SimulatedClock) -> None:
    sink = WatchedSink()

    def down(batch: Sequence[Change]) -> Sequence[Outcome]:
        raise SinkUnavailable("down")

    sink.answer = down
    works = Works(clock, ListSource(a="xy", b=""), sink)
    works.start()
    await asyncio.sleep(5)
    await works.source.lose("a")
    sink.answer = lambda batch: [APPLIED] * len(batch)
    await asyncio.sleep(5)
    assert works.pipeline.bounds.changes == 0
    assert works.positions() == {}
    changes = {(count.event_name, count.outcome): count.count for count in snapshot(works.pipeline).routes[0].changes}
    assert changes == {("MODIFY", "abandoned"): 2}
    assert sink.keys == []


@simulated
async def test_the_snapshot_shows_lag_while_nothing_is_finished_yet(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xyzu"), WatchedSink(never))
    works.start()
    await asyncio.sleep(20)
    (shard,) = snapshot(works.pipeline).shards
    assert (shard.position, shard.watermark, shard.end, shard.lag_records) == (4, 0, 4, 4)
    assert shard.checkpoint is None
    assert shard.lag_ms is None
    assert shard.routes["route-0"].in_flight == 4
    assert clock.now_ms() - shard.watermark_moved_ms >= 19_000
    works.balance()


@simulated
async def test_the_snapshot_shows_no_lag_when_all_is_done(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="xyz", empty=""))
    works.start()
    await asyncio.sleep(60)
    done, empty = snapshot(works.pipeline).shards
    assert (done.watermark, done.checkpoint, done.end, done.lag_records, done.lag_ms) == (3, 3, 3, 0, 0)
    assert (empty.end, empty.lag_records) == (0, 0)
    for shard in (done, empty):
        assert clock.now_ms() - shard.watermark_moved_ms <= 5000, "an idle shard is not one that stands still"


@simulated
async def test_the_snapshot_counts_undecodable_and_empty_records(clock: SimulatedClock) -> None:
    works = Works(clock, ListSource(a="x?.y"))
    works.start()
    await asyncio.sleep(5)
    seen = snapshot(works.pipeline)
    assert (seen.records_read, seen.records_empty, seen.changes_decoded, seen.undecodable) == (4, 1, 2, {"garbage": 1})
    assert seen.shards[0].routes["decode"].dead_lettered == 1
    assert seen.shards[0].routes["decode"].residue() == 0
    assert seen.in_flight_changes == 0


@simulated
async def test_held_keys_are_released_after_their_letters_are_gone(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        return [Rejected("no") if change.position == 0 else APPLIED for change in batch]

    works = Works(clock, ListSource(a="xx"), WatchedSink(answer), policy=RoutePolicy(on_poison=OnPoison.HOLD_KEY))
    works.start()
    await asyncio.sleep(2)
    assert len(works.letters.kept) == 2
    works.letters.kept.clear()  # replayed by somebody
    await asyncio.sleep(10)
    assert works.pipeline.routes[0].held == {}
    works.source.shards["a"] += "x"
    await asyncio.sleep(2)
    assert works.letters.kept == []
    assert works.positions() == {"a": 3}
