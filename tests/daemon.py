"""The daemon as a process, for tests that start, watch, stop, freeze and kill it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Ask again and again until it holds."""
    until = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.1)


class DaemonProcess:
    """``millrace run`` with one configuration, on an admin port of its own; started again as often as a test likes."""

    def __init__(
        self, folder: Path, name: str, config: dict[str, Any], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._config = folder / f"{name}.yaml"
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        admin = {"host": "127.0.0.1", "port": self.port}
        self._config.write_bytes(msgspec.yaml.encode({"admin": admin, "log": {"format": "json"}, **config}))

    @property
    def config(self) -> Path:
        """The configuration's file."""
        return self._config

    def start(self, *arguments: str) -> None:
        """Start it; the log goes on where an earlier run's ended."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "connector.cli", "run", str(self._config), *arguments],
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, which runs (or has ended by itself)."""
        assert self._process is not None, "it does not run"
        return self._process

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends by itself; returns the exit code."""
        code = self.process.wait(timeout_s)
        self._process = None
        return code

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM, and wait; returns the exit code."""
        self.process.terminate()
        return self.wait(timeout_s)

    def end(self) -> None:
        """Whatever state it is in: gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> tuple[int, bytes]:
        """The admin server's answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ready(self) -> bool:
        """Whether it says that it is ready (False while it does not answer)."""
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def problems(self) -> list[str]:
        """What it says is wrong."""
        return [problem["reason"] for problem in msgspec.json.decode(self.get("/readyz")[1])["problems"]]

    def pipeline(self) -> dict[str, Any]:
        """Its only pipeline's status."""
        (pipeline,) = msgspec.json.decode(self.get("/status")[1])["pipelines"]
        assert isinstance(pipeline, dict)
        return pipeline

    def caught_up(self) -> bool:
        """True when every owned shard is done to its end, by its own word, and there is one."""
        try:
            shards = self.pipeline()["shards"]
        except OSError:
            return False
        return bool(shards) and all(
            shard["lag_records"] == 0 and shard["checkpoint"] == shard["watermark"] for shard in shards
        )

    def residues(self) -> set[int]:
        """The residue of every shard and route: {0}."""
        return {
            counts["read"] - counts["in_flight"] - sum(counts[ending] for ending in ENDINGS)
            for shard in self.pipeline()["shards"]
            for counts in shard["routes"].values()
        }

    def memory_mib(self) -> float:
        """Its resident memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("it has no memory")


ENDINGS = ("applied", "filtered", "superseded", "stale", "dead_lettered", "abandoned")
