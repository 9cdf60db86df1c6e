"""moto's server: S3, SQS, SNS, EventBridge and other services of AWS in one process, in memory.

Not for Kinesis (there is `kinesis.py`): in moto 5.2 a shard that was split or merged never ends, records go on being
written to it, and what it held is copied to the child.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.request import urlopen

from tests.servers.process import HOST, ServerMissing, ServerProcess, data_folder, free_ports


@dataclass(frozen=True, slots=True)
class MotoServer:
    """A running moto; it takes any access keys, and keeps nothing through a restart."""

    endpoint: str
    process: ServerProcess
    region: str = "eu-central-1"
    access_key_id: str = "tests"
    secret_access_key: str = "tests"


@contextmanager
def running_moto() -> Iterator[MotoServer]:
    """A moto server, until the block ends. Raises `ServerMissing` where it is not installed."""
    if not find_spec("moto"):
        raise ServerMissing("moto is missing: pip install -r requirements-dev.lock")
    with data_folder("moto") as folder:
        (port,) = free_ports(1)
        process = ServerProcess(
            "moto",
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
            folder=folder,
            answers=lambda: _answers(port),
        )
        try:
            process.start()
            yield MotoServer(f"http://{HOST}:{port}", process)
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with urlopen(f"http://{HOST}:{port}/moto-api/data.json", timeout=2) as response:
        return bool(response.status == 200)
