"""Prometheus of Debian, for rules and dashboards that are tried against a real scrape."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.servers.process import HOST, ServerProcess, data_folder, free_ports, program


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """A running Prometheus that scrapes the targets it was started for."""

    url: str
    process: ServerProcess

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression, now. A wrong expression raises `urllib.error.HTTPError`."""
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result


@contextmanager
def running_prometheus(
    *, targets: Sequence[str] = (), rule_files: Sequence[Path] = (), job: str = "millrace", interval_s: int = 1
) -> Iterator[PrometheusServer]:
    """Prometheus, until the block ends. `targets` are `host:port` with `/metrics`. Raises `ServerMissing`."""
    server = program("prometheus", "prometheus")
    with data_folder("prometheus") as folder:
        (port,) = free_ports(1)
        config = folder / "prometheus.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
                    "rule_files": [str(path.resolve()) for path in rule_files],
                    "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(targets)}]}],
                }
            )
        )
        url = f"http://{HOST}:{port}"
        options = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={HOST}:{port}",
        ]
        process = ServerProcess("prometheus", [server, *options], folder=folder, answers=lambda: _answers(url))
        try:
            process.start()
            yield PrometheusServer(url, process)
        finally:
            process.kill()


def _answers(url: str) -> bool:
    with urlopen(f"{url}/-/ready", timeout=2) as response:
        return bool(response.status == 200)
