"""A histogram as plain data: counting costs a batch, not a change. Knows nothing of Prometheus (which reads copies)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""For calls of a sink, in seconds."""

END_TO_END_BOUNDS_S = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
    86400.0,
)
"""For the time from a change to its outcome, in seconds: a day is how long DynamoDB Streams keeps a record."""

BATCH_SIZE_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)
"""For changes in one call of a sink."""


class Histogram(msgspec.Struct):
    """How many values fell at or below each bound, and what they add up to.

    ``counts`` has one number a bound (values above the bound before it, up to and including this one) and one
    more for what is above the last; they are not cumulative. Values are finite. A value below zero (a change from a
    clock ahead of ours) counts as zero, so that ``total`` never falls.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_many(self, values: Sequence[float]) -> None:
        """Count a batch of values in any order: one sort, then one search a bucket that is reached."""
        if not values:
            return
        ordered = sorted(values)
        if ordered[0] < 0:
            ordered = [max(value, 0.0) for value in ordered]
        self.total += sum(ordered)
        counted, size = 0, len(ordered)
        # Searching each time only among what is left; the first bound that matters is found by searching the bounds.
        for bucket in range(bisect_left(self.bounds, ordered[0]), len(self.bounds)):
            upto = bisect_right(ordered, self.bounds[bucket], counted)
            self.counts[bucket] += upto - counted
            counted = upto
            if counted == size:
                return
        self.counts[-1] += size - counted

    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def copy(self) -> Histogram:
        """The same numbers, which stay as they are: what a snapshot holds."""
        return Histogram(self.bounds, self.counts.copy(), self.total)


def histogram(bounds: Sequence[float]) -> Histogram:
    """An empty histogram. ``bounds`` rise strictly and are finite; the bucket above the last is implied."""
    assert bounds, "a histogram without bounds counts nothing"
    assert all(low < high for low, high in pairwise(bounds)), bounds
    return Histogram(tuple(bounds), [0] * (len(bounds) + 1))
