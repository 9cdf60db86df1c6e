"""Histograms: counting a batch at once must be the same as counting one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.histogram import BATCH_SIZE_BOUNDS, END_TO_END_BOUNDS_S, LATENCY_BOUNDS_S, histogram

BOUNDS = (0.1, 1.0, 5.0)


def test_a_value_on_a_bound_belongs_to_that_bound() -> None:
    counted = histogram(BOUNDS)
    for value in (0.1, 0.11, 1.0, 5.0, 5.01):
        counted.observe(value)
    assert counted.counts == [1, 2, 1, 1]
    assert counted.count() == 5


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(-10, 10), st.integers(-3, 9)), max_size=60))
def test_a_batch_counts_as_its_values_one_by_one(values: list[float]) -> None:
    together, singly = histogram(BOUNDS), histogram(BOUNDS)
    together.observe_many(values)
    for value in values:
        singly.observe(value)
    assert together.counts == singly.counts
    assert together.total == pytest.approx(singly.total)


def test_a_change_from_a_clock_ahead_of_ours_never_lowers_the_total() -> None:
    counted = histogram(BOUNDS)
    counted.observe_many([-5.0, 2.0])
    counted.observe(-1.0)
    assert counted.total == 2.0
    assert counted.counts == [2, 0, 1, 0]


def test_a_copy_stays_as_it_is() -> None:
    counted = histogram(BOUNDS)
    kept = counted.copy()
    counted.observe(1.0)
    assert kept.counts == [0, 0, 0, 0]
    assert kept.total == 0.0


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_must_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(AssertionError):
        histogram(bounds)


@pytest.mark.parametrize("bounds", [LATENCY_BOUNDS_S, END_TO_END_BOUNDS_S, BATCH_SIZE_BOUNDS])
def test_the_shipped_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert len(histogram(bounds).counts) == len(bounds) + 1
