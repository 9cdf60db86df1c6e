"""The demo: some thousand changes of a shop through Millrace, and what arrived where. Run it as ``make demo``.

It works in the folder ``demo/``, which it empties first. Where REDIS_URL is set that Redis is the cache (keys that
begin with ``order:`` and ``customer:`` are its own); otherwise an embedded Redis-compatible server is.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import redis
from rich.console import Console
from rich.table import Table

CHANGES = 6000
POISON = 0.003
SEED = 4
FOLDER = Path("demo")
CONFIG = Path(__file__).with_name("demo.yaml")
GENERATE = Path(__file__).parents[1] / "load" / "generate.py"

console = Console()


def main() -> None:
    """Make a change log, fill the cache as readers would, run the daemon, tell what arrived."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    make_changes()
    url = os.environ.get("REDIS_URL") or embedded_redis()
    cache = redis.Redis.from_url(url)
    cached = fill_cache(cache)
    console.print(f"{CHANGES} changes of a shop's customers and orders, a few of them poison: demo/changes.jsonl")
    console.print(f"$ millrace run {CONFIG.relative_to(Path.cwd())} --until-caught-up")
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "connector.cli", "run", CONFIG, "--until-caught-up"],
        check=True,
        env={**os.environ, "REDIS_URL": url},
    )
    console.print(f"done in {time.monotonic() - began:.1f} s\n")
    console.print(arrivals(cache, cached))
    console.print(dead_letters())
    console.print("Try next:")
    console.print(
        '  .venv/bin/python -m sinks.search demo/search.db orders "teapot AND shipped"', markup=False, soft_wrap=True
    )
    console.print(
        f"  NUMBERS=string REDIS_URL=redis://127.0.0.1 .venv/bin/millrace dlq replay "
        f"{CONFIG.relative_to(Path.cwd())} --route search",
        markup=False,
        soft_wrap=True,
    )


def make_changes() -> None:
    """The shop's change log: the same for the same seed, but for the times."""
    command: list[str | Path] = [sys.executable, GENERATE, "--out", FOLDER / "changes.jsonl", "--count", str(CHANGES)]
    command += ["--customers", "400", "--poison", str(POISON), "--seed", str(SEED)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def embedded_redis() -> str:
    """Start fakeredis in a thread of this process; returns its URL."""
    from fakeredis import TcpFakeServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"redis://127.0.0.1:{port}"


def fill_cache(cache: redis.Redis) -> int:
    """Cache what the shop's readers would have: every order, every customer's list, and some that nobody changes."""
    keys = {f"order:quiet-{number}" for number in range(100)}
    for line in (FOLDER / "changes.jsonl").read_bytes().splitlines():
        try:
            key = msgspec.json.decode(line)["dynamodb"]["Keys"]
        except msgspec.DecodeError:
            continue  # poison
        keys.add(f"customer:{key['pk']['S']}:orders")
        if key["sk"]["S"].startswith("ORDER#"):
            keys.add(f"order:{key['sk']['S']}")
    cache.mset(dict.fromkeys(keys, "stale"))
    return len(keys)


def arrivals(cache: redis.Redis, cached: int) -> Table:
    """What is in each sink now."""
    table = Table("where", "what arrived", title="What arrived where", title_justify="left")
    with sqlite3.connect(FOLDER / "search.db") as index:
        (documents,) = index.execute('SELECT count(*) FROM "orders:documents" WHERE document IS NOT NULL').fetchone()
    table.add_row("search index (SQLite FTS5)", f"{documents} placed orders, each as its last change left it")
    left = sum(1 for _ in cache.scan_iter("order:*")) + sum(1 for _ in cache.scan_iter("customer:*"))
    table.add_row(
        "cache (Redis)", f"{cached - left} of {cached} keys invalidated; {left} that nothing changed are left"
    )
    with sqlite3.connect(FOLDER / "audit.db") as audit:
        names = Counter(dict(audit.execute("SELECT event_name, count(*) FROM audit GROUP BY 1").fetchall()))
    said = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    table.add_row("audit table (SQLite)", f"{names.total()} changes: {said}")
    return table


def dead_letters() -> Table:
    """What was dead-lettered, and why."""
    table = Table("route", "reason", "changes", "for example", title="What was dead-lettered, and why")
    table.title_justify = "left"
    said = subprocess.run(
        [sys.executable, "-m", "connector.cli", "dlq", "list", CONFIG, "--json"],
        check=True,
        capture_output=True,
        env={"REDIS_URL": "redis://127.0.0.1", **os.environ},
    ).stdout
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in said.splitlines():
        letter = msgspec.json.decode(line)
        reasons.setdefault((letter["route"] or "(decoding)", letter["code"]), []).append(letter["message"])
    for (route, code), messages in sorted(reasons.items()):
        table.add_row(route, code, str(len(messages)), messages[0][:70])
    return table


if __name__ == "__main__":
    main()
