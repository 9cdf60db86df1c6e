"""What a pipeline tells of itself, from its own plain counters (connector.observe.snapshot says what it means)."""

from __future__ import annotations

from connector.delivery.counts import Counts
from connector.delivery.ledger import Ledger
from connector.delivery.route import Route
from connector.delivery.versions import milliseconds
from connector.observe.snapshot import (
    DECODE_ROUTE,
    ChangeCount,
    DestinationSnapshot,
    LetterCount,
    PipelineSnapshot,
    RouteCounts,
    RouteSnapshot,
    ShardSnapshot,
    SourceSnapshot,
    StoreSnapshot,
)
from connector.pipeline import Pipeline
from connector.sources.protocol import Source


def snapshot(pipeline: Pipeline) -> PipelineSnapshot:
    """The pipeline at this moment."""
    now_ms = pipeline.clock.now_ms()
    shards = pipeline.shards
    names = [*(route.name for route in pipeline.routes), DECODE_ROUTE]
    return PipelineSnapshot(
        name=pipeline.options.name,
        state=pipeline.state,
        reason=pipeline.reason,
        stall_after_s=pipeline.options.stall_after_s,
        source=SourceSnapshot(
            type=pipeline.source_type,
            paused=pipeline.paused,
            last_error=getattr(pipeline.source, "last_error", ""),
            skipped=getattr(pipeline.source, "skipped", 0),
        ),
        checkpoint_store=StoreSnapshot(
            ok=not shards.last_error, last_error=shards.last_error, last_saved_ms=shards.last_saved_ms
        ),
        snapshot=getattr(pipeline.source, "snapshot_status", None),
        dead_letters=DestinationSnapshot(ok=not pipeline.office.last_error, last_error=pipeline.office.last_error),
        routes=[_route(route, plan.sink_type) for route, plan in zip(pipeline.routes, pipeline.plans, strict=True)],
        shards=[_shard(ledger, names, now_ms, pipeline.source) for _, ledger in sorted(shards.owned.items())],
        in_flight_changes=pipeline.bounds.changes,
        in_flight_changes_max=pipeline.bounds.changes_max,
        in_flight_bytes=pipeline.bounds.bytes,
        in_flight_bytes_max=pipeline.bounds.bytes_max,
        records_read=pipeline.intake.records,
        records_empty=pipeline.intake.empty,
        changes_decoded=pipeline.intake.changes,
        undecodable=dict(pipeline.intake.undecodable),
    )


def _route(route: Route, sink_type: str) -> RouteSnapshot:
    tally, writer = route.tally, route.writer
    return RouteSnapshot(
        name=route.name,
        sink=sink_type,
        lanes=route.policy.lanes,
        changes=[ChangeCount(name, ending, count) for (name, ending), count in tally.changes.items()],
        retries=dict(tally.retries),
        dead_letters=[LetterCount(kind, code, count) for (kind, code), count in tally.dead_letters.items()],
        bisections=tally.bisections,
        breaker=writer.breaker.state,
        unavailable_since_ms=writer.breaker.unavailable_since_ms,
        writes_in_flight=writer.at_once.under_way,
        held_keys=len(route.held),
        dead_letters_in_a_row=route.letter_watch.in_a_row,
        dead_letter_ratio=route.letter_watch.ratio,
        dead_letter_limit_passed=bool(route.letter_watch.exceeded),
        stopped_reason=tally.stopped_reason,
        last_error=tally.last_error,
        batch_sizes=tally.batch_sizes.copy(),
        call_seconds={result: histogram.copy() for result, histogram in tally.call_seconds.items()},
        end_to_end_seconds=tally.end_to_end_seconds.copy(),
    )


def _shard(ledger: Ledger, names: list[str], now_ms: int, source: Source) -> ShardSnapshot:
    position = ledger.read_position or 0
    watermark = ledger.finished_position
    # The end is asked for now and then: what was read since is beyond it.
    end = None if ledger.end is None else max(ledger.end, position)
    caught_up = ledger.idle and end is not None and watermark >= end
    behind_ms = max(0, now_ms - ledger.done_ms) if ledger.done_ms else None
    counted: bool = getattr(source, "positions_count", True)
    lag = None if end is None else max(0, end - watermark)
    # Items of a snapshot are of one time and kept as long as the table: neither late nor ever trimmed.
    retention_s = None if not ledger.timed else getattr(source, "retention_s", None)
    return ShardSnapshot(
        shard=ledger.shard,
        position=position,
        watermark=watermark,
        checkpoint=ledger.saved.position if ledger.saved else None,
        end=end,
        positions_count=counted,
        lag_records=lag if counted or lag == 0 else None,
        lag_ms=None if not ledger.timed else 0 if caught_up else behind_ms,
        watermark_moved_ms=ledger.moved_ms,
        retention_used=_retention_used(ledger, retention_s, now_ms, caught_up=caught_up),
        routes={name: _counts(counts) for name, counts in zip(names, ledger.counts, strict=True)},
    )


def _retention_used(ledger: Ledger, retention_s: float | None, now_ms: int, *, caught_up: bool) -> float | None:
    """The age of the last change below the saved checkpoint, by its version's time, in parts of the retention."""
    if retention_s is None:
        return None
    if caught_up and ledger.unsaved is None:
        return 0.0
    if ledger.saved is None or not (saved_ms := milliseconds(ledger.saved.clock)):
        return None
    return max(0, now_ms - saved_ms) / (retention_s * 1000)


def _counts(counts: Counts) -> RouteCounts:
    return RouteCounts(
        read=counts.read,
        in_flight=counts.in_flight,
        **{ending.value: count for ending, count in counts.ended.items()},
    )
