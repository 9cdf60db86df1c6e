"""Hostile records through one daemon, from a file and from Kafka, into real servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest

from tests.chaos.truth import index_documents
from tests.integration.hostile import readback
from tests.integration.hostile.cases import DOOR, INVALIDATE, MARK, events, items
from tests.integration.hostile.dynamodb_cases import CHOSEN
from tests.integration.hostile.job import PASSWORDS, PIPELINES, Job, Servers
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.postgres import PostgresServer, fresh_database
from tests.servers.redis import RedisCluster, RedisServer, empty


@pytest.fixture(scope="module")
def job(  # noqa: PLR0917 - fixtures come by name
    kafka: KafkaServer,
    opensearch: OpenSearchServer,
    redis_server: RedisServer,
    redis_cluster: RedisCluster,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Job]:
    for server in (redis_server, *redis_cluster.nodes):
        empty(server)
    with fresh_database(postgres) as audit:
        servers = Servers(kafka, opensearch, redis_server, redis_cluster, audit)
        _ask(f"{opensearch.url}/{servers.prefix}other", "PUT")
        try:
            yield Job(servers, tmp_path_factory.mktemp("hostile"))
        finally:
            _ask(f"{opensearch.url}/{servers.prefix}*", "DELETE")


def _ask(url: str, method: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
        body: bytes = answer.read()
        return body


each_pipeline = pytest.mark.parametrize("pipeline", PIPELINES)


def test_the_daemon_lives_through_all_of_it_and_stops_in_order(job: Job) -> None:
    assert job.code == 0, job.log[-4000:]


@each_pipeline
def test_every_record_is_accounted_for(job: Job, pipeline: str) -> None:
    (status,) = [one for one in job.status["pipelines"] if one["name"] == pipeline]
    (shard,) = status["shards"]
    assert {route: counts["residue"] for route, counts in shard["routes"].items() if counts["residue"]} == {}
    assert {counts["in_flight"] for counts in shard["routes"].values()} == {0}
    cases = job.cases[pipeline]
    assert status["records_read"] == len([case for case in cases if case.value is not None or pipeline != "file"])
    assert sum(status["undecodable"].values()) == len([case for case in cases if DOOR in case.refused])
    changes = [case for case in cases if case.is_change and case.routes]
    assert status["changes_decoded"] == len(changes)
    assert status["records_empty"] == status["records_read"] - len(changes) - sum(status["undecodable"].values())


@each_pipeline
def test_every_poison_is_in_the_dead_letters_with_its_reason_and_nothing_else_is(job: Job, pipeline: str) -> None:
    found = readback.dead_letters(job.dead, pipeline, job.names[pipeline])
    readback.same("dead letters", found, job.expected_letters(pipeline))


@each_pipeline
def test_a_dead_letter_keeps_the_bytes_of_its_record(job: Job, pipeline: str) -> None:
    cases = {case.name: (case.key, case.value) for case in job.cases[pipeline]}
    kept = readback.kept_records(job.dead, pipeline)
    assert kept == {position: cases[job.names[pipeline][position]] for position in kept}
    assert kept


@each_pipeline
def test_the_index_holds_what_it_can_hold(job: Job, pipeline: str) -> None:
    found = index_documents(job.servers.search, job.servers.index(pipeline))
    readback.same("documents", found, items(job.cases[pipeline], "search"))


@each_pipeline
def test_the_cache_keeps_every_item_exactly(job: Job, pipeline: str) -> None:
    found = readback.stored_documents(job.servers.cache_of(pipeline), f"{pipeline}:%s:")
    readback.same("cached items", found, items(job.cases[pipeline], "store"))


@each_pipeline
def test_keys_are_dropped_one_by_one_and_no_bystander_with_them(job: Job, pipeline: str) -> None:
    client = job.servers.cache_of(pipeline)
    found = {key.decode() for key in client.scan_iter(f"{pipeline}:c:*", count=5000)}
    dropped = {case.pk for case in job.cases[pipeline] if case.reaches(INVALIDATE)}
    kept = {case.pk for case in job.cases[pipeline] if case.pk and len(case.pk) < 1000} - dropped
    assert found == {f"{pipeline}:c:{pk}" for pk in kept | {"bystander"}}


def test_postgresql_holds_every_event_once_and_exactly(job: Job) -> None:
    for pipeline in ("file", "kafka"):
        found = readback.postgres_rows(job.servers.audit, f"audit_{pipeline}")
        readback.same("audit rows", found, events(job.cases[pipeline], "audit"))
    rows = readback.postgres_rows(job.servers.audit, "audit_debezium")
    offsets = {name: offset for offset, name in job.names["debezium"].items()}
    expected = {
        f"{job.servers.topics[1]}/0:{offsets[case.name]}:0": case.item
        for case in job.cases["debezium"]
        if case.routes and case.reaches("audit")
    }
    readback.same("audit rows", rows, expected)


def test_items_reach_no_index_but_those_that_they_may_choose(job: Job) -> None:
    prefix = job.servers.prefix
    allowed = index_documents(job.servers.search, f"{prefix}allowed")
    chose = {case.name: case.item for case in job.cases["file"] if CHOSEN in case.routes and case.reaches(CHOSEN)}
    assert {document["note"] for document in allowed.values()} == {MARK}
    assert sorted(document["pk"] for document in allowed.values()) == sorted(f"{name}-{MARK}" for name in chose)
    assert not index_documents(job.servers.search, f"{prefix}other")
    indexes = {line["index"] for line in json.loads(_ask(f"{job.servers.search}/_cat/indices?format=json", "GET"))}
    assert {name for name in indexes if name.startswith(prefix)} == {
        f"{prefix}{name}" for name in ("allowed", "other", *PIPELINES)
    }
    assert not indexes & {"x", "_x", "*", "audit"}


def test_nothing_of_any_item_is_told_to_whoever_watches(job: Job) -> None:
    assert MARK not in job.log
    assert MARK not in job.told
    assert MARK not in readback.messages(job.dead)


def test_no_line_of_the_log_can_deceive_a_terminal_or_a_parser(job: Job) -> None:
    assert job.log.isascii()
    assert "\x1b" not in job.log
    assert all({"event", "level"} <= msgspec.json.decode(line).keys() for line in job.log.splitlines())


def test_no_label_of_a_metric_comes_from_a_record(job: Job) -> None:
    expected = {code for pipeline in PIPELINES for code in job.expected_letters(pipeline).values()}
    codes = {part.partition('"')[0] for part in job.metrics.split('code="')[1:]}
    assert codes == expected
    assert len(job.metrics.splitlines()) < 2500


def test_no_secret_is_in_the_log_the_metrics_the_status_or_the_dead_letters(job: Job) -> None:
    told = job.log + job.told + job.dead.read_bytes().decode("latin-1")
    for secret in (*PASSWORDS.values(), "millrace-tests"):
        assert secret not in told
