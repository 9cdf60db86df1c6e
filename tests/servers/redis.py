"""Redis of Debian: a single server, and a cluster of three masters."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis

from tests.servers.process import HOST, ServerFailed, ServerProcess, data_folder, free_ports, program


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running Redis; its append-only file keeps the data through a restart or a kill."""

    host: str
    port: int
    process: ServerProcess

    @property
    def url(self) -> str:
        """`redis://host:port/0`"""
        return f"redis://{self.host}:{self.port}/0"


@dataclass(frozen=True, slots=True)
class RedisCluster:
    """Three masters that share the 16,384 slots, without replicas."""

    nodes: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        """The first node's; clients find the others."""
        return self.nodes[0].url


@contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """Redis, until the block ends; `options` are further command-line options. Raises `ServerMissing`."""
    server = program("redis-server", "redis-server")
    with data_folder("redis") as folder:
        port, cluster_port = free_ports(2)
        listening = ["--bind", HOST, "--port", str(port), "--cluster-port", str(cluster_port), "--dir", str(folder)]
        # Written to the operating system before each reply, so that a killed server has lost nothing.
        durable = ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        process = ServerProcess(
            "redis", [server, *listening, *durable, *options], folder=folder, answers=lambda: _answers(port)
        )
        try:
            process.start()
            yield RedisServer(HOST, port, process)
        finally:
            process.kill()


@contextmanager
def running_redis_cluster() -> Iterator[RedisCluster]:
    """A Redis cluster, until the block ends. Raises `ServerMissing`."""
    client = program("redis-cli", "redis-tools")
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = tuple(stack.enter_context(running_redis(*options)) for _ in range(3))
        addresses = [f"{node.host}:{node.port}" for node in nodes]
        create = [client, "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        done = subprocess.run(create, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ServerFailed(f"the Redis cluster cannot be made: {done.stdout}{done.stderr}")
        for node in nodes:
            node.process.wait_until_it_answers()
        yield RedisCluster(nodes)


def empty(server: RedisServer) -> None:
    """Remove every key and every function."""
    with redis.Redis(host=server.host, port=server.port) as client:
        client.flushall()


def _answers(port: int) -> bool:
    with redis.Redis(host=HOST, port=port, socket_timeout=2) as client:
        return bool(client.ping())
