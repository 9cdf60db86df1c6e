from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.delivery.policy import RoutePolicy, backoff

POLICY = RoutePolicy(backoff_initial_s=0.1, backoff_max_s=30.0)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_in_the_upper_half_of_its_step(failures: int, chance: float) -> None:
    step = min(30.0, 0.1 * 2 ** min(failures - 1, 20))
    assert step / 2 <= backoff(POLICY, failures, chance) <= step


@pytest.mark.parametrize(("failures", "step"), [(1, 0.1), (2, 0.2), (3, 0.4), (9, 25.6), (10, 30.0), (1000, 30.0)])
def test_steps_double_up_to_the_longest(failures: int, step: float) -> None:
    assert backoff(POLICY, failures, 0.0) == pytest.approx(step / 2)
