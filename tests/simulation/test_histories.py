"""The promise, over many seeded histories in simulated time. ``MILLRACE_SIMULATE=FIRST:COUNT`` chooses others."""

from __future__ import annotations

import os

import pytest

from tests.simulation.history import History

FIRST, COUNT = (int(part) for part in os.environ.get("MILLRACE_SIMULATE", "0:500").split(":"))
A_GROUP = 25


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, A_GROUP))
def test_nothing_is_lost_reordered_or_dead_lettered_without_cause(first: int) -> None:
    for seed in range(first, min(first + A_GROUP, FIRST + COUNT)):
        try:
            History(seed).play()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\nagain: python -m tests.simulation {seed}")


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = History(7), History(7)
    assert first.play() == second.play()
    assert first.world.calls == second.world.calls
    assert first.world.states == second.world.states
