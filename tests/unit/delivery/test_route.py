"""A route's door and its books: what is taken, filtered and refused, and how each ending is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from connector.change import Change, EventName
from connector.delivery.counts import Ending
from connector.delivery.lane import Refusal
from connector.delivery.policy import RoutePolicy
from connector.delivery.route import Sifted
from connector.sink import APPLIED, STALE, Outcome, Rejected, Semantics
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Bench, ToldSink, change, ledger, simulated

INSERT, MODIFY, REMOVE = EventName.INSERT, EventName.MODIFY, EventName.REMOVE


def by_version(changes: Sequence[Change]) -> Sifted:
    """10 and more is filtered, 20 and more refused, 30 and more goes on as a removal."""
    sifted = Sifted([], [], [])
    taken, filtered, refused = [], [], []
    for each in changes:
        if each.version >= 30:
            taken.append(each.as_removal())
        elif each.version >= 20:
            refused.append(Refusal(each, "image_missing", ""))
        elif each.version >= 10:
            filtered.append(each)
        else:
            taken.append(each)
    sifted.taken, sifted.filtered, sifted.refused = taken, filtered, refused
    return sifted


@simulated
async def test_every_ending_is_counted_by_event_name(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        outcomes: dict[int, Outcome] = {3: STALE, 4: Rejected("no")}
        return [outcomes.get(each.version, APPLIED) for each in batch]

    bench = Bench(clock, ToldSink(answer, semantics=Semantics.STATE), sieve=by_version)
    lost = ledger("log/1")
    bench.accept([change("z", 9, name=REMOVE, shard="log/1")], into=lost)
    lost.lost = True
    await bench.send(
        [
            change("a", 1, name=INSERT),
            change("a", 2, name=MODIFY),
            change("b", 3, name=REMOVE),
            change("c", 4, name=INSERT),
            change("d", 10, name=REMOVE),
            change("d", 11, name=MODIFY),
            change("e", 20, name=MODIFY),
            change("f", 30, name=MODIFY),
        ]
    )
    assert bench.route.tally.changes == {
        (INSERT, Ending.SUPERSEDED): 1,
        (MODIFY, Ending.APPLIED): 1,
        (REMOVE, Ending.STALE): 1,
        (INSERT, Ending.DEAD_LETTERED): 1,
        (REMOVE, Ending.FILTERED): 1,
        (MODIFY, Ending.FILTERED): 1,
        (MODIFY, Ending.DEAD_LETTERED): 1,
        (REMOVE, Ending.APPLIED): 1,  # a removal by `where` is one to the sink
        (REMOVE, Ending.ABANDONED): 1,
    }
    counts = bench.ledger.counts[0]
    assert (counts.read, counts.in_flight, counts.residue()) == (8, 0, 0)
    assert lost.counts[0].ended[Ending.ABANDONED] == 1


@simulated
async def test_what_is_filtered_holds_up_nothing_and_takes_no_room(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), sieve=by_version)
    bench.accept([change("a", 10), change("a", 11)])
    assert bench.bounds.changes == 0
    assert bench.ledger.idle
    assert bench.ends() == {10: Ending.FILTERED, 11: Ending.FILTERED}


@simulated
async def test_the_books_balance_while_changes_are_in_flight(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), sieve=by_version)
    bench.accept([change("a", 1), change("b", 10), change("c", 20)])
    counts = bench.ledger.counts[0]
    assert (counts.read, counts.in_flight, counts.residue()) == (3, 2, 0)
    assert bench.bounds.changes == 2


@simulated
async def test_a_key_keeps_to_one_lane_and_lanes_share_the_keys(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), RoutePolicy(lanes=4))
    bench.accept([change(f"key-{version % 40}", version) for version in range(400)])
    lanes_of: dict[str, set[int]] = {}
    for number, lane in enumerate(bench.route.lanes):
        assert lane.queue, "no lane stays empty"
        for each in lane.queue:
            lanes_of.setdefault(each.key, set()).add(number)
    assert all(len(numbers) == 1 for numbers in lanes_of.values())
    bench.start()
    await bench.settle()
    assert bench.sink.most_under_way > 1


@simulated
async def test_a_refusal_waits_in_the_lane_of_its_key(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), RoutePolicy(lanes=4), sieve=by_version)
    bench.accept([change("key-7", 1), change("key-7", 20)])
    lanes = [lane for lane in bench.route.lanes if lane.queue or lane.refusals]
    assert len(lanes) == 1
    assert lanes[0].queue
    assert lanes[0].refusals


@simulated
async def test_a_key_that_is_no_unicode_has_a_lane_all_the_same(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), RoutePolicy(lanes=2))
    await bench.send([change("\ud800", 1)])
    assert bench.ends() == {1: Ending.APPLIED}


@simulated
async def test_a_lane_that_is_cancelled_leaves_its_changes_unfinished(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink())
    bench.accept([change("a", 1)])
    bench.start()
    await asyncio.sleep(0)
    for lane in bench.lanes:
        lane.cancel()
    await asyncio.gather(*bench.lanes, return_exceptions=True)
    assert bench.ends() == {}
    assert not bench.ledger.idle
