from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.change import Change
from connector.delivery.lane import Lane, Refusal
from connector.delivery.policy import RoutePolicy
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import change, in_simulation, simulated, versions


class Watched:
    """A lane, and what it handed on: versions for batches, ``("refused", versions)`` for refusals."""

    def __init__(self, clock: SimulatedClock, *, takes_s: float = 0.0, **policy: Any) -> None:
        self.handed: list[Any] = []
        self.at: list[float] = []
        self._clock = clock
        self._takes_s = takes_s
        self.lane = Lane(RoutePolicy(**policy), clock, self._deliver, self._refuse)
        self.task = asyncio.ensure_future(self.lane.run())

    async def _deliver(self, batch: list[Change]) -> None:
        self.handed.append(versions(batch))
        self.at.append(self._clock.monotonic())
        await asyncio.sleep(self._takes_s)

    async def _refuse(self, refusals: list[Refusal]) -> None:
        self.handed.append(("refused", versions([each.change for each in refusals])))

    def put(self, *changes: Change) -> None:
        self.lane.queue.extend(changes)
        self.lane.wake()

    async def all_of(self, done: Callable[[], bool]) -> None:
        while not done():
            await asyncio.sleep(0.01)
            assert self._clock.monotonic() < 100


def some(first: int, last: int, size: int = 1) -> list[Change]:
    return [change(str(version), version, size=size) for version in range(first, last + 1)]


@simulated
async def test_a_batch_is_what_waits_up_to_its_size(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_size=4)
    lane.put(*some(1, 10))
    await asyncio.sleep(0.1)
    assert lane.handed == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


@simulated
async def test_a_batch_stays_within_its_bytes(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_bytes=100)
    lane.put(*some(1, 5, size=40))
    await asyncio.sleep(0.1)
    assert lane.handed == [[1, 2], [3, 4], [5]]


@simulated
async def test_an_oversized_change_goes_alone(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_bytes=100)
    lane.put(*some(1, 2), change("3", 3, size=5000), *some(4, 5))
    await asyncio.sleep(0.1)
    assert lane.handed == [[1, 2], [3], [4, 5]]


@given(
    st.lists(st.integers(0, 60), max_size=40),
    st.integers(1, 10),
    st.integers(1, 100),
    st.sampled_from([0.0, 0.05]),
)
def test_every_change_is_handed_on_once_in_order_within_both_bounds(
    sizes: list[int], batch_size: int, batch_bytes: int, window_s: float
) -> None:
    async def check(clock: SimulatedClock) -> None:
        lane = Watched(clock, batch_size=batch_size, batch_bytes=batch_bytes, batch_window_s=window_s)
        for version, size in enumerate(sizes):
            lane.put(change("a", version, size=size))
            if size % 7 == 0:
                await asyncio.sleep(0.01)
        await lane.all_of(lambda: sum(map(len, lane.handed)) == len(sizes))
        assert [version for batch in lane.handed for version in batch] == list(range(len(sizes)))
        for batch in lane.handed:
            assert len(batch) <= batch_size
            assert len(batch) == 1 or sum(sizes[version] for version in batch) <= batch_bytes

    in_simulation(check)


@simulated
async def test_what_comes_while_a_batch_is_delivered_is_the_next_batch(clock: SimulatedClock) -> None:
    lane = Watched(clock, takes_s=1.0)
    lane.put(*some(1, 1))
    await asyncio.sleep(0.5)
    lane.put(*some(2, 2))
    await asyncio.sleep(0.1)
    lane.put(*some(3, 3))
    await asyncio.sleep(2)
    assert lane.handed == [[1], [2, 3]]


@simulated
async def test_no_wake_up_is_lost(clock: SimulatedClock) -> None:
    lane = Watched(clock)
    for version in range(200):
        lane.put(change("a", version))
        for _ in range(version % 5):
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert [version for batch in lane.handed for version in batch] == list(range(200))


@simulated
async def test_a_window_gathers_what_comes_in_it(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_window_s=1.0)
    for version in (1, 2, 3):
        lane.put(change("a", version))
        await asyncio.sleep(0.3)
    assert lane.handed == []
    await asyncio.sleep(0.2)
    assert lane.handed == [[1, 2, 3]]
    assert lane.at == [pytest.approx(1.0)]


@simulated
async def test_a_batch_that_is_full_by_size_does_not_wait_for_its_window(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_window_s=10.0, batch_size=2)
    lane.put(*some(1, 1))
    await asyncio.sleep(0.5)
    lane.put(*some(2, 2))
    await asyncio.sleep(0.1)
    assert lane.handed == [[1, 2]]


@simulated
async def test_a_batch_that_is_full_by_bytes_does_not_wait_for_its_window(clock: SimulatedClock) -> None:
    lane = Watched(clock, batch_window_s=10.0, batch_bytes=100)
    lane.put(*some(1, 1, size=60))
    await asyncio.sleep(0.5)
    lane.put(*some(2, 2, size=60))
    await asyncio.sleep(0.1)
    assert lane.handed == [[1]]


@simulated
async def test_refusals_are_buried_before_what_is_queued_is_delivered(clock: SimulatedClock) -> None:
    lane = Watched(clock, takes_s=1.0)
    lane.put(*some(1, 1))
    await asyncio.sleep(0.5)
    lane.lane.refusals.extend(Refusal(each, "image_missing", "") for each in some(2, 3))
    lane.put(*some(4, 4))
    await asyncio.sleep(1)
    assert lane.handed == [[1], ("refused", [2, 3]), [4]]


@simulated
async def test_a_refusal_alone_wakes_the_lane(clock: SimulatedClock) -> None:
    lane = Watched(clock)
    await asyncio.sleep(0.1)
    lane.lane.refusals.append(Refusal(change("a", 1), "image_missing", ""))
    lane.lane.wake()
    await asyncio.sleep(0.1)
    assert lane.handed == [("refused", [1])]
