"""Millrace as its users run it: a process with a configuration, timed by its own log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True)
class Run:
    """One run to the end of the log."""

    changes_per_s: float
    """From the assignment of the shards to the last change finished."""
    cpu_s_per_million: float
    peak_mib: float
    start_s: float
    """From the process's start to the assignment of the shards."""


def run(folder: Path, brokers: str, topic: str, count: int, sink: dict[str, Any], **route: Any) -> Run:
    """Run one route to the topic's end. Raises where a change was dead-lettered."""
    name = uuid.uuid4().hex[:8]
    config = {
        "admin": {"enabled": False},
        "log": {"format": "json"},
        "pipelines": {
            "bench": {
                "source": {
                    "type": "kafka",
                    "brokers": [brokers],
                    "topics": [topic],
                    "group": f"bench-{name}",
                    "format": "dynamodb",
                    "start": "earliest",
                },
                "dead_letter": {"type": "file", "path": str(folder / f"{name}.dlq.jsonl")},
                "routes": {"bench": {"sink": sink, **route}},
            }
        },
    }
    path = folder / f"{name}.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    log = folder / f"{name}.log"
    began = time.time()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "connector.cli", "run", path, "--until-caught-up"], stderr=out, stdout=out
        )
        watch = threading.Thread(target=_watch_memory, args=(process.pid, peaks := [0.0]), daemon=True)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
    said = [msgspec.json.decode(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    if status:
        raise RuntimeError(f"millrace ended with {status}: {log.read_text()[-2000:]}")
    letters = folder / f"{name}.dlq.jsonl"
    assert not letters.exists() or not letters.read_bytes().strip(), "changes were dead-lettered"
    assigned = _when(said, "shards assigned")
    done = _when(said, "pipeline draining")
    return Run(
        changes_per_s=count / (done - assigned),
        cpu_s_per_million=(usage.ru_utime + usage.ru_stime) / count * 1e6,
        peak_mib=peaks[0],
        start_s=assigned - began,
    )


def _watch_memory(pid: int, peaks: list[float]) -> None:
    """The process's own high-water mark. (``ru_maxrss`` would count what its parent had before the exec.)"""
    status = Path(f"/proc/{pid}/status")
    try:
        while True:
            peaks[0] = max(int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024, peaks[0])
            time.sleep(0.1)
    except (OSError, IndexError, ValueError):
        return  # it has ended


def _when(said: list[dict[str, Any]], event: str) -> float:
    times = [line["timestamp"] for line in said if line.get("event") == event]
    return datetime.fromisoformat(times[0]).timestamp()
