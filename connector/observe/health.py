"""Whether the daemon is ready, and what is wrong where, in words that somebody woken at night can use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from connector.delivery.breaker import BreakerState
from connector.observe.snapshot import PipelineSnapshot, PipelineState, RouteSnapshot, ShardSnapshot


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    component: str
    """Its place as in the configuration: ``pipelines.orders.routes.search``."""
    reason: str
    pipeline: str = ""
    """Empty where the problem is the whole daemon's."""


def readiness(snapshots: Sequence[PipelineSnapshot], now_ms: int) -> list[Problem]:
    """What is wrong at this moment; nothing of it means ready.

    Liveness is another question: a daemon whose sink is down is alive, and starting it again would mend nothing.
    """
    if not snapshots:
        return [Problem("daemon", "no pipeline has started yet")]
    return [problem for snapshot in snapshots for problem in _of_pipeline(snapshot, now_ms)]


def _of_pipeline(snapshot: PipelineSnapshot, now_ms: int) -> Iterator[Problem]:
    place = f"pipelines.{snapshot.name}"

    def problem(component: str, reason: str) -> Problem:
        return Problem(f"{place}{component}", reason, snapshot.name)

    match snapshot.state:
        case PipelineState.STOPPED:
            return  # it ended as it should: nothing is owed any more
        case PipelineState.FAILED:
            yield problem("", f"failed: {snapshot.reason or 'no reason was given'}")
        case PipelineState.STARTING:
            yield problem("", f"starting: {snapshot.reason or 'source, sinks and stores are being opened'}")
        case PipelineState.DRAINING:
            yield problem("", "draining: told to stop, finishing what is in flight")

    if snapshot.source.last_error:
        yield problem(".source", f"the {snapshot.source.type} source cannot be read: {snapshot.source.last_error}")
    for route in snapshot.routes:
        reason = _of_route(route, now_ms)
        if reason:
            yield problem(f".routes.{route.name}", reason)
    if not snapshot.checkpoint_store.ok:
        age = ago(now_ms - snapshot.checkpoint_store.last_saved_ms)
        yield problem(
            ".checkpoints",
            f"checkpoints cannot be saved, the last was {age} ago: {snapshot.checkpoint_store.last_error};"
            " a restart now would read everything since then again",
        )
    if not snapshot.dead_letters.ok:
        yield problem(
            ".dead_letter",
            f"dead letters cannot be written, so their changes wait: {snapshot.dead_letters.last_error}",
        )
    if snapshot.state is PipelineState.RUNNING:
        for shard in snapshot.shards:
            reason = _of_shard(shard, now_ms, snapshot.stall_after_s)
            if reason:
                yield problem(f".shards.{shard.shard}", reason)


def _of_route(route: RouteSnapshot, now_ms: int) -> str:
    if route.stopped_reason:
        return f"stopped by poison: {route.stopped_reason}"
    if route.unavailable_since_ms is None and route.breaker is BreakerState.CLOSED:
        return ""
    since = "" if route.unavailable_since_ms is None else f" for {ago(now_ms - route.unavailable_since_ms)}"
    said = route.last_error or "no error text"
    if route.breaker is BreakerState.CLOSED:
        return f"the {route.sink} sink has been unavailable{since}, trying again: {said}"
    trying = "no calls go to it" if route.breaker is BreakerState.OPEN else "one call is trying it"
    return f"the {route.sink} sink has been unavailable{since}, the breaker is {route.breaker} ({trying}): {said}"


def _of_shard(shard: ShardSnapshot, now_ms: int, stall_after_s: float) -> str:
    still_ms = now_ms - shard.watermark_moved_ms
    if not shard.lagging or still_ms <= stall_after_s * 1000:
        return ""
    waiting = [f"{name}: {counts.in_flight}" for name, counts in shard.routes.items() if counts.in_flight]
    where = f"in flight by route: {', '.join(waiting)}" if waiting else "nothing is in flight, so nothing is being read"
    end = f"read up to {shard.position}" if shard.end is None else f"the end is {shard.end}"
    lag = f"finished up to {shard.watermark}, {end}"
    return f"nothing has moved for {ago(still_ms)} though there is lag: {lag}; {where}"


def ago(milliseconds: int) -> str:
    """A span of time to read at a glance: ``850 ms``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    milliseconds = max(milliseconds, 0)
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds // 1000
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"
