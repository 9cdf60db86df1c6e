"""Durations and sizes are read as people write them, and written the same way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from connector.config.units import (
    Duration,
    Size,
    parse_duration,
    parse_size,
    write_duration,
    write_size,
)


class Options(BaseModel):
    wait: Duration = 1.0
    room: Size = 1


@pytest.mark.parametrize(
    ("written", "seconds"), [("200ms", 0.2), ("30s", 30.0), ("1h30m", 5400.0), ("0.5d", 43200.0), ("0s", 0.0)]
)
def test_a_duration_is_a_number_with_a_unit(written: str, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "5", "5 s", "5S", "s", "-5s", "5s ", "1e3s", "٣s", True, None, [], {}])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@pytest.mark.parametrize(("written", "count"), [("5MiB", 5 * 1024**2), ("5 MB", 5_000_000), ("1.5KiB", 1536), (7, 7)])
def test_a_size_is_a_number_with_a_unit(written: object, count: int) -> None:
    assert parse_size(written) == count


@pytest.mark.parametrize("written", ["", "5", "5mib", "MiB", "-5MiB", True, None, 1.5, []])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)


def test_code_may_give_seconds_but_a_file_must_give_the_unit() -> None:
    assert Options(wait=5).wait == 5.0
    with pytest.raises(ValidationError, match="a number with a unit"):
        Options.model_validate({"wait": 5}, context={"written": True})
    assert Options.model_validate({"wait": 0}, context={"written": True}).wait == 0.0


@given(st.integers(min_value=0, max_value=10**10))
def test_a_written_duration_reads_back_the_same(milliseconds: int) -> None:
    assert parse_duration(write_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(min_value=1, max_value=2**50))
def test_a_written_size_reads_back_the_same(count: int) -> None:
    assert parse_size(write_size(count)) == count
