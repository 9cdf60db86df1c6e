"""How fast a table is read: so many capacity units a second, whatever the pages turn out to cost."""

from __future__ import annotations

from connector.clock import Clock


class Pace:
    """What a page cost is known only afterwards, so each page is paid by the wait before the next one.

    Several segments share one pace. Without a rate nothing waits.
    """

    def __init__(self, units_per_s: float | None, clock: Clock) -> None:
        self.units = 0.0
        """All that was spent."""
        self._units_per_s = units_per_s
        self._clock = clock
        self._free_at = clock.monotonic()

    async def turn(self) -> None:
        """Wait until all that was spent is paid."""
        if self._units_per_s is None:
            return
        while (wait_s := self._free_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait_s)

    def spend(self, units: float) -> None:
        """Account for a page."""
        self.units += units
        if self._units_per_s is not None:
            self._free_at = max(self._free_at, self._clock.monotonic()) + units / self._units_per_s
