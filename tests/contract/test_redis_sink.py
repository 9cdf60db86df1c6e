"""The redis sink keeps the contract of every sink: written through and invalidating, on one server and on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from fakeredis import TcpFakeServer
from redis import Redis, RedisCluster

from connector.change import Change
from connector.sink import Sink
from sinks.redis import RedisSink
from sinks.redis.config import RedisSinkConfig
from sinks.testing import (
    ImageContract,
    MakeSink,
    PoisonContract,
    ReadState,
    SinkContract,
    UnavailableContract,
    VersionedContract,
    context,
    insert,
)
from tests.contract.whole_clusters import wait_until_whole
from tests.servers.redis import RedisCluster as ClusterServers
from tests.servers.redis import RedisServer

PREFIX = "item:"


def redis_sink(url: str, **more: Any) -> RedisSink:
    return RedisSink(RedisSinkConfig.model_validate({"url": url, **more}), context())


def documents(client: Any) -> dict[str, dict[str, Any]]:
    """What a reader finds: the documents of all keys that have one."""
    found = (client.hget(key, "d") for key in client.scan_iter(match=f"{PREFIX}*"))
    return {item["pk"]: item for item in (json.loads(text) for text in found if text is not None)}


@pytest.fixture
def redis_cluster_database(redis_cluster_database: ClusterServers) -> ClusterServers:
    """As elsewhere, and every node agrees that the cluster is up."""
    return wait_until_whole(redis_cluster_database)


class WritingContract(VersionedContract, ImageContract, PoisonContract, UnavailableContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("x" * 1025, version=7)

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return redis_sink("redis://127.0.0.1:1", write={"key": PREFIX + "{pk}"}, timeout="1s")


class TestWritingThroughToOneServer(WritingContract):
    @pytest.fixture
    def make_sink(self, redis_database: RedisServer) -> MakeSink:
        return lambda: redis_sink(redis_database.url, write={"key": PREFIX + "{pk}"})

    @pytest.fixture
    def read_state(self, redis_database: RedisServer) -> ReadState:
        async def read() -> dict[str, dict[str, Any]]:
            with Redis.from_url(redis_database.url) as client:
                return documents(client)

        return read


class TestWritingThroughToACluster(WritingContract):
    @pytest.fixture
    def make_sink(self, redis_cluster_database: ClusterServers) -> MakeSink:
        return lambda: redis_sink(redis_cluster_database.url, cluster=True, write={"key": PREFIX + "{pk}"})

    @pytest.fixture
    def read_state(self, redis_cluster_database: ClusterServers) -> ReadState:
        async def read() -> dict[str, dict[str, Any]]:
            with RedisCluster.from_url(redis_cluster_database.url) as client:
                return documents(client)

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return redis_sink("redis://127.0.0.1:1", cluster=True, write={"key": PREFIX + "{pk}"}, timeout="1s")


class InvalidatingContract(PoisonContract, SinkContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("x" * 1025, version=7)


class TestInvalidatingOneServer(InvalidatingContract):
    @pytest.fixture
    def make_sink(self, redis_database: RedisServer) -> MakeSink:
        return lambda: redis_sink(redis_database.url, invalidate=[PREFIX + "{pk}", "list:{pk}"])


class TestInvalidatingACluster(InvalidatingContract):
    @pytest.fixture
    def make_sink(self, redis_cluster_database: ClusterServers) -> MakeSink:
        return lambda: redis_sink(redis_cluster_database.url, cluster=True, invalidate=[PREFIX + "{pk}", "list:{pk}"])


class TestInvalidatingAnEmbeddedServer(InvalidatingContract):
    """fakeredis over TCP: what runs where no Redis is. It knows no INFO and no scripts."""

    @pytest.fixture
    def make_sink(self) -> Iterator[MakeSink]:
        server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield lambda: redis_sink(f"redis://127.0.0.1:{server.server_address[1]}", invalidate=[PREFIX + "{pk}"])
        server.shutdown()
        server.server_close()
