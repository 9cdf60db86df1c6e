"""What a route has done so far: plain numbers that metrics and ``/status`` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from connector.change import Change
from connector.delivery.counts import Ending
from connector.histogram import BATCH_SIZE_BOUNDS, END_TO_END_BOUNDS_S, LATENCY_BOUNDS_S, histogram

CALL_RESULTS = ("applied", "unavailable", "throttled", "raised")
"""How one call of a sink ended; ``applied``: it answered with outcomes, whatever they are."""


class Tally:
    """Counters and histograms of one route, since the process started."""

    def __init__(self) -> None:
        self.changes: Counter[tuple[str, Ending]] = Counter()
        self.retries: Counter[str] = Counter()
        self.dead_letters: Counter[tuple[str, str]] = Counter()
        self.bisections = 0
        self.last_error = ""
        self.stopped_reason = ""
        self.batch_sizes = histogram(BATCH_SIZE_BOUNDS)
        self.end_to_end_seconds = histogram(END_TO_END_BOUNDS_S)
        self.call_seconds = {result: histogram(LATENCY_BOUNDS_S) for result in CALL_RESULTS}

    def ended(self, changes: Sequence[Change], ending: Ending) -> None:
        """Count changes that came to their end."""
        names = [change.event_name for change in changes]
        for name in set(names):
            self.changes[name, ending] += names.count(name)
