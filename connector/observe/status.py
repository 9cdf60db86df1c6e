"""The daemon's state for people and scripts: the JSON of /status and /readyz."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from connector.histogram import Histogram
from connector.observe.health import Problem
from connector.observe.snapshot import PipelineSnapshot


def readiness_json(problems: Sequence[Problem]) -> bytes:
    """``{"ready": false, "problems": [{"component": …, "reason": …, "pipeline": …}]}``."""
    return msgspec.json.encode({"ready": not problems, "problems": problems})


def status_json(snapshots: Sequence[PipelineSnapshot], problems: Sequence[Problem], now_ms: int, version: str) -> bytes:
    """All that is known at this moment, with each shard's residue.

    Positions are texts: a sequence number has more digits than most readers of JSON keep.
    """
    return msgspec.json.encode(
        {
            "version": version,
            "now_ms": now_ms,
            "ready": not problems,
            "problems": problems,
            "pipelines": [_pipeline(snapshot) for snapshot in snapshots],
        }
    )


def _pipeline(snapshot: PipelineSnapshot) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(snapshot),
        "routes": [_route(route) for route in snapshot.routes],
        "shards": [_shard(shard) for shard in snapshot.shards],
    }


def _route(route: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(route)
    return {
        **fields,
        "batch_sizes": _histogram(fields["batch_sizes"]),
        "end_to_end_seconds": _histogram(fields["end_to_end_seconds"]),
        "call_seconds": {result: _histogram(calls) for result, calls in fields["call_seconds"].items()},
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count(),
        "total": histogram.total,
        "bounds": histogram.bounds,
        "counts": histogram.counts,
    }


def _shard(shard: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(shard)
    for name in ("position", "watermark", "checkpoint", "end"):
        fields[name] = None if fields[name] is None else str(fields[name])
    fields["routes"] = {
        name: {**msgspec.structs.asdict(counts), "residue": counts.residue()} for name, counts in shard.routes.items()
    }
    return fields
