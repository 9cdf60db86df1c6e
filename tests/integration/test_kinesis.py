"""The daemon on a real Kinesis: shards that split and merge while it runs, kills, disorder, duplicates, aggregation."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import DaemonProcess, wait_until
from tests.integration.kinesis_stream import Stream
from tests.integration.kinesis_table import Table
from tests.servers.kinesis import KinesisLocal
from tests.unit.sources.kinesis.aggregate import aggregate

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "kinesis-to-search-embedded.yaml"


def configuration(server: KinesisLocal, stream: Stream, folder: Path, name: str, **source: Any) -> dict[str, Any]:
    checkpoints = {"every": "200ms"}
    if "leases" not in source:
        checkpoints |= {"type": "sqlite", "path": str(folder / "checkpoints.db")}
    return {
        "pipelines": {
            "orders": {
                "source": {
                    "type": "kinesis",
                    "stream": stream.name,
                    "region": server.region,
                    "endpoint": server.endpoint,
                    "format": "kinesis-dynamodb",
                    "start": "earliest",
                    "discover_every": "1s",
                    "idle_every": "200ms",
                    **source,
                },
                "checkpoints": checkpoints,
                "dead_letter": {"type": "file", "path": str(folder / f"{name}.letters.jsonl")},
                "routes": {
                    "search": {
                        "sink": {
                            "type": "search",
                            "path": str(folder / "search.db"),
                            "index": "orders",
                            "id": "{pk}",
                            "fields": ["pk"],
                        }
                    },
                    "audit": {"sink": {"type": "audit", "url": f"sqlite:///{folder / 'audit.db'}"}},
                },
            }
        }
    }


@pytest.fixture
def daemons(kinesis_local: KinesisLocal, tmp_path: Path) -> Iterator[Any]:
    """A function that makes a daemon for a stream."""
    made: list[DaemonProcess] = []
    login = {
        "AWS_ACCESS_KEY_ID": kinesis_local.access_key_id,
        "AWS_SECRET_ACCESS_KEY": kinesis_local.secret_access_key,
    }

    def make(stream: Stream, name: str = "millrace", **source: Any) -> DaemonProcess:
        config = configuration(kinesis_local, stream, tmp_path, name, **source)
        made.append(DaemonProcess(tmp_path, name, config, environment=login))
        return made[-1]

    yield make
    for daemon in made:
        daemon.end()


def rows(path: Path, statement: str) -> list[Any]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(statement).fetchall()


def documents(folder: Path) -> dict[str, Any]:
    found = rows(folder / "search.db", 'SELECT id, document FROM "orders:documents" WHERE document IS NOT NULL')
    return {id_: msgspec.json.decode(document) for id_, document in found}


def audited(folder: Path) -> list[str]:
    return [event_id for (event_id,) in rows(folder / "audit.db", "SELECT event_id FROM audit")]


def expected(table: Table) -> dict[str, Any]:
    return {pk: {"pk": pk, "n": int(item["n"]["N"])} for pk, item in table.items.items()}


def counted(daemon: DaemonProcess, what: str) -> int:
    return sum(counts[what] for shard in daemon.pipeline()["shards"] for counts in shard["routes"].values())


def has_read_some(daemon: DaemonProcess) -> bool:
    try:
        return counted(daemon, "read") > 0
    except OSError:
        return False


def test_a_stream_that_is_split_and_merged_under_a_daemon_that_is_killed_comes_out_as_the_table(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream, table = Stream(kinesis_local, 2), Table(keys=60, seed=7)
    daemon = daemons(stream)
    daemon.start()

    stream.put(table.changes(600))
    wait_until(lambda: has_read_some(daemon), 30, "it reads")
    stream.split(stream.shards()[0])
    stream.put(table.changes(600))
    daemon.kill()
    stream.split(stream.shards()[-1])
    stream.put(table.changes(600))
    daemon.start()
    stream.merge(*stream.shards()[1:3])
    stream.put(table.changes(600))
    wait_until(lambda: has_read_some(daemon), 30, "it reads again")
    daemon.kill()
    stream.merge(*stream.shards()[:2])
    daemon.start()
    stream.put(table.changes(600))
    last = stream.shards()

    wait_until(lambda: len(set(audited(tmp_path))) == len(table.event_ids), 90, "every change is in the audit table")
    wait_until(daemon.caught_up, 60, "it has caught up")
    wait_until(lambda: len(daemon.pipeline()["shards"]) == len(last), 30, "the closed shards have ended")
    assert documents(tmp_path) == expected(table)
    assert sorted(audited(tmp_path)) == sorted(table.event_ids)
    assert daemon.residues() == {0}
    assert counted(daemon, "dead_lettered") == 0
    assert counted(daemon, "superseded") > 0
    assert len(stream.shards(of_all=True)) == 8
    assert daemon.stop() == 0


def owned(daemon: DaemonProcess) -> set[str]:
    """The shards of a daemon; none where it does not answer yet."""
    try:
        return {shard["shard"] for shard in daemon.pipeline()["shards"]}
    except OSError:
        return set()


def test_two_replicas_share_a_stream_by_leases_and_one_takes_over_from_the_other_when_it_is_killed(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream, table = Stream(kinesis_local, 4), Table(keys=60, seed=11)
    leases = {"type": "sqlite", "path": str(tmp_path / "leases.db"), "duration": "2s"}
    one, other = (daemons(stream, name, leases=leases) for name in ("one", "other"))
    one.start()
    other.start()
    wait_until(lambda: len(owned(one)) == len(owned(other)) == 2, 60, "each has its share")
    assert not owned(one) & owned(other)

    stream.put(table.changes(400))
    stream.split(stream.shards()[0])
    stream.put(table.changes(400))
    one.kill()
    stream.put(table.changes(400))

    wait_until(lambda: len(set(audited(tmp_path))) == len(table.event_ids), 90, "every change is in the audit table")
    wait_until(lambda: len(owned(other)) == 5, 60, "all open shards are the other's")
    wait_until(other.caught_up, 60, "it has caught up")
    assert documents(tmp_path) == expected(table)
    assert sorted(audited(tmp_path)) == sorted(table.event_ids)
    assert other.residues() == {0}
    assert other.stop() == 0


def test_a_change_that_comes_late_never_overwrites_a_newer_one(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream, table = Stream(kinesis_local, 1), Table(keys=1, seed=3)
    old, new = [table.change()], [table.change()]
    daemon = daemons(stream)
    stream.put(new)
    daemon.start("--until-caught-up")
    assert daemon.wait(60) == 0
    stream.put(old)
    daemon.start("--until-caught-up")
    assert daemon.wait(60) == 0
    assert documents(tmp_path) == expected(table)
    assert sorted(audited(tmp_path)) == ["e0", "e1"]


def test_poison_in_an_aggregated_record_is_one_letter_and_the_others_are_applied(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream, table = Stream(kinesis_local, 1), Table(keys=9, seed=5)
    whole = [table.change() for _ in range(5)]
    told = [whole[0], ("x", b"{"), *whole[1:4], ("y", b"also broken"), whole[4]]
    stream.kinesis.put_record(StreamName=stream.name, Data=aggregate(told), PartitionKey="any")
    daemon = daemons(stream)
    daemon.start("--until-caught-up")
    assert daemon.wait(60) == 0
    letters = [msgspec.json.decode(line) for line in (tmp_path / "millrace.letters.jsonl").read_bytes().splitlines()]
    assert [letter["letter"]["record"].get("part", 0) for letter in letters] == [1, 5]
    assert len({letter["letter"]["id"] for letter in letters}) == 2
    assert documents(tmp_path) == expected(table)
    assert sorted(audited(tmp_path)) == sorted(table.event_ids)


def test_reading_begins_at_the_time_that_is_asked_for_also_behind_a_split(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream, table = Stream(kinesis_local, 1), Table(keys=40, seed=9)
    stream.put(table.changes(50))
    stream.split(stream.shards()[0])
    stream.put(table.changes(50))
    before = len(table.event_ids)
    time.sleep(1.1)  # the local Kinesis' clock is this machine's, in milliseconds
    since_ms = round(time.time() * 1000)
    time.sleep(0.1)
    stream.put(table.changes(50))
    daemon = daemons(stream, start={"timestamp": since_ms})
    daemon.start("--until-caught-up")
    assert daemon.wait(60) == 0
    assert sorted(audited(tmp_path)) == sorted(table.event_ids[before:])


def test_latest_is_what_is_written_from_now_on(kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path) -> None:
    stream, table = Stream(kinesis_local, 2), Table(keys=40, seed=9)
    stream.put(table.changes(50))
    before = len(table.event_ids)
    time.sleep(1.1)
    daemon = daemons(stream, start="latest")
    daemon.start()
    wait_until(daemon.ready, 30, "it is ready")
    wait_until(daemon.caught_up, 30, "it has looked")
    stream.put(table.changes(50))
    wait_until(lambda: len(set(audited(tmp_path))) == 50, 30, "what is new is there")
    assert sorted(audited(tmp_path)) == sorted(table.event_ids[before:])
    assert daemon.stop() == 0


def test_the_example_brings_a_stream_onto_the_index_and_the_audit_table(
    kinesis_local: KinesisLocal, tmp_path: Path
) -> None:
    """It names no endpoint: AWS's own variable says where Kinesis is."""
    stream, table = Stream(kinesis_local, 2), Table(keys=20, seed=2)
    stream.put(table.changes(100))
    environment = {
        "KINESIS_STREAM": stream.name,
        "DATA": str(tmp_path),
        "AWS_REGION": kinesis_local.region,
        "AWS_ENDPOINT_URL_KINESIS": kinesis_local.endpoint,
        "AWS_ACCESS_KEY_ID": kinesis_local.access_key_id,
        "AWS_SECRET_ACCESS_KEY": kinesis_local.secret_access_key,
    }
    config = tmp_path / "millrace.yaml"
    config.write_text(EXAMPLE.read_text() + "admin: {port: 0}\n")
    command = [sys.executable, "-m", "connector.cli", "run", "--until-caught-up", str(config)]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment}, check=True, timeout=120)
    assert documents(tmp_path) == expected(table)
    assert sorted(audited(tmp_path)) == sorted(table.event_ids)


def test_a_stream_that_does_not_exist_is_told_at_start(
    kinesis_local: KinesisLocal, daemons: Any, tmp_path: Path
) -> None:
    stream = Stream(kinesis_local, 1)
    stream.name = "no-such-stream"
    daemon = daemons(stream)
    daemon.start()
    assert daemon.wait(30) != 0
    assert "no-such-stream not found" in daemon.log.read_text()
