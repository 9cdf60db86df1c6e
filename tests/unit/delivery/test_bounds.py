from __future__ import annotations

import asyncio

import pytest

from connector.delivery.bounds import Bounds
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import simulated


@simulated
async def test_reading_waits_while_a_bound_is_reached_and_goes_on_when_enough_was_released(
    clock: SimulatedClock,
) -> None:
    bounds = Bounds(changes_max=10, bytes_max=1000)
    bounds.take(10, 5)
    waiting = asyncio.ensure_future(bounds.room(60.0))
    await asyncio.sleep(1)
    assert not waiting.done()
    bounds.release(1, 1)
    assert await waiting
    assert clock.monotonic() < 2


@pytest.mark.parametrize(("changes", "bytes_"), [(10, 0), (1, 1000), (50, 5000)])
def test_either_bound_fills_it(changes: int, bytes_: int) -> None:
    bounds = Bounds(changes_max=10, bytes_max=1000)
    bounds.take(changes, bytes_)
    assert bounds.full
    bounds.release(changes, bytes_)
    assert not bounds.full


@simulated
async def test_waiting_for_room_ends_after_its_time(clock: SimulatedClock) -> None:
    bounds = Bounds(1, 1)
    bounds.take(1, 0)
    assert not await bounds.room(0.5)
    assert clock.monotonic() == pytest.approx(0.5)
    bounds.release(1, 0)
    assert await bounds.room(0.5)


def test_releasing_more_than_was_taken_is_a_defect() -> None:
    bounds = Bounds(1, 1)
    with pytest.raises(AssertionError, match="released"):
        bounds.release(1, 0)
