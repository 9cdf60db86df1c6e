"""A batch that raises is taken apart, in order, at a known price."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import ceil, log2

import pytest

from connector.change import Change
from connector.deadletter.envelope import ErrorKind
from connector.delivery.counts import Ending
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.errors import SinkUnavailable
from connector.sink import APPLIED, Outcome, Semantics
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Answer, Bench, ToldSink, change, in_simulation, simulated

ATTEMPTS = 2
POLICY = RoutePolicy(retry_attempts=ATTEMPTS, backoff_initial_s=0.001, backoff_max_s=0.01)


def raising_for(*poison: int) -> Answer:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        if any(each.version in poison for each in batch):
            raise RuntimeError("something in this batch was wrong")
        return [APPLIED] * len(batch)

    return answer


@pytest.mark.parametrize("size", range(1, 65))
def test_one_poison_change_costs_no_more_calls_than_promised_wherever_it_is(size: int) -> None:
    async def check(clock: SimulatedClock) -> None:
        for place in range(size):
            bench = Bench(clock, ToldSink(raising_for(place)), POLICY)
            await bench.send([change(str(version), version) for version in range(size)])
            alone = bench.sink.calls.count([place])
            assert alone == (1 + ATTEMPTS), "the poison's own retries"
            first_alone = 0 if size == 1 else 1
            others = len(bench.sink.calls) - (alone - first_alone)
            assert others <= (0 if size == 1 else 1 + 2 * ceil(log2(size))), f"poison at {place} of {size}"
            ends = bench.ends()
            assert ends.pop(place) is Ending.DEAD_LETTERED
            assert set(ends.values()) <= {Ending.APPLIED}
            assert len(ends) == size - 1
            for lane in bench.lanes:
                lane.cancel()

    in_simulation(check)


@simulated
async def test_the_dead_letter_of_a_change_that_raises_tells_what_was_raised_and_how_often(
    clock: SimulatedClock,
) -> None:
    bench = Bench(clock, ToldSink(raising_for(2)), POLICY)
    await bench.send([change(str(version), version) for version in range(4)])
    (letter,) = bench.letters
    assert (letter.kind, letter.code, letter.attempts) == (ErrorKind.UNKNOWN, "RuntimeError", 1 + ATTEMPTS)
    assert letter.message == "something in this batch was wrong"
    assert letter.first_failed_ms < letter.last_failed_ms
    assert bench.route.tally.bisections == 2
    assert "wrong" not in bench.route.tally.last_error, "a foreign exception's text may hold attribute values"


@simulated
async def test_parts_are_written_in_the_batchs_order(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(raising_for(5)), POLICY)
    await bench.send([change("a", version) for version in range(8)])
    assert bench.sink.calls == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [4, 5],
        [4],
        [5],
        [5],
        [5],
        [6, 7],
    ]


@simulated
async def test_a_part_whose_sink_becomes_unavailable_is_written_again_before_what_comes_after_it(
    clock: SimulatedClock,
) -> None:
    down = iter([False, True, True, False])

    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        if len(batch) == 4:
            raise RuntimeError("too much at once")
        if next(down, False):
            raise SinkUnavailable("down")
        return [APPLIED] * len(batch)

    bench = Bench(clock, ToldSink(answer), POLICY)
    await bench.send([change("a", version) for version in range(4)])
    assert bench.sink.calls == [[0, 1, 2, 3], [0, 1], [2, 3], [2, 3], [2, 3]]
    assert not bench.letters


@simulated
async def test_a_whole_batch_of_poison_ends_in_the_dead_letters(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(raising_for(*range(16))), POLICY)
    await bench.send([change(str(version), version) for version in range(16)])
    assert [letter.position for letter in bench.letters] == list(range(16))


@simulated
async def test_a_sink_that_answers_the_wrong_number_of_outcomes_loses_nothing(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(lambda batch: [APPLIED] * (len(batch) - 1)), POLICY)
    await bench.send([change(str(version), version) for version in range(3)])
    assert {letter.code for letter in bench.letters} == {"ValueError"}
    assert set(bench.ends()) == {0, 1, 2}


@simulated
async def test_an_exception_that_passes_dead_letters_nothing(clock: SimulatedClock) -> None:
    failures = iter([True, True])

    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        if next(failures, False):
            raise OSError("once")
        return [APPLIED] * len(batch)

    bench = Bench(clock, ToldSink(answer, semantics=Semantics.STATE), POLICY)
    await bench.send([change("a", 1)])
    assert not bench.letters
    assert bench.ends() == {1: Ending.APPLIED}


@simulated
async def test_bisecting_never_writes_a_later_change_of_a_held_key(clock: SimulatedClock) -> None:
    policy = RoutePolicy(retry_attempts=1, backoff_initial_s=0.001, backoff_max_s=0.01, on_poison=OnPoison.HOLD_KEY)
    bench = Bench(clock, ToldSink(raising_for(2)), policy)
    changes = [change("b", 1), change("a", 2), change("c", 3), change("a", 4), change("b", 5), change("a", 6)]
    await bench.send(changes)
    written = [version for call in bench.sink.calls for version in call]
    assert 4 not in written
    assert 6 not in written
    kinds = {letter.version: letter.kind for letter in bench.letters}
    assert kinds == {2: ErrorKind.UNKNOWN, 4: ErrorKind.HELD, 6: ErrorKind.HELD}
    await asyncio.sleep(0)
