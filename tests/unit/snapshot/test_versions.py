"""Nothing that streams after the positions were taken loses against an item of the snapshot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connector.delivery.versions import LOGICAL_BITS, stamp
from connector.snapshot.versions import ITEMS_MAX, MARGIN_MS, snapshot_ms
from tests.simulation.loop import EPOCH_MS
from tests.unit.delivery.builders import change

MINUTE_MS = 60_000
APART_MS = 179_000
"""How far the clocks may be apart, by the module's own argument."""


@given(
    start_ms=st.integers(EPOCH_MS, EPOCH_MS + 10 * 86_400_000),
    skew_ms=st.integers(-APART_MS, APART_MS),
    tells_time=st.booleans(),
    later_ms=st.integers(0, 86_400_000),
    rounds_to_ms=st.sampled_from([1, 1000, MINUTE_MS]),
    item=st.one_of(st.integers(0, 1000), st.integers(ITEMS_MAX - 1000, ITEMS_MAX - 1)),
    clock_before=st.integers(0, (EPOCH_MS + 20 * 86_400_000) << LOGICAL_BITS),
)
def test_every_streamed_change_beats_every_item(
    *, start_ms: int, skew_ms: int, tells_time: bool, later_ms: int, rounds_to_ms: int, item: int, clock_before: int
) -> None:
    server_ms = (start_ms + skew_ms) // 1000 * 1000 if tells_time else None
    version_of_item = (snapshot_ms(start_ms, server_ms) << LOGICAL_BITS) + item
    # Made at or after the start, by the service's clock, which tells less than it knows.
    streamed = change(timestamp_ms=(start_ms + skew_ms + later_ms) // rounds_to_ms * rounds_to_ms)
    stamp([streamed], clock_before, None)
    assert streamed.version > version_of_item


@given(st.integers(0, EPOCH_MS), st.none() | st.integers(0, EPOCH_MS))
def test_a_snapshots_time_is_a_whole_second_that_the_formats_can_carry(own_ms: int, server_ms: int | None) -> None:
    time_ms = snapshot_ms(own_ms, server_ms)
    assert time_ms % 1000 == 0
    assert 0 <= time_ms <= max(0, own_ms - MARGIN_MS)


def test_a_service_behind_our_clock_is_believed() -> None:
    assert snapshot_ms(EPOCH_MS, EPOCH_MS - 90_000) == snapshot_ms(EPOCH_MS, None) - 90_000
    assert snapshot_ms(EPOCH_MS, EPOCH_MS + 90_000) == snapshot_ms(EPOCH_MS, None)


def test_the_items_of_a_segment_are_told_apart_by_the_clock() -> None:
    items = [change(key=str(number), timestamp_ms=EPOCH_MS) for number in range(3)]
    stamp(items, 0, None)
    assert [item.version - (EPOCH_MS << LOGICAL_BITS) for item in items] == [0, 1, 2]
