"""A table is read no faster than was agreed, whatever the pages cost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from connector.snapshot.pace import Pace
from tests.simulation.loop import SimulatedClock, SimulatedLoop, run


@given(st.lists(st.floats(0.5, 128), min_size=1, max_size=20), st.floats(0.5, 500), st.integers(1, 4))
def test_what_was_spent_is_paid_before_the_next_page(costs: list[float], rate: float, segments: int) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    pace = Pace(rate, clock)

    async def read(segment: int) -> None:
        for units in costs[segment::segments]:
            await pace.turn()
            pace.spend(units)

    async def read_all() -> float:
        await asyncio.gather(*(read(segment) for segment in range(segments)))
        await pace.turn()
        return clock.monotonic()

    assert run(read_all(), loop) * rate >= sum(costs) * (1 - 1e-9)
    assert pace.units == sum(costs) or abs(pace.units - sum(costs)) < 1e-6


def test_without_a_rate_nothing_waits_and_the_cost_is_counted() -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    pace = Pace(None, clock)

    async def read() -> float:
        pace.spend(1000.0)
        await pace.turn()
        return clock.monotonic()

    assert run(read(), loop) == 0.0
    assert pace.units == 1000.0
