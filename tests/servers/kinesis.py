"""kinesis-mock 0.6.2 (`kinesis-local` in npm): Kinesis with shards that split, merge and end as Amazon's do.

`python -m tests.servers.kinesis` fetches it into the cache of `jars.py`; it needs nothing but Python and npm.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.servers.process import HOST, ServerMissing, ServerProcess, data_folder, free_ports, program

NPM = Path(__file__).parent / "npm"
_FETCH_TIMEOUT_S = 300
_NODE_PACKAGE = "nodejs npm"


@dataclass(frozen=True, slots=True)
class KinesisLocal:
    """A running kinesis-mock; it takes any access keys and regions, and keeps nothing through a restart. It listens on
    every address: it has no option for that."""

    endpoint: str
    process: ServerProcess
    region: str = "eu-central-1"
    access_key_id: str = "tests"
    secret_access_key: str = "tests"


@contextmanager
def running_kinesis() -> Iterator[KinesisLocal]:
    """A Kinesis, until the block ends. Raises `ServerMissing` where it, or node, cannot be had."""
    node = program("node", _NODE_PACKAGE)
    package = fetched()
    with data_folder("kinesis") as folder:
        port, tls_port = free_ports(2)
        waits = ("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT")
        process = ServerProcess(
            "kinesis",
            [node, str(package / "main.js")],
            folder=folder,
            answers=lambda: _answers(port),
            environment={
                "KINESIS_MOCK_PLAIN_PORT": str(port),
                "KINESIS_MOCK_TLS_PORT": str(tls_port),
                "KINESIS_MOCK_CERT_PATH": str(package / "server.json"),
                "SHARD_LIMIT": "1000",
                "LOG_LEVEL": "ERROR",
                **{f"{what}_DURATION": "50ms" for what in waits},
            },
        )
        try:
            process.start()
            yield KinesisLocal(f"http://{HOST}:{port}", process)
        finally:
            process.kill()


def fetched() -> Path:
    """The folder of the package in `npm/package-lock.json`, fetched if it is not there. Raises `ServerMissing`."""
    lock_file = NPM / "package-lock.json"
    cache = Path(os.environ.get("MILLRACE_SERVERS_CACHE") or Path(__file__).parents[2] / ".cache" / "servers")
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"npm-{hashlib.sha256(lock_file.read_bytes()).hexdigest()[:12]}"
    with (cache / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest may run in several processes
        if not folder.exists():
            _fetch(folder)
    return folder / "node_modules" / "kinesis-local"


def _fetch(folder: Path) -> None:
    npm = program("npm", _NODE_PACKAGE)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NPM / name, unfinished)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"]
        subprocess.run(command, cwd=unfinished, check=True, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S)
        unfinished.rename(folder)
    except subprocess.TimeoutExpired as slow:
        raise ServerMissing(f"npm did not fetch kinesis-local in {slow.timeout} s") from slow
    except subprocess.CalledProcessError as failed:
        first_error = next(iter(failed.stderr.splitlines()), f"exit {failed.returncode}")
        raise ServerMissing(f"npm cannot fetch kinesis-local: {first_error}") from failed
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _answers(port: int) -> bool:
    with urlopen(f"http://{HOST}:{port}/healthcheck", timeout=2) as response:
        return bool(response.status == 200)


if __name__ == "__main__":
    program("node", _NODE_PACKAGE)
    print(fetched())
