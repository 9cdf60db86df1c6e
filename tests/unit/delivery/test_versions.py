from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.codecs.stream_times import TIME_MAX_MS
from connector.delivery.versions import LOGICAL_BITS, VERSION_MAX, stamp, stamp_by_time
from tests.simulation.loop import EPOCH_MS
from tests.unit.delivery.builders import change, versions

TIMES = st.lists(st.integers(0, TIME_MAX_MS), min_size=1, max_size=30)


@given(TIMES, st.integers(0, EPOCH_MS << LOGICAL_BITS))
def test_versions_grow_with_every_change_whatever_the_times_say(times: list[int], last: int) -> None:
    changes = [change(timestamp_ms=time) for time in times]
    end = stamp(changes, last, None)
    stamped = versions(changes)
    assert all(before < after for before, after in zip([last, *stamped], stamped, strict=False))
    assert end == stamped[-1]


@given(TIMES)
def test_versions_fit_63_bits_up_to_the_latest_time_that_codecs_let_through(times: list[int]) -> None:
    changes = [change(timestamp_ms=time) for time in [TIME_MAX_MS, *times]]
    assert stamp(changes, 0, None) <= VERSION_MAX


@given(TIMES, st.data())
def test_a_replay_from_a_saved_clock_stamps_the_same_versions(times: list[int], data: st.DataObject) -> None:
    first = [change(timestamp_ms=time) for time in times]
    stamp(first, 0, None)
    cut = data.draw(st.integers(0, len(times)))
    saved = first[cut - 1].version if cut else 0
    again = [change(timestamp_ms=time) for time in times[cut:]]
    stamp(again, saved, None)
    assert versions(again) == versions(first)[cut:]


def test_a_version_tells_the_time_of_its_change() -> None:
    one = change(timestamp_ms=EPOCH_MS)
    stamp([one], 0, None)
    assert one.version >> LOGICAL_BITS == EPOCH_MS


def test_stamping_no_change_leaves_the_clock_where_it_was() -> None:
    assert stamp([], 7, None) == 7


def test_a_stamped_change_knows_the_segment_that_waits_for_it() -> None:
    one, segment = change(), object()
    stamp([one], 0, segment)
    assert one.ledger_entry is segment


def test_a_time_beyond_63_bits_is_a_defect_of_the_codec() -> None:
    with pytest.raises(AssertionError, match="codecs"):
        stamp([change(timestamp_ms=2**43)], 0, None)


@given(st.lists(st.tuples(st.integers(0, TIME_MAX_MS), st.integers(0, 999)), max_size=30), st.randoms())
def test_in_an_unordered_log_a_version_is_the_changes_own_time_wherever_it_is_read(
    times: list[tuple[int, int]], chance: random.Random
) -> None:
    changes = [change(version=within, timestamp_ms=time) for time, within in times]
    chance.shuffle(changes)
    by_time = sorted(changes, key=lambda each: (each.timestamp_ms, each.version))
    end = stamp_by_time(changes, 7, None)
    assert versions(by_time) == sorted(versions(changes))
    assert [version >> LOGICAL_BITS for version in versions(by_time)] == sorted(time for time, _ in times)
    assert 7 <= end == max(versions(changes), default=7) or end == 7


def test_an_unordered_logs_clock_tells_the_newest_time_that_was_read() -> None:
    newest, oldest = change(version=0, timestamp_ms=EPOCH_MS), change(version=0, timestamp_ms=EPOCH_MS - 1)
    last = stamp_by_time([newest, oldest], 0, None)
    assert last == newest.version == EPOCH_MS << LOGICAL_BITS
    assert stamp_by_time([change(version=0, timestamp_ms=5)], last, None) == last


def test_what_orders_a_millisecond_fits_below_the_milliseconds() -> None:
    with pytest.raises(AssertionError, match="within a millisecond"):
        stamp_by_time([change(version=1 << LOGICAL_BITS, timestamp_ms=1)], 0, None)
