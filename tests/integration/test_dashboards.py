"""The dashboard and the alerts, run against a real Prometheus that scrapes a real admin server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from connector.clock import SystemClock
from connector.delivery.breaker import BreakerState
from connector.observe import admin
from connector.observe.metrics import METRICS, MetricType
from connector.observe.snapshot import (
    ChangeCount,
    DestinationSnapshot,
    LetterCount,
    PipelineSnapshot,
    PipelineState,
    RouteCounts,
    SourceSnapshot,
    StoreSnapshot,
)
from tests.servers.fixtures import StartPrometheus
from tests.servers.process import ServerMissing, program
from tests.unit.observe.builders import a_pipeline, a_route, a_shard

GRAFANA = Path(__file__).parents[2] / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "millrace.json"
ALERTS = GRAFANA / "alerts.yml"
RULE_TESTS = Path(__file__).parent / "alert_rules.yml"
ENOUGH_SCRAPES_S = 30
HOUR_MS = 3_600_000


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def runnable(expression: str) -> str:
    """The expression as Grafana would send it, with spans that fit a test: seconds instead of minutes."""
    for variable, value in {"$pipeline": ".*", "$route": ".*", "$__rate_interval": "10s"}.items():
        expression = expression.replace(variable, value)
    expression = re.sub(r"offset \d+m", "offset 10s", expression)
    return re.sub(r"\[(\d+)m(?::(\d+)m)?\]", lambda m: "[10s:1s]" if m[2] else "[10s]", expression)


class GrowingDaemon:
    """Makes snapshots whose counters grow by the second, as a daemon's do; well or ill."""

    def __init__(self, *, ill: bool) -> None:
        self.ill = ill
        self.began_ms = SystemClock().now_ms()

    def __call__(self) -> list[PipelineSnapshot]:
        now_ms = SystemClock().now_ms()
        ticks = (now_ms - self.began_ms) // 100
        return [self._ill(now_ms, ticks)] if self.ill else [self._well(now_ms, ticks)]

    def _well(self, now_ms: int, ticks: int) -> PipelineSnapshot:
        route = a_route(
            changes=[ChangeCount("INSERT", "applied", 90 * ticks), ChangeCount("MODIFY", "filtered", ticks)],
            retries={"timeout": ticks},
            bisections=ticks,
        )
        for histogram in (route.batch_sizes, route.end_to_end_seconds, route.call_seconds["applied"]):
            histogram.counts[2] += 10 * ticks
            histogram.total += 10.0 * ticks
        counts = RouteCounts(read=91 * ticks + 8, applied=90 * ticks, filtered=ticks, in_flight=8)
        shard = a_shard(now_ms=now_ms, routes={"search": counts})
        return a_pipeline(now_ms=now_ms, routes=[route], shards=[shard], records_read=91 * ticks)

    def _ill(self, now_ms: int, ticks: int) -> PipelineSnapshot:
        route = a_route(
            breaker=BreakerState.OPEN,
            unavailable_since_ms=now_ms - HOUR_MS,
            stopped_reason="mapping error at orders/0 position 8",
            dead_letters=[LetterCount("rejected", "mapping", ticks)],
        )
        counts = RouteCounts(read=100 * ticks + 3, applied=99 * ticks, dead_lettered=ticks)  # three are unaccounted for
        shard = a_shard(
            now_ms=now_ms,
            end=100_000 * ticks + 2000,
            lag_records=100_000 * ticks + 1908,
            lag_ms=20 * HOUR_MS,
            watermark_moved_ms=now_ms - HOUR_MS,
            routes={"search": counts},
        )
        return a_pipeline(
            now_ms=now_ms,
            state=PipelineState.FAILED,
            routes=[route],
            shards=[shard],
            source=SourceSnapshot(type="kafka", last_error="all brokers are down"),
            checkpoint_store=StoreSnapshot(ok=False, last_error="disk full", last_saved_ms=now_ms - HOUR_MS),
            dead_letters=DestinationSnapshot(ok=False, last_error="disk full"),
        )


@contextmanager
def serving(snapshots: Callable[[], list[PipelineSnapshot]]) -> Iterator[str]:
    """A real admin server on an event loop of its own; gives its ``host:port``."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(admin.start("127.0.0.1", 0, snapshots), loop).result(10)
        yield f"127.0.0.1:{server.port}"
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def wait_for_scrapes(query: Callable[[str], list[dict[str, Any]]]) -> None:
    """Until rates have something to go by."""
    deadline = time.monotonic() + ENOUGH_SCRAPES_S
    while not any(float(row["value"][1]) >= 5 for row in query("count_over_time(millrace_ready[1m])")):
        assert time.monotonic() < deadline, "the admin server is not being scraped"
        time.sleep(0.5)


def test_every_panel_has_data_of_a_daemon_that_works(prometheus: StartPrometheus) -> None:
    with serving(GrowingDaemon(ill=False)) as target:
        server = prometheus(targets=[target])
        wait_for_scrapes(server.query)
        for panel in panels():
            for asked in panel["targets"]:
                rows = server.query(runnable(asked["expr"]))
                assert rows, f"{panel['title']}: no data from {asked['expr']}"
                assert all(row["value"][1] != "NaN" for row in rows), f"{panel['title']}: NaN from {asked['expr']}"


def test_no_alert_speaks_of_a_daemon_that_works(prometheus: StartPrometheus) -> None:
    with serving(GrowingDaemon(ill=False)) as target:
        server = prometheus(targets=[target], rule_files=[ALERTS])
        wait_for_scrapes(server.query)
        for rule in alerts():
            assert server.query(runnable(rule["expr"])) == [], rule["alert"]


def test_every_alert_speaks_of_a_daemon_in_trouble_and_can_be_told_apart(prometheus: StartPrometheus) -> None:
    with serving(GrowingDaemon(ill=True)) as target:
        server = prometheus(targets=[target], rule_files=[ALERTS])
        wait_for_scrapes(server.query)
        for rule in alerts():
            if rule["alert"] == "MillraceAbsent":
                continue
            rows = server.query(runnable(rule["expr"]))
            assert rows, f"{rule['alert']} says nothing"
            used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            assert used <= set(rows[0]["metric"]), f"{rule['alert']} speaks of labels that it has not"


def test_a_daemon_that_is_not_there_is_told(prometheus: StartPrometheus) -> None:
    server = prometheus(targets=[])
    (absent,) = (rule for rule in alerts() if rule["alert"] == "MillraceAbsent")
    assert len(server.query(absent["expr"])) == 1


@pytest.mark.servers
def test_promtool_accepts_the_rules() -> None:
    try:
        promtool = program("promtool", "prometheus")
    except ServerMissing as missing:
        pytest.skip(str(missing))
    told = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert f"{len(alerts())} rules found" in told.stdout


@pytest.mark.servers
def test_alerts_wait_as_long_as_they_should() -> None:
    """Prometheus's own unit tests of the rules, over simulated hours."""
    try:
        promtool = program("promtool", "prometheus")
    except ServerMissing as missing:
        pytest.skip(str(missing))
    told = subprocess.run([promtool, "test", "rules", RULE_TESTS], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def exposed_names() -> set[str]:
    names = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.type is MetricType.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return names


def test_only_declared_metrics_are_asked_for() -> None:
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    expressions += [rule["expr"] for rule in alerts()]
    expressions += [variable["query"]["query"] for variable in variables if variable["type"] == "query"]
    asked = {name for text in expressions for name in re.findall(r"\b(?:millrace|process)_\w+", text)}
    assert asked <= exposed_names(), asked - exposed_names()


def test_what_is_promised_to_be_watched_is_on_the_dashboard_or_alerted() -> None:
    """Every declared metric is looked at somewhere, but for the few that only explain others."""
    text = DASHBOARD.read_text() + ALERTS.read_text()
    explaining = {"millrace_build_info", "millrace_records_empty_total", "millrace_changes_decoded_total"}
    unseen = {metric.name for metric in METRICS if metric.name not in text} - explaining
    assert unseen <= {"millrace_shard_changes_read_total"}


def test_every_alert_says_what_to_do_and_how_urgent_it_is() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert len(rule["annotations"]["runbook"]) > 80, rule["alert"]


def test_panels_do_not_overlap_and_say_what_they_are_for() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]


def test_the_dashboard_is_what_its_maker_makes() -> None:
    assert DASHBOARD.read_text() == the_maker().dashboard_text(), "run: python grafana/make_dashboard.py"


def the_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboard", GRAFANA / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", ["datasources", "dashboards"])
def test_provisioning_files_are_of_grafana_s_version(folder: str) -> None:
    (file,) = (GRAFANA / "provisioning" / folder).glob("*.yaml")
    told = yaml.safe_load(file.read_text())
    assert told["apiVersion"] == 1
    assert told["datasources" if folder == "datasources" else "providers"]
