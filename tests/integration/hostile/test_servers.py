"""Hostile records through one daemon, from a file and from Kafka, into real servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import redis
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.chaos.truth import index_documents
from tests.daemon import DaemonProcess, wait_until
from tests.integration.hostile import debezium_cases, dynamodb_cases, readback
from tests.integration.hostile.cases import DOOR, INVALIDATE, MARK, Case, events, items, letters, write_lines
from tests.integration.hostile.dynamodb_cases import CHOSEN
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.postgres import PostgresServer, fresh_database
from tests.servers.redis import RedisServer, empty

HERE = frozenset({"search", INVALIDATE, "store", "audit", CHOSEN})
PIPELINES = ("file", "kafka", "debezium")
MAPPINGS = {
    "properties": {
        "keyword": {"type": "keyword"},
        "long": {"type": "long"},
        "object": {"properties": {"a": {"type": "keyword"}}},
    }
}
PASSWORDS = {"SEARCH_PASSWORD": "hunter2-search", "CACHE_PASSWORD": "hunter2-cache"}
KAFKA_BYTES_MAX = 900_000


class Job:
    """One daemon with three pipelines, run to the end of its logs; what it said of itself, and where everything is."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers = servers
        self.dead = folder / "dead.db"
        plain = dynamodb_cases.all_cases(f"{servers.prefix}allowed", f"{servers.prefix}other")
        keyed = [replace(case, key=key) for case, key in zip(plain, _endless_keys(), strict=False)]
        fitting = [case for case in keyed if len(case.value or b"") < KAFKA_BYTES_MAX]
        tombstones = [Case(name=f"tombstone-{number}", value=None, routes=frozenset()) for number in range(3)]
        self.cases = {
            "file": plain,
            "kafka": [*tombstones, *fitting],
            "debezium": debezium_cases.all_cases(),
        }
        self.names = {
            "file": write_lines(folder / "hostile.jsonl", plain),
            "kafka": produce(servers.brokers, servers.topics[0], self.cases["kafka"]),
            "debezium": produce(servers.brokers, servers.topics[1], self.cases["debezium"]),
        }
        file = {"type": "file", "path": str(folder / "hostile.jsonl"), "follow": True, "format": "dynamodb"}
        sources = [file, self._topic(0, "dynamodb"), self._topic(1, "debezium")]
        config = {
            "log": {"format": "json", "level": "debug"},
            "pipelines": {
                name: self._pipeline(name, source, folder) for name, source in zip(PIPELINES, sources, strict=True)
            },
        }
        self.fill_cache()
        daemon = DaemonProcess(folder, "hostile", config, environment=PASSWORDS)
        daemon.start()
        try:
            wait_until(lambda: _all_caught_up(daemon), 90, "caught up")
            self.status = msgspec.json.decode(daemon.get("/status")[1])
            self.told = b"".join(daemon.get(path)[1] for path in ("/status", "/metrics", "/readyz", "/")).decode()
            self.metrics = daemon.get("/metrics")[1].decode()
            self.code = daemon.stop()
        finally:
            daemon.end()
        self.log = daemon.log.read_text()

    def _topic(self, number: int, format: str) -> dict[str, Any]:
        topic = self.servers.topics[number]
        source = {"type": "kafka", "brokers": [self.servers.brokers], "topics": [topic], "group": topic}
        return {**source, "start": "earliest", "format": format}

    def _pipeline(self, name: str, source: dict[str, Any], folder: Path) -> dict[str, Any]:
        servers = self.servers
        search = {
            "type": "opensearch",
            "url": servers.search,
            "auth": {"username": "somebody", "password": "${SEARCH_PASSWORD}"},
        }
        settings = {"number_of_shards": 1, "number_of_replicas": 0}
        create = {"mappings": MAPPINGS, "settings": settings}
        index = {"index": servers.index(name), "id": "{pk}", "create_index": create}
        free = {"index": "{index}", "id": "{id}", "allow_indexes": [f"{servers.prefix}allow*"]}
        picks = {"dynamodb": {"NewImage": {"index": {"S": [{"exists": True}]}}}}
        routes: dict[str, Any] = {
            "search": {"sink": {**search, **index}},
            INVALIDATE: {"sink": {"type": "redis", "url": servers.cache, "invalidate": [f"{name}:c:{{pk}}"]}},
            "store": {"sink": {"type": "redis", "url": servers.cache, "write": {"key": f"{name}:%s:{{pk}}"}}},
            "audit": {"sink": {"type": "audit", "url": servers.audit, "table": f"audit_{name}"}},
        }
        if name == "file":
            routes[CHOSEN] = {"when": picks, "sink": {**search, **free, "create_index": {"settings": settings}}}
        return {
            "source": source,
            "dead_letter": {"type": "sqlite", "path": str(self.dead)},
            "checkpoints": {"every": "200ms", **({"path": str(folder / "checks.db")} if name == "file" else {})},
            "routes": routes,
        }

    def fill_cache(self) -> None:
        """Something under each cache key that is to be dropped, and under some that only a pattern would hit."""
        client = redis.Redis.from_url(self.servers.cache_url)
        keys = {
            f"{name}:c:{case.pk}" for name in PIPELINES for case in self.cases[name] if case.pk and len(case.pk) < 1000
        }
        client.mset(dict.fromkeys(keys | {f"{name}:c:bystander" for name in PIPELINES}, "cached"))

    def expected_letters(self, pipeline: str) -> dict[tuple[str, str], str]:
        """What must be in the dead letters of a pipeline."""
        routes = HERE if pipeline == "file" else HERE - {CHOSEN}
        return letters(self.cases[pipeline], routes)


class Servers:
    """Where this module's servers are, as the configuration writes them."""

    def __init__(self, kafka: KafkaServer, search: OpenSearchServer, cache: RedisServer, audit: str) -> None:
        self.brokers = kafka.bootstrap
        self.search = search.url
        self.cache_url = cache.url
        # Redis's default user takes any password as long as it needs none.
        self.cache = cache.url.replace("redis://", "redis://default:${CACHE_PASSWORD}@")
        self.audit = audit
        self.prefix = ""
        self.topics: list[str] = []

    def index(self, pipeline: str) -> str:
        """The index of a pipeline's ``search`` route."""
        return f"{self.prefix}{pipeline}"


def produce(brokers: str, topic: str, cases: Sequence[Case]) -> dict[int, str]:
    """Write records in order; answers the name of the case at each offset."""
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    headers: list[tuple[str, str | bytes | None]] = [("\x1b[31m", b"\xff\x00"), ("null", None)]
    names: dict[int, str] = {}
    for case in cases:

        def delivered(error: object, message: Message, name: str = case.name) -> None:
            assert error is None, f"{name}: {error}"
            offset = message.offset()
            assert offset is not None
            names[offset] = name

        producer.produce(topic, case.value, case.key, headers=headers, on_delivery=delivered)
    assert producer.flush(30) == 0
    assert len(names) == len(cases)
    return names


def _endless_keys() -> Iterator[bytes | None]:
    while True:
        yield from (None, b"", b"\xff\xfe\x00", b"hunter2-value")


def _all_caught_up(daemon: DaemonProcess) -> bool:
    assert daemon.process.poll() is None, "the daemon has ended"
    try:
        pipelines = msgspec.json.decode(daemon.get("/status")[1])["pipelines"]
    except OSError:
        return False
    shards = [shard for pipeline in pipelines for shard in pipeline["shards"]]
    return len(shards) == len(PIPELINES) and all(
        shard["lag_records"] == 0 and shard["checkpoint"] == shard["watermark"] for shard in shards
    )


@pytest.fixture(scope="module")
def job(
    kafka: KafkaServer,
    opensearch: OpenSearchServer,
    redis_server: RedisServer,
    postgres: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Job]:
    with fresh_database(postgres) as audit:
        servers = Servers(kafka, opensearch, redis_server, audit)
        servers.topics = [make_topic(kafka), make_topic(kafka)]
        servers.prefix = f"{servers.topics[0]}-"
        empty(redis_server)
        _ask(f"{opensearch.url}/{servers.prefix}other", "PUT")
        try:
            yield Job(servers, tmp_path_factory.mktemp("hostile"))
        finally:
            _ask(f"{opensearch.url}/{servers.prefix}*", "DELETE")


def make_topic(kafka: KafkaServer) -> str:
    """A topic of one partition that lasts as long as the broker."""
    name = f"hostile-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(timeout=30)
    return name


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
    found = readback.stored_documents(job.servers.cache_url, f"{pipeline}:%s:")
    readback.same("cached items", found, items(job.cases[pipeline], "store"))


@each_pipeline
def test_keys_are_dropped_one_by_one_and_no_bystander_with_them(job: Job, pipeline: str) -> None:
    client = redis.Redis.from_url(job.servers.cache_url)
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
