"""Pages of a scan and changes of the stream in any order, with failures and crashes: the index becomes the table."""

from __future__ import annotations

import os

import pytest

from tests.simulation.snapshot_history import SnapshotHistory

FIRST, COUNT = (int(part) for part in os.environ.get("MILLRACE_SIMULATE", "0:300").split(":"))
A_GROUP = 25


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, A_GROUP))
def test_the_index_becomes_the_table(first: int) -> None:
    for seed in range(first, min(first + A_GROUP, FIRST + COUNT)):
        try:
            SnapshotHistory(seed).play()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}")


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = SnapshotHistory(11), SnapshotHistory(11)
    assert first.play() == second.play()
    assert first.world.index.keys() == second.world.index.keys()


def test_the_histories_have_crashes_deletions_and_pages() -> None:
    histories = [SnapshotHistory(seed) for seed in range(40)]
    told = [history.play() for history in histories]
    assert any(each.starts > 2 for each in told)
    assert any(each.pages > 30 for each in told)
    assert any(revision is None for history in histories for _, revision in history.world.index.values())
