"""Waits between attempts: doubled each time, with jitter, and a cap."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Seconds."""

    first_s: float = 0.25
    most_s: float = 20.0

    def wait_s(self, failures: int, chance: random.Random) -> float:
        """How long to wait after so many failures in a row (from 1): the upper half of the doubled wait, by chance."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 16))
        return longest * (0.5 + 0.5 * chance.random())
