"""Snapshots in one line: everything is well unless a test says otherwise."""

from __future__ import annotations

from typing import Any

from connector.histogram import BATCH_SIZE_BOUNDS, END_TO_END_BOUNDS_S, LATENCY_BOUNDS_S, Histogram, histogram
from connector.observe.snapshot import (
    ChangeCount,
    DestinationSnapshot,
    LetterCount,
    PipelineSnapshot,
    PipelineState,
    RouteCounts,
    RouteSnapshot,
    ShardSnapshot,
    SnapshotStatus,
    SourceSnapshot,
    StoreSnapshot,
)

NOW_MS = 1_790_000_000_000


def filled(bounds: tuple[float, ...], *values: float) -> Histogram:
    made = histogram(bounds)
    made.observe_many(values)
    return made


def a_route(name: str = "search", **changed: Any) -> RouteSnapshot:
    fields: dict[str, Any] = {
        "name": name,
        "sink": "opensearch",
        "lanes": 4,
        "changes": [ChangeCount("INSERT", "applied", 90), ChangeCount("MODIFY", "dead_lettered", 2)],
        "retries": {"timeout": 3},
        "dead_letters": [LetterCount("rejected", "mapping", 2)],
        "bisections": 1,
        "batch_sizes": filled(BATCH_SIZE_BOUNDS, 10, 80),
        "call_seconds": {"applied": filled(LATENCY_BOUNDS_S, 0.01, 0.02), "raised": filled(LATENCY_BOUNDS_S, 0.2)},
        "end_to_end_seconds": filled(END_TO_END_BOUNDS_S, 0.1, 0.2, 3.0),
    }
    return RouteSnapshot(**{**fields, **changed})


def a_shard(name: str = "orders/0", now_ms: int = NOW_MS, **changed: Any) -> ShardSnapshot:
    fields: dict[str, Any] = {
        "shard": name,
        "position": 100,
        "watermark": 92,
        "checkpoint": 90,
        "end": 110,
        "lag_records": 18,
        "lag_ms": 1500,
        "watermark_moved_ms": now_ms - 200,
        "retention_used": 0.125,
        "routes": {
            "search": RouteCounts(read=100, applied=90, dead_lettered=2, in_flight=8),
            "decode": RouteCounts(read=1, dead_lettered=1),
        },
    }
    return ShardSnapshot(**{**fields, **changed})


def a_pipeline(name: str = "orders", now_ms: int = NOW_MS, **changed: Any) -> PipelineSnapshot:
    fields: dict[str, Any] = {
        "name": name,
        "state": PipelineState.RUNNING,
        "source": SourceSnapshot(type="kafka"),
        "checkpoint_store": StoreSnapshot(last_saved_ms=now_ms - 400),
        "dead_letters": DestinationSnapshot(),
        "snapshot": SnapshotStatus(
            id="20260921T120000Z-00000000",
            state="running",
            started_ms=now_ms - 60_000,
            segments=4,
            segments_done=1,
            items=1200,
            items_estimate=5000,
            capacity_units=300.0,
            seconds_left=190.0,
        ),
        "routes": [a_route()],
        "shards": [a_shard(now_ms=now_ms)],
        "in_flight_changes": 8,
        "in_flight_changes_max": 10_000,
        "in_flight_bytes": 4096,
        "in_flight_bytes_max": 64 * 1024 * 1024,
        "records_read": 101,
        "changes_decoded": 100,
        "undecodable": {"not_json": 1},
    }
    return PipelineSnapshot(**{**fields, **changed})
