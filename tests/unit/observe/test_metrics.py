"""Metrics: what is declared is what is exposed, and both of Prometheus's formats parse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from connector.histogram import LATENCY_BOUNDS_S
from connector.observe.collector import CODES_MAX, exposition
from connector.observe.health import readiness
from connector.observe.metrics import METRICS, MetricType, metrics_markdown
from connector.observe.snapshot import (
    LetterCount,
    PipelineSnapshot,
    PipelineState,
    RouteCounts,
)
from tests.unit.observe.builders import NOW_MS, a_pipeline, a_route, a_shard, filled

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def parse_openmetrics(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return families


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(*snapshots: PipelineSnapshot) -> Samples:
    problems = readiness(snapshots, NOW_MS)
    body, _ = exposition(snapshots, problems, NOW_MS, OPENMETRICS)
    found: Samples = {}
    for family in parse_openmetrics(body.decode()):
        for sample in family.samples:
            name = (sample.name, frozenset(sample.labels.items()))
            assert name not in found, f"two samples of {name}: Prometheus would refuse the scrape"
            found[name] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_every_declared_metric_is_exposed_and_no_other() -> None:
    names = {name for name, _ in scrape(a_pipeline()) if name.startswith("millrace_")}
    declared = set()
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.type is MetricType.HISTOGRAM else ("",)
        declared |= {metric.name + suffix for suffix in suffixes}
    assert names == declared


def test_labels_are_just_the_declared_ones() -> None:
    declared = {metric.name: set(metric.labels) for metric in METRICS}
    for (name, labels), _ in scrape(a_pipeline()).items():
        if name in declared:
            assert {label for label, _ in labels} == declared[name], name


def test_names_follow_prometheus_s_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("millrace_")
        assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER), metric.name
        assert metric.unit in {"", "seconds", "bytes"}
        assert metric.name.removesuffix("_total").endswith(metric.unit), metric.name
        assert metric.help.endswith("."), metric.name


@pytest.mark.parametrize("accept", ["", "text/plain; version=0.0.4", OPENMETRICS])
def test_both_formats_say_the_same(accept: str) -> None:
    body, content_type = exposition([a_pipeline()], [], NOW_MS, accept)
    parse = parse_openmetrics if accept == OPENMETRICS else parse_text
    assert content_type.startswith("application/openmetrics-text" if accept == OPENMETRICS else "text/plain")
    samples = {sample.name: sample.value for family in parse(body.decode()) for sample in family.samples}
    assert samples["millrace_lag_records"] == 18
    assert samples["millrace_ready"] == 1
    assert "process_cpu_seconds_total" in samples


def test_the_numbers_are_those_of_the_snapshot() -> None:
    samples = scrape(a_pipeline())
    place = {"pipeline": "orders", "route": "search"}
    applied = {"event_name": "INSERT", "outcome": "applied"}
    assert value(samples, "millrace_changes_total", **place, **applied) == 90
    assert value(samples, "millrace_dead_letters_total", **place, kind="rejected", code="mapping") == 2
    assert value(samples, "millrace_retries_total", **place, reason="timeout") == 3
    assert value(samples, "millrace_lag_seconds", pipeline="orders", shard="orders/0") == 1.5
    assert value(samples, "millrace_checkpoint_age_seconds", pipeline="orders") == 0.4
    assert value(samples, "millrace_checkpoint_unsaved_records", pipeline="orders", shard="orders/0") == 2
    assert value(samples, "millrace_records_undecodable_total", pipeline="orders", code="not_json") == 1
    assert value(samples, "millrace_pipeline_state", pipeline="orders", state="running") == 1
    assert value(samples, "millrace_pipeline_state", pipeline="orders", state="failed") == 0
    assert value(samples, "millrace_breaker_state", **place, state="closed") == 1


def test_histograms_are_cumulative_and_end_at_infinity() -> None:
    calls = {"applied": filled(LATENCY_BOUNDS_S, 0.001, 0.02, 0.02, 99.0)}
    samples = scrape(a_pipeline(routes=[a_route(call_seconds=calls)]))
    place = {"pipeline": "orders", "route": "search", "result": "applied"}
    assert value(samples, "millrace_sink_call_seconds_bucket", **place, le="0.001") == 1
    assert value(samples, "millrace_sink_call_seconds_bucket", **place, le="0.025") == 3
    assert value(samples, "millrace_sink_call_seconds_bucket", **place, le="+Inf") == 4
    assert value(samples, "millrace_sink_call_seconds_count", **place) == 4
    assert value(samples, "millrace_sink_call_seconds_sum", **place) == pytest.approx(99.041)


def test_the_conservation_identity_can_be_checked_from_the_metrics_alone() -> None:
    lost = RouteCounts(read=10, applied=3, filtered=1, superseded=1, stale=1, dead_lettered=1, abandoned=1, in_flight=1)
    samples = scrape(a_pipeline(shards=[a_shard(routes={"search": lost})]))
    place = {"pipeline": "orders", "route": "search", "shard": "orders/0"}
    finished = sum(
        number
        for (name, labels), number in samples.items()
        if name == "millrace_shard_changes_finished_total" and dict(labels).items() >= place.items()
    )
    read = value(samples, "millrace_shard_changes_read_total", **place)
    in_flight = value(samples, "millrace_shard_changes_in_flight", **place)
    assert read - finished - in_flight == value(samples, "millrace_conservation_residue", **place) == 1


def test_an_unknown_end_is_absent_rather_than_zero() -> None:
    samples = scrape(a_pipeline(shards=[a_shard(end=None, lag_records=None, lag_ms=None, checkpoint=None)]))
    names = {name for name, _ in samples}
    assert not names & {"millrace_lag_records", "millrace_lag_seconds", "millrace_checkpoint_unsaved_records"}


def test_a_watermark_at_the_end_is_not_standing_still() -> None:
    idle = a_shard(watermark=110, watermark_moved_ms=NOW_MS - 3_600_000)
    stuck = a_shard("orders/1", watermark_moved_ms=NOW_MS - 3_600_000)
    samples = scrape(a_pipeline(shards=[idle, stuck]))
    assert value(samples, "millrace_watermark_still_seconds", pipeline="orders", shard="orders/0") == 0
    assert value(samples, "millrace_watermark_still_seconds", pipeline="orders", shard="orders/1") == 3600


def test_one_failed_pipeline_leaves_the_other_ready() -> None:
    samples = scrape(a_pipeline(), a_pipeline("customers", state=PipelineState.FAILED))
    assert value(samples, "millrace_ready") == 0
    assert value(samples, "millrace_pipeline_ready", pipeline="orders") == 1
    assert value(samples, "millrace_pipeline_ready", pipeline="customers") == 0


def test_codes_that_a_sink_makes_up_without_end_are_summed_as_other() -> None:
    letters = [LetterCount("rejected", f"code-{number}", 1) for number in range(CODES_MAX + 25)]
    retries = {f"reason-{number}": 2 for number in range(CODES_MAX + 25)}
    undecodable = {f"code-{number}": 3 for number in range(CODES_MAX + 25)}
    samples = scrape(a_pipeline(routes=[a_route(dead_letters=letters, retries=retries)], undecodable=undecodable))
    place = {"pipeline": "orders", "route": "search"}
    assert value(samples, "millrace_dead_letters_total", **place, kind="rejected", code="other") == 25
    assert value(samples, "millrace_dead_letters_total", **place, kind="rejected", code="code-49") == 1
    assert value(samples, "millrace_retries_total", **place, reason="other") == 50
    assert value(samples, "millrace_records_undecodable_total", pipeline="orders", code="other") == 75
    assert sum(1 for name, _ in samples if name == "millrace_dead_letters_total") == CODES_MAX + 1


HOSTILE: Sequence[str] = ('a"b', "line\nbreak", "\x1b[31mred", "\ud800", "back\\slash", "\u202egnp.exe", "x" * 5000)


def test_hostile_codes_keep_the_scrape_whole() -> None:
    letters = [LetterCount("rejected", code, 1) for code in HOSTILE]
    # Two codes that are the same once they are cut must be one sample, or Prometheus refuses all of them.
    letters += [LetterCount("rejected", "y" * 80 + end, 1) for end in "ab"]
    samples = scrape(a_pipeline(routes=[a_route(dead_letters=letters)]))
    codes = {dict(labels)["code"]: n for (name, labels), n in samples.items() if name == "millrace_dead_letters_total"}
    assert len(codes) == len(HOSTILE) + 1
    assert codes["y" * 64] == 2
    assert max(map(len, codes)) <= 64
    assert "\\u001b[31mred" in codes


def test_the_documentation_names_every_metric() -> None:
    text = metrics_markdown()
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.type} |" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(METRICS)
