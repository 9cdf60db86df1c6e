"""The times of changes, in every unit and spelling that the formats use."""

from __future__ import annotations

import pytest

from connector.codecs.stream_times import seconds_to_ms
from connector.errors import DecodeError


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        (0, 0),
        (1_777_626_000, 1_777_626_000_000),
        (1_777_626_000.123, 1_777_626_000_123),
        ("1777626000", 1_777_626_000_000),
        ("1777626000.5", 1_777_626_000_500),
        ("1.777626E9", 1_777_626_000_000),
        ("2026-05-01T09:00:00Z", 1_777_626_000_000),
        ("2026-05-01T11:00:00+02:00", 1_777_626_000_000),
        ("2026-05-01 09:00:00.250000+00:00", 1_777_626_000_250),
        ("2026-05-01T09:00:00", 1_777_626_000_000),
        (4_102_444_800, 4_102_444_800_000),
    ],
)
def test_seconds_become_milliseconds(time: float | str, time_ms: int) -> None:
    assert seconds_to_ms(time) == time_ms


@pytest.mark.parametrize(
    "time", [-1, 4_102_444_801, 1_777_626_000_000, 10**400, 1e308, "-5", "1e300", "nan", "inf", "2200-01-01T00:00:00Z"]
)
def test_a_time_outside_1970_to_2100_is_refused(time: float | str) -> None:
    with pytest.raises(DecodeError) as caught:
        seconds_to_ms(time)
    assert caught.value.code == "time_out_of_range"


@pytest.mark.parametrize("time", ["", "now", "2026-13-01T00:00:00Z", "1_777_626_000", "٣", "1" * 5000])
def test_a_time_that_cannot_be_read_is_refused(time: str) -> None:
    with pytest.raises(DecodeError) as caught:
        seconds_to_ms(time)
    assert caught.value.code == "bad_time"
