"""The dashboard and the alerts, run against a real Prometheus that scrapes a real admin server."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.clock import SystemClock
from connector.delivery.breaker import BreakerState
from connector.observe import admin
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
from tests.servers.process import ServerMissing, free_ports, program
from tests.unit.deploy.grafana import ALERTS, alerts, panels
from tests.unit.observe.builders import a_pipeline, a_route, a_shard

RULE_TESTS = Path(__file__).parent / "alert_rules.yml"
DEPLOY = Path(__file__).parents[2] / "deploy"
LOAD = DEPLOY / "load" / "generate.py"
EXAMPLE = DEPLOY / "examples" / "file-to-search-embedded.yaml"
ENOUGH_SCRAPES_S = 30
HOUR_MS = 3_600_000


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
        broken = a_route(
            "cache",
            changes=[ChangeCount("MODIFY", "dead_lettered", ticks)],
            dead_letters_in_a_row=ticks,
            dead_letter_ratio=1.0,
            dead_letter_limit_passed=True,
            stopped_reason="too many dead letters: 101 in a row, max_consecutive is 100",
        )
        counts = RouteCounts(read=100 * ticks + 3, applied=99 * ticks, dead_lettered=ticks)  # three are unaccounted for
        shard = a_shard(
            now_ms=now_ms,
            end=100_000 * ticks + 2000,
            lag_records=100_000 * ticks + 1908,
            lag_ms=20 * HOUR_MS,
            retention_used=20 / 24,
            watermark_moved_ms=now_ms - HOUR_MS,
            routes={"search": counts},
        )
        return a_pipeline(
            now_ms=now_ms,
            state=PipelineState.FAILED,
            routes=[route, broken],
            shards=[shard],
            source=SourceSnapshot(type="kafka", last_error="all brokers are down", skipped=ticks),
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


@contextmanager
def a_daemon_at_work(folder: Path) -> Iterator[str]:
    """The embedded example as a process of its own, reading a file that grows; gives its ``host:port``."""
    (port,) = free_ports(1)
    changes, config = folder / "changes.jsonl", folder / "millrace.yaml"
    made = subprocess.run(
        [sys.executable, LOAD, "--count", "30000", "--poison", "0.01", "--out", "-"], capture_output=True, check=True
    )
    lines = made.stdout.splitlines(keepends=True)
    changes.write_bytes(b"".join(lines[:1000]))
    told = yaml.safe_load(EXAMPLE.read_text())
    told["admin"] = {"port": port}
    told["pipelines"]["orders"]["source"]["follow"] = True
    config.write_text(yaml.safe_dump(told))
    growing = threading.Event()

    def grow() -> None:
        for start in range(1000, len(lines), 50):
            if growing.wait(0.1):
                return
            with changes.open("ab") as file:
                file.writelines(lines[start : start + 50])

    writer = threading.Thread(target=grow)
    environment = {**os.environ, "CHANGES": str(changes), "DATA": str(folder)}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-c", "from connector.cli import main; main()", "run", config],
            cwd=folder,
            env=environment,
            stderr=log,
        )
    try:
        writer.start()
        yield f"127.0.0.1:{port}"
        assert daemon.poll() is None, (folder / "log").read_text()
    finally:
        growing.set()
        writer.join()
        daemon.terminate()
        code = daemon.wait(30)
    assert code == 0, (folder / "log").read_text()


def test_dashboard_and_alerts_read_a_real_daemon(prometheus: StartPrometheus, tmp_path: Path) -> None:
    with a_daemon_at_work(tmp_path) as target:
        server = prometheus(targets=[target], rule_files=[ALERTS])
        wait_for_scrapes(server.query)
        # Nothing is ever tried again by the embedded sinks, and a file has no table; everything else must show.
        silent = {
            panel["title"] for panel in panels() for of in panel["targets"] if not server.query(runnable(of["expr"]))
        }
        assert silent <= {"Retries per second by reason", "Snapshots"}
        speaking = {rule["alert"] for rule in alerts() if server.query(runnable(rule["expr"]))}
        assert speaking == {"MillraceDeadLetters"}
        assert server.query("sum(abs(millrace_conservation_residue))")[0]["value"][1] == "0"
        assert float(server.query("sum(millrace_records_read_total)")[0]["value"][1]) >= 1000


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
