from __future__ import annotations

import asyncio

import pytest

from connector.delivery.breaker import Breaker, BreakerState, WritesAtOnce
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.delivery.builders import simulated


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


async def opened(clock: SimulatedClock, wait_s: float = 10.0) -> Breaker:
    breaker = Breaker(1, clock)
    assert not await breaker.admit()
    breaker.unavailable(wait_s)
    assert state_of(breaker) is BreakerState.OPEN
    return breaker


@simulated
async def test_it_opens_after_so_many_unavailable_calls_in_a_row(clock: SimulatedClock) -> None:
    breaker = Breaker(3, clock)
    for _ in range(2):
        breaker.unavailable(1.0)
    assert state_of(breaker) is BreakerState.CLOSED
    breaker.answered()
    for _ in range(2):
        breaker.unavailable(1.0)
    assert state_of(breaker) is BreakerState.CLOSED, "an answer in between starts the count anew"
    breaker.unavailable(1.0)
    assert state_of(breaker) is BreakerState.OPEN


@simulated
async def test_it_says_since_when_the_sink_has_been_unavailable(clock: SimulatedClock) -> None:
    breaker = Breaker(3, clock)

    def since() -> int | None:
        return breaker.unavailable_since_ms

    assert since() is None
    breaker.unavailable(1.0)
    await asyncio.sleep(5)
    breaker.unavailable(1.0)
    assert since() == EPOCH_MS
    breaker.answered()
    assert since() is None


@simulated
async def test_exactly_one_probe_goes_when_the_wait_is_over(clock: SimulatedClock) -> None:
    breaker = await opened(clock)
    waiting = [asyncio.ensure_future(breaker.admit()) for _ in range(5)]
    await asyncio.sleep(9.9)
    assert not any(task.done() for task in waiting)
    await asyncio.sleep(100)
    assert [task.result() for task in waiting if task.done()] == [True]
    assert state_of(breaker) is BreakerState.HALF_OPEN
    breaker.answered()
    assert [await task for task in waiting].count(True) == 1
    assert state_of(breaker) is BreakerState.CLOSED


@simulated
async def test_a_probe_that_fails_opens_it_for_its_own_wait_and_then_another_goes(clock: SimulatedClock) -> None:
    breaker = await opened(clock, 1.0)
    assert await breaker.admit()
    breaker.unavailable(20.0, probe=True)
    assert state_of(breaker) is BreakerState.OPEN
    assert await breaker.admit()
    assert clock.monotonic() == pytest.approx(21.0)


@simulated
async def test_a_call_from_before_it_opened_does_not_let_a_second_probe_go(clock: SimulatedClock) -> None:
    breaker = await opened(clock, 1.0)
    assert await breaker.admit()
    breaker.unavailable(0.5)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    second = asyncio.ensure_future(breaker.admit())
    await asyncio.sleep(60)
    assert not second.done()
    breaker.answered()
    assert not await second


@simulated
async def test_a_cancelled_probe_does_not_block_the_others_for_ever(clock: SimulatedClock) -> None:
    breaker = await opened(clock, 1.0)
    assert await breaker.admit()
    second = asyncio.ensure_future(breaker.admit())
    await asyncio.sleep(1)
    breaker.give_up_probe()
    assert await second


@simulated
async def test_giving_up_where_no_probe_is_under_way_changes_nothing(clock: SimulatedClock) -> None:
    breaker = Breaker(1, clock)
    breaker.give_up_probe()
    assert state_of(breaker) is BreakerState.CLOSED


@simulated
async def test_writes_at_once_are_halved_when_throttled_down_to_one(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(8)
    limits = []
    for _ in range(5):
        at_once.throttled()
        limits.append(at_once.limit)
    assert limits == [4, 2, 1, 1, 1]


@simulated
async def test_writes_at_once_are_regained_one_by_one_after_as_many_calm_answers(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(4)
    at_once.throttled()
    at_once.throttled()
    limits = []
    for _ in range(8):
        at_once.answered()
        limits.append(at_once.limit)
    assert limits == [2, 2, 3, 3, 3, 4, 4, 4]


@simulated
async def test_a_throttle_in_between_starts_the_calm_anew(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(4)
    at_once.throttled()
    at_once.answered()
    at_once.throttled()
    at_once.throttled()
    at_once.answered()
    assert at_once.limit == 2


@simulated
async def test_no_more_write_at_once_than_allowed_and_none_waits_for_ever(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(6)
    at_once.throttled()
    most = 0

    async def write(number: int) -> None:
        nonlocal most
        async with at_once:
            most = max(most, at_once.under_way)
            assert at_once.under_way <= at_once.limit + 3  # those from before a throttle may still be under way
            await asyncio.sleep(0.1 + number % 3)
        if number % 7 == 0:
            at_once.throttled()
        else:
            at_once.answered()

    await asyncio.gather(*(write(number) for number in range(60)))
    assert at_once.under_way == 0
    assert most > 1


@simulated
async def test_those_who_wait_make_use_of_a_limit_that_has_risen(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(2)
    at_once.throttled()
    await at_once.__aenter__()
    inside: list[int] = []

    async def write(number: int) -> None:
        async with at_once:
            inside.append(number)
            await asyncio.sleep(60)

    waiting = [asyncio.ensure_future(write(number)) for number in range(2)]
    await asyncio.sleep(1)
    await at_once.__aexit__()
    at_once.answered()
    await asyncio.sleep(1)
    assert inside == [0, 1]
    await asyncio.gather(*waiting)


@simulated
async def test_a_cancelled_writer_gives_its_place_back(clock: SimulatedClock) -> None:
    at_once = WritesAtOnce(1)

    async def write() -> None:
        async with at_once:
            await asyncio.sleep(1)

    first, second, third = (asyncio.ensure_future(write()) for _ in range(3))
    await asyncio.sleep(0.5)
    first.cancel()
    second.cancel()
    await third
    assert at_once.under_way == 0
