"""Makes a snapshot's parts from configuration. Does no I/O."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from connector.checkpoints.protocol import CheckpointStore
from connector.clock import Clock
from connector.config.models import PipelineConfig
from connector.errors import ConfigError
from connector.snapshot.export import ExportScanner
from connector.snapshot.feed import FeedOptions, SnapshotFeed
from connector.snapshot.fits import can_be_scanned, misfit
from connector.snapshot.protocol import Scanner
from connector.snapshot.records import ItemFilter
from connector.snapshot.source import ScannableSource, SnapshotAlone, SnapshotCheckpoints, SnapshotThenStream
from connector.snapshot.state import DEMAND, PIPELINE
from connector.snapshot.store import SQLiteSnapshots
from connector.sources.protocol import Source

STALE_AFTER_S = 45.0
"""Indexes remember deletions for a minute at least (OpenSearch's ``index.gc_deletes``)."""


def with_snapshot(
    name: str, config: PipelineConfig, source: Source, checkpoints: CheckpointStore, clock: Clock
) -> tuple[Source, CheckpointStore]:
    """The source with a snapshot before and beside its stream, and the checkpoints of both. Raises ConfigError."""
    if (why := misfit(config, source)) is not None:
        raise ConfigError(f"snapshot: {why}")
    assert can_be_scanned(source)
    scan = config.scan
    feed = SnapshotFeed(
        _scanner(config, source),
        SQLiteSnapshots(config.checkpoints.path, name),
        FeedOptions(
            kind=PIPELINE,
            what=msgspec.json.encode({"table": source.table_name, "exports": scan.exports}).decode(),
            segments_at_once=scan.segments,
            units_per_s=scan.capacity_units_per_second,
            retention_s=getattr(source, "retention_s", None),
        ),
        clock=clock,
        chance=random.Random(),  # noqa: S311 - jitter, nothing secret
    )
    once = config.snapshot == "initial"
    return SnapshotThenStream(source, feed, once=once, clock=clock), SnapshotCheckpoints(checkpoints, feed)


def snapshot_alone(
    name: str, config: PipelineConfig, source: Source, clock: Clock, *, wanted: ItemFilter | None, what: dict[str, Any]
) -> tuple[SnapshotAlone, SnapshotCheckpoints]:
    """A snapshot on demand, beside a running stream: it scans. ``what``: the routes and the filter, for going on.

    Raises ConfigError for a source that cannot be scanned.
    """
    if not can_be_scanned(source):
        raise ConfigError(f"the source {config.source.type!r} has no table that could be read")
    scan = config.scan
    feed = SnapshotFeed(
        source.table_scanner(segments=scan.segments, page_items=scan.page_items),
        SQLiteSnapshots(config.checkpoints.path, name, exclusive=True),
        FeedOptions(
            kind=DEMAND,
            what=msgspec.json.encode({"table": source.table_name, **what}).decode(),
            segments_at_once=scan.segments,
            units_per_s=scan.capacity_units_per_second,
            stale_after_s=STALE_AFTER_S,
        ),
        clock=clock,
        chance=random.Random(),  # noqa: S311 - jitter, nothing secret
        wanted=wanted,
    )
    return SnapshotAlone(feed, clock), SnapshotCheckpoints(None, feed)


def _scanner(config: PipelineConfig, source: ScannableSource) -> Scanner:
    scan = config.scan
    page_items = min(scan.page_items, config.read.records_max)
    table = source.table_scanner(segments=scan.segments, page_items=page_items)
    if not scan.exports:
        return table
    return ExportScanner(
        scan.exports,
        table,
        page_items=page_items,
        files_at_once=scan.segments,
        region=scan.s3_region,
        endpoint=scan.s3_endpoint,
        profile=getattr(config.source.options, "profile", None),
    )
