"""The breaker on dead letters: what counts, in which order, and what happens past a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from connector.change import Change
from connector.deadletter.envelope import ErrorKind
from connector.delivery.counts import Ending
from connector.delivery.courier import TooManyDeadLetters
from connector.delivery.letter_limits import LetterWatch
from connector.delivery.policy import LetterLimits, OnPoison, RoutePolicy
from connector.sink import APPLIED, STALE, Outcome, Rejected, Retry, Semantics
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Answer, Bench, ToldSink, change, simulated
from tests.unit.delivery.test_courier_poison import refusing, rejecting

THREE = LetterLimits(max_consecutive=3, ratio_min=10)
A_THIRD = LetterLimits(max_ratio=1 / 3, window_s=60, ratio_min=10)


def policy(limits: LetterLimits | None, **more: object) -> RoutePolicy:
    plain = {"retry_attempts": 0, "backoff_initial_s": 0.01, "backoff_max_s": 0.1, "letter_limits": limits}
    return RoutePolicy(**{**plain, **more})  # type: ignore[arg-type]


def rejecting_all_but(*good: int) -> Answer:
    return lambda batch: [APPLIED if each.version in good else Rejected("no") for each in batch]


def said(watch: LetterWatch) -> str:
    return watch.exceeded


@simulated
async def test_one_more_in_a_row_than_allowed_is_too_many(clock: SimulatedClock) -> None:
    watch = LetterWatch(THREE, clock)
    watch.judged([False, False, False])
    assert not watch.exceeded
    watch.judged([False])
    assert said(watch) == "4 in a row, max_consecutive is 3"


@simulated
async def test_what_is_accepted_in_between_breaks_the_row_in_the_order_of_the_verdicts(clock: SimulatedClock) -> None:
    watch = LetterWatch(THREE, clock)
    watch.judged([False, False, False, True, False, False, False])
    assert not watch.exceeded
    watch.accepted(1)
    watch.judged([False, False, False])
    assert (said(watch), watch.in_a_row) == ("", 3)
    watch.judged([False, True])
    assert said(watch), "four stood in a row, whatever came after them"
    assert watch.in_a_row == 0


@simulated
async def test_nothing_is_no_acceptance(clock: SimulatedClock) -> None:
    watch = LetterWatch(THREE, clock)
    watch.judged([False, False, False])
    watch.accepted(0)
    watch.judged([])
    assert watch.in_a_row == 3


@simulated
async def test_a_ratio_is_judged_once_enough_was_judged(clock: SimulatedClock) -> None:
    watch = LetterWatch(A_THIRD, clock)
    watch.judged([False] * 9)
    assert not watch.exceeded
    watch.judged([False])
    assert said(watch) == "10 of the last 10 (100.0%, within 60 s), max_ratio is 0.333333"


@simulated
async def test_a_ratio_that_is_just_reached_is_allowed(clock: SimulatedClock) -> None:
    watch = LetterWatch(LetterLimits(max_ratio=0.25, ratio_min=10), clock)
    watch.accepted(75)
    watch.judged([False] * 25)
    assert (said(watch), watch.ratio) == ("", 0.25)
    watch.judged([False])
    assert watch.exceeded


@simulated
async def test_what_was_long_ago_hides_nothing(clock: SimulatedClock) -> None:
    watch = LetterWatch(A_THIRD, clock)
    watch.accepted(1_000_000)
    await asyncio.sleep(62)
    assert watch.ratio == 0.0
    watch.accepted(15)
    watch.judged([False] * 8)
    assert watch.exceeded


@simulated
async def test_the_window_moves_on_part_by_part(clock: SimulatedClock) -> None:
    watch = LetterWatch(A_THIRD, clock)
    for _ in range(600):  # ten minutes, one in five
        watch.accepted(4)
        watch.judged([False])
        await asyncio.sleep(1)
    assert not watch.exceeded
    assert watch.ratio == pytest.approx(0.2)
    assert watch._accepted + watch._poison <= 62 * 5, "what is older than the window is let go"


@simulated
async def test_past_a_limit_nothing_more_is_dead_lettered_and_the_route_says_why(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting_all_but()), policy(THREE, batch_size=2))
    with pytest.raises(TooManyDeadLetters, match=r"4 in a row, max_consecutive is 3; the last reason was rejected, no"):
        await bench.send([change("a", version) for version in range(1, 9)])
    assert [letter.version for letter in bench.letters] == [1, 2]
    assert bench.ends() == {1: Ending.DEAD_LETTERED, 2: Ending.DEAD_LETTERED}
    assert bench.ledger.finished_position == 0, "what was not buried is read again after a restart"
    assert "Nothing more is dead-lettered until a restart" in bench.route.tally.stopped_reason


@simulated
async def test_what_was_good_in_the_batch_that_stops_the_route_is_finished(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting_all_but(1, 6)), policy(THREE))
    with pytest.raises(TooManyDeadLetters):
        await bench.send([change(f"key-{version}", version) for version in range(1, 7)])
    assert bench.ends() == {1: Ending.APPLIED, 6: Ending.APPLIED}
    assert not bench.letters


@simulated
async def test_poison_here_and_there_stops_nothing(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(*range(0, 60, 2))), policy(THREE))
    await bench.send([change(f"key-{version}", version) for version in range(60)])
    assert len(bench.letters) == 30


@simulated
async def test_a_change_that_is_there_already_is_accepted_and_one_that_is_tried_again_is_neither(
    clock: SimulatedClock,
) -> None:
    tries: dict[int, int] = {}

    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for each in batch:
            tries[each.version] = tries.get(each.version, 0) + 1
            if each.version == 50:
                outcomes.append(STALE)
            elif each.version == 40 and tries[40] < 3:
                outcomes.append(Retry("busy"))
            else:
                outcomes.append(APPLIED if each.version == 40 else Rejected("no"))
        return outcomes

    bench = Bench(clock, ToldSink(answer), policy(THREE, retry_attempts=5))
    await bench.send([change(f"key-{version}", version) for version in (1, 2, 3, 50, 4, 40, 5, 6)])
    assert bench.route.letter_watch.in_a_row == 0, "the one that was tried again was accepted in the end"
    assert len(bench.letters) == 6


@simulated
async def test_changes_held_behind_a_letter_are_no_failures_of_their_own(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(1)), policy(THREE, on_poison=OnPoison.HOLD_KEY))
    await bench.send([change("a", version) for version in range(1, 50)])
    assert [letter.kind for letter in bench.letters] == [ErrorKind.REJECTED] + [ErrorKind.HELD] * 48
    assert bench.route.letter_watch.in_a_row == 1


@simulated
async def test_what_a_filter_cannot_judge_counts(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), policy(THREE), sieve=refusing(1, 2, 3, 4))  # type: ignore[arg-type]
    with pytest.raises(TooManyDeadLetters, match="filter, image_missing"):
        await bench.send([change("a", version) for version in range(1, 5)])
    assert not bench.letters


@simulated
async def test_changes_that_bisecting_found_count(clock: SimulatedClock) -> None:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        raise RuntimeError("broken mapping")

    bench = Bench(clock, ToldSink(answer), policy(THREE))
    with pytest.raises(TooManyDeadLetters, match="unknown, RuntimeError"):
        await bench.send([change(f"key-{version}", version) for version in range(1, 9)])
    assert len(bench.letters) == 3


@simulated
async def test_superseded_changes_are_judged_only_where_one_stands_in(clock: SimulatedClock) -> None:
    sink = ToldSink(rejecting_all_but(), semantics=Semantics.STATE)
    bench = Bench(clock, sink, policy(THREE))
    with pytest.raises(TooManyDeadLetters):
        await bench.send([change("a", version) for version in range(1, 9)])
    assert [letter.version for letter in bench.letters] == [8, 7, 6]


@simulated
async def test_without_limits_a_route_dead_letters_whatever_is_poison(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting_all_but()), policy(None))
    await bench.send([change(f"key-{version}", version) for version in range(500)])
    assert len(bench.letters) == 500
    assert (bench.route.letter_watch.in_a_row, bench.route.letter_watch.ratio) == (0, 0.0)


@simulated
async def test_unlimited_attempts_are_without_end_but_not_without_age(clock: SimulatedClock) -> None:
    busy = ToldSink(lambda batch: [Retry("busy") for _ in batch])
    bench = Bench(clock, busy, policy(None, retry_attempts=None, max_age_s=300.0))
    await bench.send([change("a", 1)])
    assert [letter.kind for letter in bench.letters] == [ErrorKind.TOO_OLD]
    assert len(busy.calls) > 1000
