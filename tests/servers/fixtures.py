"""The pytest fixtures of the real servers; the table of what each gives is in `tests/servers/__init__.py`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers.dynamodb_local import DynamoDBLocal, running_dynamodb_local
from tests.servers.kafka import KafkaServer, running_kafka
from tests.servers.kinesis import KinesisLocal, running_kinesis
from tests.servers.moto import MotoServer, running_moto
from tests.servers.opensearch import OpenSearchServer, running_opensearch
from tests.servers.plugin import revive_after_tests
from tests.servers.postgres import PostgresServer, fresh_database, running_postgres
from tests.servers.process import ServerFailed, ServerMissing
from tests.servers.prometheus import PrometheusServer, running_prometheus
from tests.servers.redis import RedisCluster, RedisServer, empty, running_redis, running_redis_cluster

_TOPIC_TIMEOUT_S = 30

ServerT = TypeVar("ServerT")


class MakeTopic(Protocol):
    """Makes a Kafka topic that no other test has, and returns its name."""

    def __call__(self, partitions: int = 1, *, config: Mapping[str, str] | None = None, prefix: str = "test") -> str:
        """`config` is the topic's own, such as `{"cleanup.policy": "compact"}`."""
        ...


class StartPrometheus(Protocol):
    """Starts a Prometheus that lasts until the test's end."""

    def __call__(
        self,
        *,
        targets: Sequence[str] = (),
        rule_files: Sequence[Path] = (),
        job: str = "millrace",
        interval_s: int = 1,
    ) -> PrometheusServer:
        """`targets` are `host:port`; they are scraped, and rules evaluated, every `interval_s`."""
        ...


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[KafkaServer]:
    """A Kafka broker."""
    with _serving(running_kafka()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture
def kafka_topic(kafka: KafkaServer) -> MakeTopic:
    """A function that makes a topic."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def make(partitions: int = 1, *, config: Mapping[str, str] | None = None, prefix: str = "test") -> str:
        name = f"{prefix}-{uuid4().hex[:12]}"
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        admin.create_topics([topic])[name].result(timeout=_TOPIC_TIMEOUT_S)
        deadline = time.monotonic() + _TOPIC_TIMEOUT_S
        while not _every_partition_has_a_leader(admin, name, partitions):
            if time.monotonic() > deadline:
                raise ServerFailed(f"topic {name} has no leaders after {_TOPIC_TIMEOUT_S} s")
        return name

    return make


@pytest.fixture(scope="session")
def opensearch(pytestconfig: pytest.Config) -> Iterator[OpenSearchServer]:
    """An OpenSearch node."""
    with _serving(running_opensearch()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture
def opensearch_index_prefix(opensearch: OpenSearchServer) -> Iterator[str]:
    """A prefix for this test's index names; what begins with it is deleted at the end."""
    prefix = f"test-{uuid4().hex[:12]}-"
    yield prefix
    with urlopen(Request(f"{opensearch.url}/{prefix}*", method="DELETE"), timeout=30):
        pass


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """A Redis server."""
    with _serving(running_redis()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture
def redis_database(redis_server: RedisServer) -> RedisServer:
    """The Redis server, with nothing in it."""
    empty(redis_server)
    return redis_server


@pytest.fixture(scope="session")
def redis_cluster(pytestconfig: pytest.Config) -> Iterator[RedisCluster]:
    """A Redis cluster of three masters."""
    with _serving(running_redis_cluster()) as cluster:
        revive_after_tests(pytestconfig, *(node.process for node in cluster.nodes))
        yield cluster


@pytest.fixture
def redis_cluster_database(redis_cluster: RedisCluster) -> RedisCluster:
    """The Redis cluster, with nothing in it."""
    for node in redis_cluster.nodes:
        empty(node)
    return redis_cluster


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with _serving(running_postgres()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, for this test alone."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="session")
def dynamodb_local(pytestconfig: pytest.Config) -> Iterator[DynamoDBLocal]:
    """DynamoDB Local."""
    with _serving(running_dynamodb_local()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture(scope="session")
def kinesis_local(pytestconfig: pytest.Config) -> Iterator[KinesisLocal]:
    """A Kinesis."""
    with _serving(running_kinesis()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture(scope="session")
def moto_server(pytestconfig: pytest.Config) -> Iterator[MotoServer]:
    """Other services of AWS, by moto."""
    with _serving(running_moto()) as server:
        revive_after_tests(pytestconfig, server.process)
        yield server


@pytest.fixture
def prometheus() -> Iterator[StartPrometheus]:
    """A function that starts a Prometheus for this test."""
    with ExitStack() as stack:

        def start(
            *, targets: Sequence[str] = (), rule_files: Sequence[Path] = (), job: str = "millrace", interval_s: int = 1
        ) -> PrometheusServer:
            running = running_prometheus(targets=targets, rule_files=rule_files, job=job, interval_s=interval_s)
            return stack.enter_context(_serving(running))

        yield start


@contextmanager
def _serving(running: AbstractContextManager[ServerT]) -> Iterator[ServerT]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running)
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield server


def _every_partition_has_a_leader(admin: AdminClient, topic: str, partitions: int) -> bool:
    known = admin.list_topics(topic, timeout=_TOPIC_TIMEOUT_S).topics[topic].partitions
    return len(known) == partitions and all(partition.leader >= 0 for partition in known.values())
