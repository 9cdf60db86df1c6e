"""Positions in a stream's shard: numbers for the pipeline, places for the API, words for a lease's row.

A sequence number has 21 to 56 digits and is an ``int`` here. As everywhere, a position is where reading *goes on*:

    n > 0      behind the record with the sequence number n - 1
    0          at the oldest record that the shard still has (TRIM_HORIZON)
    n < 0      at the first record that was written at or after -n epoch milliseconds (``start: latest`` as it is
               remembered: a crash before the first record must not make it a later place)
    SHARD_END  behind the last record of a closed shard
"""

from __future__ import annotations

from typing import Final

import msgspec

from connector.change import Position
from connector.checkpoints.protocol import SHARD_END

TRIM_HORIZON: Final[Position] = 0
DIGITS_MIN: Final = 21
"""DynamoDB refuses shorter sequence numbers; zeros in front change nothing (botocore's model, DynamoDB Local)."""


class TrimHorizon(msgspec.Struct, frozen=True):
    """At the oldest record that there is."""


class Latest(msgspec.Struct, frozen=True):
    """Behind the newest record that there is now."""


class After(msgspec.Struct, frozen=True):
    """Behind the record with this sequence number."""

    sequence_number: int

    @property
    def text(self) -> str:
        """As the APIs take it."""
        return str(self.sequence_number).zfill(DIGITS_MIN)


class AtTimestamp(msgspec.Struct, frozen=True):
    """At the first record written at or after a time. Not every API has it."""

    timestamp_ms: int


Place = TrimHorizon | Latest | After | AtTimestamp
"""Where an iterator begins."""


def after(sequence_number: int) -> Position:
    """The position behind the record with this sequence number."""
    return sequence_number + 1


def since(timestamp_ms: int) -> Position:
    """The position of the first record written at or after a time (epoch milliseconds)."""
    assert timestamp_ms > 0
    return -timestamp_ms


def place_of(position: Position) -> Place:
    """Where reading goes on from a position that is not the end."""
    assert position != SHARD_END, "nothing goes on behind the end"
    if position > 0:
        return After(position - 1)
    return AtTimestamp(-position) if position < 0 else TrimHorizon()


_AT_TIMESTAMP = "AT_TIMESTAMP:"


def to_words(position: Position) -> str:
    """As a lease's row has it (connector.leases.protocol): the last finished sequence number, or a word."""
    if position == SHARD_END:
        return "SHARD_END"
    if position > 0:
        return str(position - 1)
    return "TRIM_HORIZON" if position == 0 else f"{_AT_TIMESTAMP}{-position}"


def from_words(words: str, now_ms: int) -> Position:
    """A row's checkpoint as a position; LATEST (a row that another program wrote) is from now on."""
    match words:
        case "SHARD_END":
            return SHARD_END
        case "TRIM_HORIZON":
            return TRIM_HORIZON
        case "LATEST":
            return since(now_ms)
    if words.startswith(_AT_TIMESTAMP):
        return since(int(words.removeprefix(_AT_TIMESTAMP)))
    return after(int(words))
