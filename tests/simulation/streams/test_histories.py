"""Streams, over many seeded histories in simulated time. ``MILLRACE_SIMULATE=FIRST:COUNT`` chooses others."""

from __future__ import annotations

import os

import pytest

from tests.simulation.streams.history import History
from tests.simulation.streams.truth import Shape

FIRST, COUNT = (int(part) for part in os.environ.get("MILLRACE_SIMULATE", "0:240").split(":"))
A_GROUP = 20


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, A_GROUP))
def test_nothing_is_lost_reordered_or_begun_before_its_turn(first: int) -> None:
    for seed in range(first, min(first + A_GROUP, FIRST + COUNT)):
        try:
            History(seed).play()
        except Exception as error:
            pytest.fail(f"seed {seed}: {error}\nagain: python -m tests.simulation.streams {seed}")


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT // 4, A_GROUP))
def test_replicas_share_the_shards_and_keep_the_promise_together(first: int) -> None:
    for seed in range(first, min(first + A_GROUP, FIRST + COUNT // 4)):
        try:
            History(seed, replicas=2 + seed % 2).play()
        except Exception as error:
            pytest.fail(f"seed {seed}: {error}\nagain: python -m tests.simulation.streams {seed}")


@pytest.mark.parametrize("seed", range(1, 6))
def test_seven_hundred_shards_are_found_and_read_though_the_listing_is_slow_and_fails(seed: int) -> None:
    shape = Shape(shards=700, writes=1400, keys=1000, bursts=1, burst_s=30.0, turnover_every_s=0.5)
    history = History(seed, shape)
    faults = history.model.faults
    faults.unavailable = faults.throttled = 0.1
    faults.slow, faults.page_shards, faults.page_records = 0.3, 10, 1000
    faults.iterator_lives_s, faults.retention_s = 900.0, 86_400.0
    told = history.play()
    assert told.shards > 700


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = History(7), History(7)
    assert first.play() == second.play()
    assert first.world.states == second.world.states
    assert first.model.calls == second.model.calls
