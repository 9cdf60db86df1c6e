"""The breaker on dead letters: past a limit the route stops, instead of turning the whole stream into dead letters.

A mapping, a filter or a sink that was broken by a deployment rejects everything. To bury one poison change is right; to
bury all of them one by one is an outage that looks like work (Arroyo's ``DlqLimit`` exists for the same reason).

Only what was judged counts: applied and stale as accepted, poison as refused. Filtered and superseded changes never met
the sink, and a change that is held behind its key's letter is no failure of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from connector.clock import Clock
from connector.delivery.policy import LetterLimits

PARTS = 60
"""Into how many parts the window is cut: its far end moves on by a sixtieth at a time."""


class LetterWatch:
    """Watches what one route dead-letters (or the intake: undecodable records). Once past a limit, it stays so."""

    def __init__(self, limits: LetterLimits | None, clock: Clock) -> None:
        self.in_a_row = 0
        """Poison changes since the last accepted one, in the order of their outcomes over all lanes."""
        self.exceeded = ""
        """Which limit was passed, in words; empty while none is."""
        self._limits = limits
        self._clock = clock
        self._parts: deque[_Part] = deque()
        self._accepted = 0
        self._poison = 0

    @property
    def ratio(self) -> float:
        """Poison changes by all that were judged within the window; 0 when none was, or no ratio is watched."""
        self._forget()
        judged = self._accepted + self._poison
        return self._poison / judged if judged else 0.0

    def accepted(self, count: int) -> None:
        """The sink took so many changes in a row."""
        if self._limits is not None and count:
            self.in_a_row = 0
            self._remember(count, 0)

    def judged(self, verdicts: Sequence[bool]) -> None:
        """Changes were judged, in this order: True where the sink took one, False where it is to be dead-lettered.

        Called before they are dead-lettered: where ``exceeded`` is set after it, none of them may be.
        """
        limits = self._limits
        if limits is None or not verdicts:
            return
        longest = run = self.in_a_row
        for taken in verdicts:
            run = 0 if taken else run + 1
            longest = max(longest, run)
        self.in_a_row = run
        poison = verdicts.count(False)
        self._remember(len(verdicts) - poison, poison)
        if not poison or self.exceeded:
            return
        if limits.max_consecutive is not None and longest > limits.max_consecutive:
            self.exceeded = f"{longest} in a row, max_consecutive is {limits.max_consecutive}"
        elif limits.max_ratio is not None:
            self._judge_ratio(limits, limits.max_ratio)

    def _judge_ratio(self, limits: LetterLimits, max_ratio: float) -> None:
        self._forget()
        judged = self._accepted + self._poison
        if judged >= limits.ratio_min and self._poison > max_ratio * judged:
            self.exceeded = (
                f"{self._poison} of the last {judged} ({self._poison / judged:.1%}, within {limits.window_s:g} s), "
                f"max_ratio is {max_ratio:g}"
            )

    def _remember(self, accepted: int, poison: int) -> None:
        limits = self._limits
        if limits is None or limits.max_ratio is None:
            return
        now = self._clock.monotonic()
        if not self._parts or now >= self._parts[-1].until:
            self._forget()
            self._parts.append(_Part(now + limits.window_s / PARTS))
        part = self._parts[-1]
        part.accepted += accepted
        part.poison += poison
        self._accepted += accepted
        self._poison += poison

    def _forget(self) -> None:
        """Let go of the parts whose end is further back than the window."""
        if not self._parts or self._limits is None:
            return
        since = self._clock.monotonic() - self._limits.window_s
        while self._parts and self._parts[0].until <= since:
            part = self._parts.popleft()
            self._accepted -= part.accepted
            self._poison -= part.poison


class _Part:
    """One part of the window."""

    __slots__ = ("accepted", "poison", "until")

    def __init__(self, until: float) -> None:
        self.accepted = 0
        self.poison = 0
        self.until = until
