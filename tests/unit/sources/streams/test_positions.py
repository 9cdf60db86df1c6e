"""Positions: numbers here, words in a lease's row."""

from __future__ import annotations

import pytest

from connector.checkpoints.protocol import SHARD_END
from connector.sources.streams.positions import After, AtTimestamp, TrimHorizon, from_words, place_of, since, to_words

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize("position", [0, 1, 124, 10**56, since(NOW_MS), SHARD_END])
def test_every_position_survives_a_row(position: int) -> None:
    assert from_words(to_words(position), NOW_MS) == position


def test_a_row_names_the_last_finished_sequence_number() -> None:
    assert to_words(124) == "123"
    assert from_words("000000000000000000123", NOW_MS) == 124


def test_latest_in_a_row_of_another_program_is_from_now_on() -> None:
    assert from_words("LATEST", NOW_MS) == since(NOW_MS)


def test_places_are_what_the_apis_take() -> None:
    assert place_of(0) == TrimHorizon()
    assert place_of(since(5)) == AtTimestamp(5)
    assert place_of(124) == After(123)
    assert After(123).text == "000000000000000000123"
    assert After(10**55).text == "1" + "0" * 55
