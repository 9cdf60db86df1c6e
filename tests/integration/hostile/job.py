"""One daemon with three pipelines (a file and two Kafka topics) in front of real servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import redis
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.daemon import DaemonProcess, wait_until
from tests.integration.hostile import debezium_cases, dynamodb_cases
from tests.integration.hostile.cases import INVALIDATE, Case, letters, write_lines
from tests.integration.hostile.dynamodb_cases import CHOSEN
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.redis import RedisCluster, RedisServer

HERE = frozenset({"search", INVALIDATE, "store", "audit", CHOSEN})
PIPELINES = ("file", "kafka", "debezium")
MAPPINGS = {
    "properties": {
        "keyword": {"type": "keyword"},
        "long": {"type": "long"},
        "date": {"type": "date"},
        "object": {"properties": {"a": {"type": "keyword"}}},
    }
}
NUMBERS = {"file": "reject", "kafka": "reject", "debezium": "number"}
"""What becomes of inexact numbers on the way to OpenSearch: stopped here, or for the server to judge."""
CLUSTERED = "kafka"
"""The pipeline whose cache is a cluster: braces in its keys then choose slots."""
ON_POISON = {"file": "hold_key", "kafka": "continue", "debezium": "continue"}
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
        index = {"index": servers.index(name), "id": "{pk}", "create_index": create, "numbers": NUMBERS[name]}
        free = {"index": "{index}", "id": "{id}", "allow_indexes": [f"{servers.prefix}allow*"]}
        picks = {"dynamodb": {"NewImage": {"index": {"S": [{"exists": True}]}}}}
        cache = {"type": "redis", "url": servers.cache_url(name), "cluster": name == CLUSTERED}
        routes: dict[str, Any] = {
            "search": {"sink": {**search, **index}},
            INVALIDATE: {"sink": {**cache, "invalidate": [f"{name}:c:{{pk}}"]}},
            "store": {"sink": {**cache, "write": {"key": f"{name}:%s:{{pk}}"}}},
            "audit": {"sink": {"type": "audit", "url": servers.audit, "table": f"audit_{name}"}},
        }
        if name == "file":
            routes[CHOSEN] = {"when": picks, "sink": {**search, **free, "create_index": {"settings": settings}}}
        for route in routes.values():
            route["on_poison"] = ON_POISON[name]
        return {
            "source": source,
            "dead_letter": {"type": "sqlite", "path": str(self.dead)},
            "checkpoints": {"every": "200ms", **({"path": str(folder / "checks.db")} if name == "file" else {})},
            "routes": routes,
        }

    def fill_cache(self) -> None:
        """Something under each cache key that is to be dropped, and under one that only a pattern would hit."""
        for name in PIPELINES:
            client = self.servers.cache_of(name)
            for pk in {case.pk for case in self.cases[name] if case.pk and len(case.pk) < 1000} | {"bystander"}:
                client.set(f"{name}:c:{pk}", "cached")

    def expected_letters(self, pipeline: str) -> dict[tuple[str, str], str]:
        """What must be in the dead letters of a pipeline."""
        routes = HERE if pipeline == "file" else HERE - {CHOSEN}
        return letters(self.cases[pipeline], routes)


class Servers:
    """Where this module's servers are."""

    def __init__(
        self, kafka: KafkaServer, search: OpenSearchServer, cache: RedisServer, cluster: RedisCluster, audit: str
    ) -> None:
        self.brokers = kafka.bootstrap
        self.search = search.url
        self.audit = audit
        self.topics = [make_topic(kafka), make_topic(kafka)]
        self.prefix = f"{self.topics[0]}-"
        self._cache = cache
        self._cluster = cluster

    def index(self, pipeline: str) -> str:
        """The index of a pipeline's ``search`` route."""
        return f"{self.prefix}{pipeline}"

    def cache_url(self, pipeline: str) -> str:
        """The cache as the configuration writes it. Redis's default user takes any password while it needs none."""
        url = self._cluster.url if pipeline == CLUSTERED else self._cache.url
        return url.replace("redis://", "redis://default:${CACHE_PASSWORD}@")

    def cache_of(self, pipeline: str) -> Any:
        """A client of the pipeline's cache."""
        if pipeline == CLUSTERED:
            return redis.RedisCluster.from_url(self._cluster.url)
        return redis.Redis.from_url(self._cache.url)


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


def make_topic(kafka: KafkaServer) -> str:
    """A topic of one partition that lasts as long as the broker."""
    name = f"hostile-{uuid4().hex[:12]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(timeout=30)
    return name
