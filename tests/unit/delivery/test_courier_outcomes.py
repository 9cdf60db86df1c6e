"""Each kind of failure, and its treatment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from connector.change import Change
from connector.deadletter.envelope import ErrorKind
from connector.delivery.counts import Ending
from connector.delivery.policy import RoutePolicy
from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, STALE, Outcome, Rejected, Retry, Semantics
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.delivery.builders import Answer, Bench, ToldSink, change, simulated

QUICK = RoutePolicy(retry_attempts=3, backoff_initial_s=0.01, backoff_max_s=0.1)


def per_change(outcomes: dict[int, Outcome]) -> Answer:
    return lambda batch: [outcomes.get(each.version, APPLIED) for each in batch]


def in_turn(outcomes: Iterator[Outcome]) -> Answer:
    return lambda batch: [next(outcomes) for _ in batch]


@simulated
async def test_a_rejected_change_is_dead_lettered_at_once_and_alone(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(per_change({2: Rejected("mapping", "not a date")})), QUICK)
    await bench.send([change("a", 1), change("b", 2), change("c", 3)])
    (letter,) = bench.letters
    assert bench.sink.calls == [[1, 2, 3]]
    assert (letter.kind, letter.code, letter.message) == (ErrorKind.REJECTED, "mapping", "not a date")
    assert (letter.attempts, letter.position, letter.key, letter.route) == (1, 2, "b", "search")
    assert bench.route.tally.dead_letters == {(ErrorKind.REJECTED, "mapping"): 1}


@simulated
async def test_a_retried_change_is_dead_lettered_when_its_attempts_are_used_up(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(per_change({2: Retry("busy", "shard 3")})), QUICK)
    await bench.send([change("a", 1), change("b", 2)])
    (letter,) = bench.letters
    assert bench.sink.calls == [[1, 2], [2], [2], [2]]
    assert (letter.kind, letter.code, letter.message) == (ErrorKind.RETRIES_EXHAUSTED, "busy", "shard 3")
    assert letter.attempts == 4
    assert letter.first_failed_ms < letter.last_failed_ms
    assert bench.route.tally.retries == {"busy": 4}


@simulated
async def test_a_retry_that_passes_in_time_is_applied(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(in_turn(iter([Retry("busy")] * 3 + [APPLIED]))), QUICK)
    await bench.send([change("a", 1)])
    assert bench.ends() == {1: Ending.APPLIED}
    assert not bench.letters


@simulated
async def test_no_attempts_means_that_the_first_failure_is_the_last(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(per_change({1: Retry("busy")})), RoutePolicy(retry_attempts=0))
    await bench.send([change("a", 1)])
    assert bench.letters[0].attempts == 1
    assert bench.sink.calls == [[1]]


@simulated
async def test_a_change_that_only_waits_for_the_one_before_it_uses_up_no_attempts(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        # As a sink must: behind a Retry, later changes of the same key are not applied.
        return [Retry("busy") if batch[0].version == 1 else APPLIED for _ in batch]

    bench = Bench(clock, ToldSink(answer), QUICK)
    await bench.send([change("a", 1), change("a", 2), change("a", 3)])
    assert [letter.version for letter in bench.letters] == [1]
    assert bench.ends() == {1: Ending.DEAD_LETTERED, 2: Ending.APPLIED, 3: Ending.APPLIED}


@simulated
async def test_a_rejection_after_retries_tells_all_attempts_and_the_first_failure(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(in_turn(iter([Retry("busy"), Retry("busy"), Rejected("no")]))), QUICK)
    await bench.send([change("a", 1)])
    (letter,) = bench.letters
    assert (letter.kind, letter.attempts) == (ErrorKind.REJECTED, 3)
    assert letter.first_failed_ms < letter.last_failed_ms


@simulated
async def test_the_kind_of_a_dead_letter_is_that_of_its_last_failure(clock: SimulatedClock) -> None:
    first = iter([True])

    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        if next(first, False):
            raise OSError("?")
        return [Retry("busy")]

    bench = Bench(clock, ToldSink(answer), QUICK)
    await bench.send([change("a", 1)])
    assert (bench.letters[0].kind, bench.letters[0].code) == (ErrorKind.RETRIES_EXHAUSTED, "busy")


@simulated
async def test_a_change_that_got_too_old_is_not_tried_again(clock: SimulatedClock) -> None:
    policy = RoutePolicy(retry_attempts=1000, backoff_initial_s=1.0, backoff_max_s=1.0, max_age_s=10.0)
    bench = Bench(clock, ToldSink(per_change({1: Retry("busy")})), policy)
    await bench.send([change("a", 1, timestamp_ms=EPOCH_MS)])
    (letter,) = bench.letters
    assert letter.kind is ErrorKind.TOO_OLD
    assert 10 < letter.attempts < 25
    assert 10 < clock.monotonic() < 12


@simulated
async def test_age_alone_dead_letters_nothing_that_the_sink_takes(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), RoutePolicy(max_age_s=1.0))
    await bench.send([change("a", 1, timestamp_ms=EPOCH_MS - 86_400_000)])
    assert bench.ends() == {1: Ending.APPLIED}


@pytest.mark.parametrize("error", [SinkUnavailable("down"), Throttled("too much")])
def test_a_sink_that_is_down_for_long_dead_letters_nothing(error: SinkUnavailable) -> None:
    @simulated
    async def check(clock: SimulatedClock) -> None:
        def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
            if clock.monotonic() < 1800:
                raise error
            return [APPLIED] * len(batch)

        policy = RoutePolicy(retry_attempts=0, max_age_s=60.0, lanes=3)
        bench = Bench(clock, ToldSink(answer), policy)
        await bench.send([change(key, version) for version, key in enumerate("abcabc", 1)])
        assert not bench.letters
        assert set(bench.ends().values()) == {Ending.APPLIED}
        assert len(bench.sink.calls) < 400, "it is not called in a tight loop"

    check()


@simulated
async def test_a_stale_change_is_a_success_by_its_own_name(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(lambda batch: [STALE] * len(batch), semantics=Semantics.STATE), QUICK)
    await bench.send([change("a", 1), change("a", 2)])
    assert bench.ends() == {1: Ending.SUPERSEDED, 2: Ending.STALE}


@simulated
async def test_a_sinks_wish_to_wait_for_one_change_is_heard_up_to_the_longest_wait(clock: SimulatedClock) -> None:
    bench = Bench(
        clock,
        ToldSink(in_turn(iter([Retry("busy", after_s=86_400.0), APPLIED]))),
        RoutePolicy(backoff_initial_s=0.01, backoff_max_s=30.0),
    )
    await bench.send([change("a", 1)])
    assert 29 < clock.monotonic() < 31


@simulated
async def test_a_retry_holds_up_its_own_lane_only(clock: SimulatedClock) -> None:
    slow = RoutePolicy(lanes=4, retry_attempts=5, backoff_initial_s=60.0, backoff_max_s=60.0)
    bench = Bench(clock, ToldSink(per_change({0: Retry("busy")})), slow)
    changes = [change(str(version), version) for version in range(12)]
    bench.accept(changes)
    bench.start()
    await asyncio.sleep(5)
    stuck = next(lane for lane in bench.route.lanes if not lane.queue and bench.bounds.changes)
    assert stuck is not None
    assert 0 < bench.bounds.changes < len(changes)
    assert Counter(bench.ends().values()) == {Ending.APPLIED: len(changes) - bench.bounds.changes}


@simulated
async def test_a_dead_letter_counts_only_when_its_destination_has_acknowledged_it(clock: SimulatedClock) -> None:
    acknowledged = asyncio.Event()

    async def bury(letters: Sequence[object]) -> None:
        await acknowledged.wait()

    bench = Bench(clock, ToldSink(per_change({1: Rejected("no")})), QUICK, bury=bury)
    segment = bench.accept([change("a", 1), change("b", 2)])
    bench.start()
    await asyncio.sleep(60)
    assert bench.ends() == {2: Ending.APPLIED}
    assert segment.pending == 1
    assert bench.ledger.watermark is None
    assert not bench.route.tally.dead_letters
    acknowledged.set()
    await bench.settle()
    assert bench.ends()[1] is Ending.DEAD_LETTERED
    assert bench.ledger.idle
