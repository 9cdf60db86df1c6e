"""OpenSearch 2.19.1: one node with the core only (no scripts, no reindex, no delete-by-query, no ingest processors)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import urlopen

from tests.servers.jars import MAVEN, jars, java
from tests.servers.process import HOST, ServerProcess, data_folder, free_ports


@dataclass(frozen=True, slots=True)
class OpenSearchServer:
    """A running node, without login or TLS."""

    url: str
    process: ServerProcess


@contextmanager
def running_opensearch() -> Iterator[OpenSearchServer]:
    """OpenSearch, until the block ends. Raises `ServerMissing` where jars or a JDK cannot be had."""
    command = [java(), "-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{jars('opensearch')}/*"]
    with data_folder("opensearch") as folder:
        http_port, transport_port = free_ports(2)
        settings = {
            "path.home": folder,
            "path.data": folder / "data",
            "network.host": HOST,
            "http.port": http_port,
            "transport.port": transport_port,
            "http.type": "netty4",
            "transport.type": "netty4",
            "discovery.type": "single-node",
            # A machine whose disk is nearly full would make every index read-only.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
        command += [f"-Djava.io.tmpdir={folder}", str(MAVEN / "opensearch" / "NodeLauncher.java")]
        url = f"http://{HOST}:{http_port}"
        process = ServerProcess(
            "opensearch",
            [*command, *(f"{name}={value}" for name, value in settings.items())],
            folder=folder,
            answers=lambda: _answers(url),
        )
        try:
            process.start()
            yield OpenSearchServer(url, process)
        finally:
            process.kill()


def _answers(url: str) -> bool:
    with urlopen(f"{url}/_cluster/health", timeout=2) as response:
        health = json.load(response)
    return health["status"] in {"green", "yellow"}
