"""Snapshots → Prometheus's text. Made at scrape time, so that the engine's counting never meets Prometheus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from connector.delivery.breaker import BreakerState
from connector.histogram import Histogram
from connector.observe import metrics as m
from connector.observe.escape import escape_text
from connector.observe.health import Problem
from connector.observe.metrics import METRICS, MetricDefinition, MetricType
from connector.observe.snapshot import PipelineSnapshot, PipelineState, RouteSnapshot, ShardSnapshot, SnapshotStatus

CODES_MAX = 50
"""Distinct codes a route that become label values; sinks of third parties may make up more."""
OTHER = "other"
_CODE_CHARACTERS_MAX = 64


def exposition(
    snapshots: Sequence[PipelineSnapshot], problems: Sequence[Problem], now_ms: int, accept: str
) -> tuple[bytes, str]:
    """The answer to one scrape, and its content type: OpenMetrics where the ``Accept`` header asks for it.

    A plain function of its arguments (but for the process's own metrics), so that any thread may run it.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Scrape(snapshots, problems, now_ms)), content_type


class _Scrape(Collector):
    """What prometheus_client's encoders ask for: an object with ``collect``."""

    def __init__(self, snapshots: Sequence[PipelineSnapshot], problems: Sequence[Problem], now_ms: int) -> None:
        self.snapshots = snapshots
        self.problems = problems
        self.now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        yield from families(self.snapshots, self.problems, self.now_ms)
        yield from _process_registry().collect()


@cache
def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@cache
def millrace_version() -> str:
    """The installed version."""
    try:
        return version("millrace")
    except PackageNotFoundError:
        return "unknown"


def families(
    snapshots: Sequence[PipelineSnapshot], problems: Sequence[Problem], now_ms: int
) -> list[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
    """Every declared metric, with the samples of these snapshots."""
    page = _Page()
    page.add(m.BUILD, (millrace_version(),), 1)
    page.add(m.READY, (), not problems)
    troubled = {problem.pipeline for problem in problems}
    for snapshot in snapshots:
        _pipeline(page, snapshot, now_ms, ready=snapshot.name not in troubled)
        for route in snapshot.routes:
            _route(page, snapshot.name, route, now_ms)
        for shard in snapshot.shards:
            _shard(page, snapshot.name, shard, now_ms)
    return list(page.families.values())


class _Page:
    """The families of one scrape. Only declared metrics can be added, with just their labels."""

    def __init__(self) -> None:
        self.families = {metric.name: _family(metric) for metric in METRICS}

    def add(self, metric: MetricDefinition, labels: Sequence[str], value: float) -> None:
        family = self.families[metric.name]
        assert not isinstance(family, HistogramMetricFamily), metric.name
        assert len(labels) == len(metric.labels), metric.name
        family.add_metric([escape_text(label) for label in labels], float(value))

    def add_histogram(self, metric: MetricDefinition, labels: Sequence[str], histogram: Histogram) -> None:
        family = self.families[metric.name]
        assert isinstance(family, HistogramMetricFamily), metric.name
        assert len(labels) == len(metric.labels), metric.name
        buckets, so_far = [], 0
        for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
            so_far += count
            buckets.append(("+Inf" if bound == math.inf else repr(float(bound)), float(so_far)))
        family.add_metric([escape_text(label) for label in labels], buckets, histogram.total)


def _family(metric: MetricDefinition) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    match metric.type:
        case MetricType.COUNTER:
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
        case MetricType.GAUGE:
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
        case MetricType.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)


def _pipeline(page: _Page, snapshot: PipelineSnapshot, now_ms: int, *, ready: bool) -> None:
    labels = (snapshot.name,)
    page.add(m.PIPELINE_READY, labels, ready)
    for state in PipelineState:
        page.add(m.PIPELINE_STATE, (snapshot.name, state), snapshot.state is state)
    page.add(m.RECORDS_READ, labels, snapshot.records_read)
    page.add(m.RECORDS_EMPTY, labels, snapshot.records_empty)
    page.add(m.CHANGES_DECODED, labels, snapshot.changes_decoded)
    for (code,), count in bounded(((code,), count) for code, count in snapshot.undecodable.items()):
        page.add(m.UNDECODABLE, (snapshot.name, code), count)
    page.add(m.SOURCE_PAUSED, labels, snapshot.source.paused)
    page.add(m.SOURCE_OK, labels, not snapshot.source.last_error)
    page.add(m.SOURCE_SKIPPED, labels, snapshot.source.skipped)
    page.add(m.CHECKPOINT_STORE_OK, labels, snapshot.checkpoint_store.ok)
    if snapshot.state is not PipelineState.STOPPED:
        page.add(m.CHECKPOINT_AGE, labels, _seconds(now_ms - snapshot.checkpoint_store.last_saved_ms))
    page.add(m.DEAD_LETTER_DESTINATION_OK, labels, snapshot.dead_letters.ok)
    page.add(m.IN_FLIGHT_CHANGES, labels, snapshot.in_flight_changes)
    page.add(m.IN_FLIGHT_MAX_CHANGES, labels, snapshot.in_flight_changes_max)
    page.add(m.IN_FLIGHT_BYTES, labels, snapshot.in_flight_bytes)
    page.add(m.IN_FLIGHT_MAX_BYTES, labels, snapshot.in_flight_bytes_max)
    if snapshot.snapshot is not None:
        _snapshot(page, snapshot.name, snapshot.snapshot)


def _snapshot(page: _Page, pipeline: str, status: SnapshotStatus) -> None:
    labels = (pipeline,)
    page.add(m.SNAPSHOT_RUNNING, labels, status.state != "done")
    page.add(m.SNAPSHOT_ITEMS, labels, status.items)
    if status.items_estimate is not None:
        page.add(m.SNAPSHOT_EXPECTED_ITEMS, labels, status.items_estimate)
    page.add(m.SNAPSHOT_SEGMENTS, labels, status.segments)
    page.add(m.SNAPSHOT_DONE_SEGMENTS, labels, status.segments_done)
    page.add(m.SNAPSHOT_UNITS, labels, status.capacity_units)
    if status.seconds_left is not None:
        page.add(m.SNAPSHOT_LEFT, labels, status.seconds_left)


def _route(page: _Page, pipeline: str, route: RouteSnapshot, now_ms: int) -> None:
    labels = (pipeline, route.name)
    page.add(m.ROUTE_LANES, (*labels, route.sink), route.lanes)
    for change in route.changes:
        page.add(m.CHANGES, (*labels, change.event_name, change.outcome), change.count)
    for (reason,), count in bounded(((reason,), count) for reason, count in route.retries.items()):
        page.add(m.RETRIES, (*labels, reason), count)
    for (kind, code), count in bounded(((letter.kind, letter.code), letter.count) for letter in route.dead_letters):
        page.add(m.DEAD_LETTERS, (*labels, kind, code), count)
    page.add(m.BISECTIONS, labels, route.bisections)
    for state in BreakerState:
        page.add(m.BREAKER, (*labels, state), route.breaker is state)
    since = route.unavailable_since_ms
    page.add(m.UNAVAILABLE_SECONDS, labels, 0 if since is None else _seconds(now_ms - since))
    page.add(m.ROUTE_STOPPED, labels, bool(route.stopped_reason))
    page.add(m.DEAD_LETTERS_IN_A_ROW, labels, route.dead_letters_in_a_row)
    page.add(m.DEAD_LETTER_RATIO, labels, route.dead_letter_ratio)
    page.add(m.DEAD_LETTER_LIMIT, labels, route.dead_letter_limit_passed)
    page.add(m.HELD_KEYS, labels, route.held_keys)
    page.add(m.WRITES_IN_FLIGHT, labels, route.writes_in_flight)
    page.add_histogram(m.BATCH_CHANGES, labels, route.batch_sizes)
    page.add_histogram(m.END_TO_END, labels, route.end_to_end_seconds)
    for result, histogram in route.call_seconds.items():
        page.add_histogram(m.SINK_CALL, (*labels, result), histogram)


def _shard(page: _Page, pipeline: str, shard: ShardSnapshot, now_ms: int) -> None:
    labels = (pipeline, shard.shard)
    if shard.lag_records is not None:
        page.add(m.LAG_RECORDS, labels, shard.lag_records)
    if shard.lag_ms is not None:
        page.add(m.LAG_SECONDS, labels, _seconds(shard.lag_ms))
    page.add(m.STILL_SECONDS, labels, _seconds(now_ms - shard.watermark_moved_ms) if shard.lagging else 0)
    if shard.retention_used is not None:
        page.add(m.RETENTION_USED, labels, shard.retention_used)
    if shard.checkpoint is not None and shard.positions_count:
        page.add(m.CHECKPOINT_UNSAVED, labels, shard.watermark - shard.checkpoint)
    for route, counts in shard.routes.items():
        place = (pipeline, route, shard.shard)
        page.add(m.SHARD_READ, place, counts.read)
        for outcome, count in counts.finished().items():
            page.add(m.SHARD_FINISHED, (*place, outcome), count)
        page.add(m.SHARD_IN_FLIGHT, place, counts.in_flight)
        page.add(m.RESIDUE, place, counts.residue())


def bounded(counts: Iterable[tuple[tuple[str, ...], int]]) -> Iterable[tuple[tuple[str, ...], int]]:
    """Counts by words of which the last is a code, with codes beyond the first CODES_MAX summed as ``other``.

    The first ones met keep their names, so a counter never moves from one name to another while the engine
    keeps the order in which it met them (dicts do).
    """
    kept: dict[tuple[str, ...], int] = {}
    for words, count in counts:
        name = tuple(escape_text(word)[:_CODE_CHARACTERS_MAX] for word in words)
        if name not in kept and len(kept) >= CODES_MAX:
            name = (*name[:-1], OTHER)
        kept[name] = kept.get(name, 0) + count
    return kept.items()


def _seconds(milliseconds: int) -> float:
    return max(milliseconds, 0) / 1000
