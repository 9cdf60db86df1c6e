"""The counters behind the conservation identity, one set a shard and route.

    read = applied + filtered + superseded + stale + dead-lettered + abandoned + in flight

``in_flight`` is counted by itself, so that the residue can be something other than zero: it would be a bug.
"""

from __future__ import annotations

import enum


class Ending(enum.StrEnum):
    """How a change's way along one route ends."""

    APPLIED = "applied"
    FILTERED = "filtered"
    SUPERSEDED = "superseded"
    STALE = "stale"
    DEAD_LETTERED = "dead_lettered"
    ABANDONED = "abandoned"
    """The shard went to another owner before there was an outcome: that owner reads the change again."""


class Counts:
    """Counters of one shard on one route, since the shard was assigned."""

    __slots__ = ("ended", "in_flight", "read")

    def __init__(self) -> None:
        self.read = 0
        self.in_flight = 0
        self.ended: dict[Ending, int] = dict.fromkeys(Ending, 0)

    def residue(self) -> int:
        """Zero, at all times."""
        return self.read - self.in_flight - sum(self.ended.values())
