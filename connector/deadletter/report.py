"""What a replay came to, in numbers."""

from __future__ import annotations

from collections import Counter

import msgspec

from connector.deadletter.reopen import Reason


class RouteReport(msgspec.Struct):
    """The letters of one route."""

    replayed: Counter[str] = msgspec.field(default_factory=Counter)
    """By outcome: applied, stale, superseded, filtered, empty."""
    dead: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    """Still dead, by kind and code."""
    left: int = 0
    """Not tried to the end, because a sink was unavailable."""


class ReplayReport(msgspec.Struct):
    """By route; letters of undecodable records are under the route ""."""

    routes: dict[str, RouteReport] = msgspec.field(default_factory=dict)
    unavailable: dict[str, str] = msgspec.field(default_factory=dict)
    """Routes whose sink was unavailable for too long, and what it said last."""

    def route(self, name: str) -> RouteReport:
        """The numbers of one route."""
        return self.routes.setdefault(name, RouteReport())

    def died(self, route: str, reason: Reason) -> None:
        """A letter stays dead."""
        self.route(route).dead[reason.kind.value, reason.code] += 1

    @property
    def left(self) -> int:
        """How many letters were not tried to the end."""
        return sum(route.left for route in self.routes.values())

    @property
    def dead(self) -> int:
        """How many letters were tried and are still poison."""
        return sum(route.dead.total() for route in self.routes.values())
