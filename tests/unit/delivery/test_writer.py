from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from connector.change import Change
from connector.delivery.breaker import BreakerState
from connector.delivery.policy import RoutePolicy
from connector.delivery.tally import Tally
from connector.delivery.writer import Writer
from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, Outcome
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Answer, ToldSink, change, simulated


def raising(error: Exception) -> Answer:
    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        raise error

    return answer


def writer(clock: SimulatedClock, sink: ToldSink, **policy: Any) -> tuple[Writer, Tally]:
    tally = Tally()
    return Writer(sink, RoutePolicy(**policy), clock, random.Random(0), tally), tally


def state_of(to: Writer) -> BreakerState:
    return to.breaker.state


def calls(tally: Tally) -> dict[str, int]:
    return {result: count for result, histogram in tally.call_seconds.items() if (count := histogram.count())}


@simulated
async def test_a_call_that_answers_is_counted_and_timed(clock: SimulatedClock) -> None:
    to, tally = writer(clock, ToldSink())
    assert await to.write([change(), change("b")]) == [APPLIED, APPLIED]
    assert calls(tally) == {"applied": 1}
    assert (tally.batch_sizes.count(), tally.batch_sizes.total) == (1, 2)


@simulated
async def test_an_unavailable_sink_is_backed_off_from_before_the_caller_hears(clock: SimulatedClock) -> None:
    to, tally = writer(clock, ToldSink(raising(SinkUnavailable("down"))), backoff_initial_s=10.0)
    with pytest.raises(SinkUnavailable):
        await to.write([change()])
    assert 5 <= clock.monotonic() <= 10.1
    assert calls(tally) == {"unavailable": 1}
    assert tally.call_seconds["unavailable"].total < 1, "the wait is no part of the call"
    assert tally.last_error == "down"


@simulated
async def test_the_sinks_own_wish_to_wait_counts_up_to_the_longest_wait(clock: SimulatedClock) -> None:
    to, _ = writer(clock, ToldSink(raising(SinkUnavailable("down", after_s=86_400))), backoff_max_s=20.0)
    with pytest.raises(SinkUnavailable):
        await to.write([change()])
    assert clock.monotonic() == pytest.approx(20.0, abs=0.1)


@simulated
async def test_a_throttling_sink_gets_fewer_writes_at_once(clock: SimulatedClock) -> None:
    to, tally = writer(clock, ToldSink(raising(Throttled("too much"))), lanes=8)
    with pytest.raises(Throttled):
        await to.write([change()])
    assert to.at_once.limit == 4
    assert calls(tally) == {"throttled": 1}


@simulated
async def test_a_call_that_takes_too_long_counts_as_unavailable(clock: SimulatedClock) -> None:
    async def never() -> Sequence[Outcome]:
        await asyncio.sleep(1000)
        return []

    to, tally = writer(clock, ToldSink(lambda batch: never()), write_timeout_s=2.0)
    with pytest.raises(SinkUnavailable, match="within 2 s"):
        await to.write([change()])
    assert to.at_once.under_way == 0
    assert calls(tally) == {"unavailable": 1}


@simulated
async def test_a_timeout_of_the_sinks_own_client_counts_as_unavailable(clock: SimulatedClock) -> None:
    to, _ = writer(clock, ToldSink(raising(TimeoutError())))
    with pytest.raises(SinkUnavailable, match="client timed out"):
        await to.write([change()])


@simulated
async def test_any_other_exception_comes_through_at_once_and_shows_that_the_sink_is_there(
    clock: SimulatedClock,
) -> None:
    to, tally = writer(clock, ToldSink(raising(RuntimeError("?"))), breaker_failures=1)
    to.breaker.failures = 3
    with pytest.raises(RuntimeError):
        await to.write([change()])
    assert clock.monotonic() < 0.1
    assert to.breaker.failures == 0
    assert calls(tally) == {"raised": 1}


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_wrong_number_of_outcomes_is_a_defect_of_the_sink(number: int) -> None:
    @simulated
    async def check(clock: SimulatedClock) -> None:
        to, _ = writer(clock, ToldSink(lambda batch: [APPLIED] * number))
        with pytest.raises(ValueError, match=f"{number} outcomes for 2"):
            await to.write([change(), change("b")])

    check()


@simulated
async def test_an_answer_that_is_no_outcome_is_a_defect_of_the_sink(clock: SimulatedClock) -> None:
    wrong: Any = ["ok"]
    to, _ = writer(clock, ToldSink(lambda batch: wrong))
    with pytest.raises(TypeError, match="no outcome"):
        await to.write([change()])


@simulated
async def test_a_cancelled_probe_lets_another_one_go(clock: SimulatedClock) -> None:
    sink = ToldSink(raising(SinkUnavailable("down")))
    to, tally = writer(clock, sink, breaker_failures=1, backoff_initial_s=1.0)
    with pytest.raises(SinkUnavailable):
        await to.write([change()])
    hangs = asyncio.Event()

    async def hang() -> Sequence[Outcome]:
        await hangs.wait()
        return [APPLIED]

    sink.answer = lambda batch: hang()
    probe = asyncio.ensure_future(to.write([change()]))
    await asyncio.sleep(1)
    assert state_of(to) is BreakerState.HALF_OPEN
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    hangs.set()
    assert await to.write([change()]) == [APPLIED]
    assert calls(tally) == {"unavailable": 1, "applied": 1}, "a cancelled call has no result"


@simulated
async def test_one_call_at_a_time_tries_a_sink_that_is_down_and_all_go_on_when_it_is_back(
    clock: SimulatedClock,
) -> None:
    sink = ToldSink(raising(SinkUnavailable("down")))
    to, _ = writer(clock, sink, breaker_failures=3, lanes=6, backoff_max_s=5.0)

    async def until_written(key: str) -> None:
        while True:
            try:
                await to.write([change(key)])
            except SinkUnavailable:
                continue
            return

    lanes = [asyncio.ensure_future(until_written(key)) for key in "abcdef"]
    await asyncio.sleep(60)
    assert state_of(to) is not BreakerState.CLOSED
    sink.most_under_way = 0
    await asyncio.sleep(60)
    assert sink.most_under_way == 1
    sink.answer = lambda batch: [APPLIED] * len(batch)
    await asyncio.gather(*lanes)
    assert state_of(to) is BreakerState.CLOSED
    assert to.breaker.unavailable_since_ms is None
