"""How a route delivers: plain numbers, already checked by the configuration."""

from __future__ import annotations

import enum

import msgspec

MIB = 1024 * 1024


class OnPoison(enum.StrEnum):
    """What becomes of a key's later changes after one of them was dead-lettered."""

    CONTINUE = "continue"
    """They go on to the sink: right where only the last change counts."""
    HOLD_KEY = "hold_key"
    """They go to the dead letters behind it, until it is replayed: the key's order is kept."""
    STOP = "stop"
    """Nothing is dead-lettered: the pipeline stops, not ready, and says why."""


class LetterLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters are too many (connector.delivery.letter_limits). A limit that is None is none."""

    max_consecutive: int | None = None
    """So many changes in a row may be poison; at one more the route stops."""
    max_ratio: float | None = None
    """Such a part of the changes that the sink judged within the window may be poison."""
    window_s: float = 300.0
    ratio_min: int
    """Fewer judged changes than this say nothing about a ratio."""


class RoutePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and habits of one route. Durations are seconds."""

    lanes: int = 1
    batch_size: int = 1000
    batch_bytes: int = 6 * MIB
    batch_window_s: float = 0.0
    retry_attempts: int | None = 5
    """How often a change is tried again after its first failure; None: without end."""
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 30.0
    max_age_s: float | None = None
    """A failing change older than this is dead-lettered instead of being tried again."""
    on_poison: OnPoison = OnPoison.CONTINUE
    letter_limits: LetterLimits | None = None
    """Beyond which the route stops instead of dead-lettering more; None: never."""
    breaker_failures: int = 5
    """How many calls in a row find the sink unavailable before the breaker opens."""
    write_timeout_s: float = 60.0
    """One call of the sink; longer counts as unavailable."""


def backoff(policy: RoutePolicy, failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: exponential, with jitter over the upper half.

    ``chance`` is a random number in [0, 1). Half of the step is always waited, so that a retry loop cannot spin.
    """
    step = min(policy.backoff_max_s, policy.backoff_initial_s * 2.0 ** min(failures - 1, 30))
    return step * (0.5 + 0.5 * chance)
