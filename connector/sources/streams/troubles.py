"""What is wrong with the API at present, in words, for health: per caller, so that one's success hides no other's."""

from __future__ import annotations

import structlog

from connector.clock import Clock
from connector.sources.streams.api import Denied, StreamApiError

log = structlog.get_logger(__name__)

LOG_AGAIN_S = 30.0
PATIENCE = 3
"""How many failures in a row are nothing to speak of: services answer 500 or throttle now and then."""


class Troubles:
    """Each caller (a shard, the discovery) has at most one trouble. ``last_error`` is the oldest of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._present: dict[str, str] = {}
        self._failures: dict[str, int] = {}
        self._logged: dict[type[StreamApiError], float] = {}

    @property
    def last_error(self) -> str:
        """Empty where nothing is wrong."""
        if not self._present:
            return ""
        who, what = next(iter(self._present.items()))
        more = f" (and {len(self._present) - 1} more)" if len(self._present) > 1 else ""
        return f"{who}: {what}{more}"

    def note(self, who: str, error: StreamApiError) -> int:
        """A call failed; returns how many of this caller's have in a row."""
        failures = self._failures[who] = self._failures.get(who, 0) + 1
        if failures >= PATIENCE or isinstance(error, Denied):
            self._present[who] = str(error)
        now = self._clock.monotonic()
        if now - self._logged.get(type(error), -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged[type(error)] = now
            log.warning("stream api call failed, trying again", where=who, kind=type(error).__name__, error=str(error))
        return failures

    def passed(self, who: str) -> None:
        """A call succeeded."""
        if self._failures.pop(who, None) is not None:
            self._present.pop(who, None)

    def forget(self, who: str) -> None:
        """This caller calls no more."""
        self.passed(who)
