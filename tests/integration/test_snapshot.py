"""Snapshot, then stream: DynamoDB Local's table, written to while it is read, equals the indexes at the end."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess, wait_until
from tests.integration.table_harness import CREDENTIALS, Table, embedded, indexed
from tests.servers.dynamodb_local import DynamoDBLocal, running_dynamodb_local
from tests.servers.opensearch import OpenSearchServer
from tests.servers.process import ServerMissing

FULL = os.environ.get("MILLRACE_CHAOS") == "full"
ITEMS = 100_000 if FULL else 20_000

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800 if FULL else 300)]


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[DynamoDBLocal]:
    """One of our own, in memory: a table of many items is to be written."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_dynamodb_local(in_memory=True))
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture
def table(dynamodb: DynamoDBLocal) -> Iterator[Table]:
    made = Table(dynamodb)
    yield made
    made.client.delete_table(TableName=made.name)


def pipeline(table: Table, folder: Path, **options: Any) -> dict[str, Any]:
    """A configuration with an embedded index and an audit table."""
    search = {"type": "search", "path": str(folder / "search.db"), "index": "orders", "id": "{pk}|{sk}"}
    return {
        "source": table.source(),
        "snapshot": "initial",
        "checkpoints": {"path": str(folder / "checkpoints.db"), "every": "200ms"},
        "dead_letter": {"type": "file", "path": str(folder / "letters.jsonl")},
        "routes": {
            "search": {"sink": {**search, "fields": ["note"]}},
            "audit": {"sink": {"type": "audit", "url": f"sqlite:///{folder / 'audit.db'}"}},
        },
        **options,
    }


def status(daemon: DaemonProcess) -> dict[str, Any]:
    try:
        found: dict[str, Any] | None = daemon.pipeline()["snapshot"]
    except OSError:
        found = None
    return found or {"state": "unknown", "items": 0}


def is_done(daemon: DaemonProcess) -> bool:
    return bool(status(daemon)["state"] == "done")


def saved(folder: Path) -> tuple[int, int]:
    """Items and pages that a restart does not read again."""
    with sqlite3.connect(folder / "checkpoints.db") as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'snapshot_segments'").fetchone():
            return 0, 0
        query = "SELECT coalesce(sum(items), 0), coalesce(sum(pages), 0) FROM snapshot_segments"
        items, pages = connection.execute(query).fetchone()
        return items, pages


def audited(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "audit.db") as connection:
        return [event_id for (event_id,) in connection.execute("SELECT event_id FROM audit")]


def test_a_table_that_changes_while_it_is_read_equals_the_indexes_though_the_daemon_is_killed_half_way(
    table: Table, opensearch: OpenSearchServer, opensearch_index_prefix: str, tmp_path: Path
) -> None:
    table.fill(ITEMS)
    index = f"{opensearch_index_prefix}orders"
    mappings = {"properties": {"sk": {"type": "long"}, "revision": {"type": "long"}}}
    # Slow enough for the changes to come while it reads: an item is some 130 bytes, a unit 4 kB.
    config = pipeline(table, tmp_path, scan={"page_items": 250, "capacity_units_per_second": ITEMS / 400})
    config["routes"]["opensearch"] = {
        "sink": {
            "type": "opensearch",
            "url": opensearch.url,
            "index": index,
            "id": "{pk}|{sk}",
            "create_index": {"mappings": mappings},
        }
    }
    daemon = DaemonProcess(tmp_path, "orders", {"pipelines": {"orders": config}}, environment=CREDENTIALS)
    try:
        daemon.start()
        wait_until(lambda: status(daemon)["items"] > 0, 60, "items are read")
        changing = table.changing(ITEMS, range(1, 6))
        wait_until(lambda: saved(tmp_path)[0] > ITEMS * 0.4, 600, "almost a half is finished and saved")
        assert not is_done(daemon)
        daemon.kill()
        items_before, pages_before = saved(tmp_path)

        daemon.start()
        wait_until(lambda: is_done(daemon), 600, "the snapshot is done")
        changing.join()
        truth = table.revisions()
        wait_until(lambda: embedded(tmp_path / "search.db", "orders") == truth, 120, "the embedded index is the table")
        wait_until(lambda: indexed(opensearch, index) == truth, 60, "OpenSearch is the table")
        assert daemon.residues() == {0}
        at_the_end = status(daemon)
        assert daemon.stop() == 0
    finally:
        daemon.end()

    assert sum(revision > 0 for revision in truth.values()) > 0
    assert len(truth) < ITEMS
    assert at_the_end["attempt"] == 2
    # What was saved was not read again: beside it, only what was left.
    assert ITEMS * 0.9 < at_the_end["items"] <= ITEMS
    items_again, pages_again = at_the_end["items"] - items_before, at_the_end["pages"] - pages_before
    assert items_again <= ITEMS * 0.6
    assert pages_again <= ITEMS * 0.6 / 250 + 2 * at_the_end["segments"]
    assert not [event_id for event_id in audited(tmp_path) if event_id.startswith("snapshot:")]
    assert audited(tmp_path)


def test_it_is_made_once_and_again_where_that_is_asked_for(table: Table, tmp_path: Path) -> None:
    table.fill(500)
    attempts = []
    for mode in ("initial", "initial", "always"):
        config = pipeline(table, tmp_path, snapshot=mode)
        config["routes"]["audit"]["snapshot"] = True
        daemon = DaemonProcess(tmp_path, "orders", {"pipelines": {"orders": config}}, environment=CREDENTIALS)
        try:
            daemon.start()
            wait_until(lambda daemon=daemon: is_done(daemon), 60, "the snapshot is done")  # type: ignore[misc]
            attempts.append(status(daemon)["id"])
            wait_until(lambda: embedded(tmp_path / "search.db", "orders") == table.revisions(), 30, "it is the table")
            assert daemon.stop() == 0
        finally:
            daemon.end()
    assert attempts[0] == attempts[1] != attempts[2]
    ids = [event_id for event_id in audited(tmp_path) if event_id.startswith("snapshot:")]
    assert len(ids) == len(set(ids)) == 1000


def test_one_is_made_on_demand_beside_the_daemon_and_goes_on_after_a_kill(table: Table, tmp_path: Path) -> None:
    items = 4000
    table.fill(items)
    config = pipeline(table, tmp_path, snapshot="never", scan={"page_items": 100, "capacity_units_per_second": 20})
    daemon = DaemonProcess(tmp_path, "orders", {"pipelines": {"orders": config}}, environment=CREDENTIALS)
    command = [sys.executable, "-m", "connector.cli", "snapshot", str(daemon.config), "--route", "search"]
    environment = {**os.environ, **CREDENTIALS}
    try:
        daemon.start()
        wait_until(lambda: daemon.ready() and bool(daemon.pipeline()["shards"]), 60, "the position is taken")
        first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        wait_until(lambda: saved(tmp_path)[0] > items // 4, 60, "a part is finished and saved")
        changing = table.changing(items, range(1, 2))
        first.kill()
        first.communicate()
        items_before, _ = saved(tmp_path)
        assert items_before < items
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        changing.join()
        assert second.returncode == 0, second.stderr
        assert "orders: done, " in second.stdout
        truth = table.revisions()
        wait_until(lambda: embedded(tmp_path / "search.db", "orders") == truth, 60, "the index is the table")
        assert daemon.stop() == 0
    finally:
        daemon.end()
    items_read, pages_read = saved(tmp_path)
    assert items * 0.9 < items_read <= items
    assert pages_read < items / 100 + 20


def test_a_filter_picks_the_items_of_one_on_demand(table: Table, tmp_path: Path) -> None:
    table.fill(500)
    config = pipeline(table, tmp_path)
    daemon = DaemonProcess(tmp_path, "orders", {"pipelines": {"orders": config}}, environment=CREDENTIALS)
    command = [sys.executable, "-m", "connector.cli", "snapshot", str(daemon.config), "--route", "search"]
    command += ["--filter", '{"pk": {"S": ["customer-7"]}}']
    ran = subprocess.run(
        command, env={**os.environ, **CREDENTIALS}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "nothing has followed the stream yet" in ran.stderr
    found = embedded(tmp_path / "search.db", "orders")
    assert found == {id_: 0 for id_ in table.revisions() if id_.startswith("customer-7|")}
    assert found
