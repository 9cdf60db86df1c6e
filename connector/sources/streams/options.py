"""How a stream is read, whatever service it is of."""

from __future__ import annotations

from typing import Literal

import msgspec


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durations are seconds."""

    prefix: str
    """The first part of the names of this source's shards: the table, or the stream."""
    follows: bool
    """Whether a later stream of the table is read when the present one is over; else the source ends there."""
    start: Literal["earliest", "latest"] | int
    """Where the shards begin that are there at the very first start; a number is epoch milliseconds."""
    trimmed: Literal["stop", "skip"]
    retention_s: float
    discover_every_s: float
    idle_every_s: float
    calls_at_once: int
    bytes_ahead: int
