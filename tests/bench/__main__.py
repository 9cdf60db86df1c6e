"""``make bench``: Kafka → Redis and Kafka → OpenSearch in changes a second, beside the raw limits of the same run.

The measurements alternate, several rounds of them; the table gives medians and the spread. Figures from a shared
machine are for comparing with each other, within one run, and for nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import daemon, raw
from tests.bench.changes import fill
from tests.servers.kafka import running_kafka
from tests.servers.opensearch import running_opensearch
from tests.servers.redis import running_redis

PARTITIONS = 4
KEYS = 20_000


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--changes", type=int, default=400_000, help="changes to Redis")
    parser.add_argument("--documents", type=int, default=60_000, help="changes to OpenSearch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("redis", "opensearch"))
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder, running_kafka() as kafka:
        if options.only != "opensearch":
            to_redis(Path(folder), kafka.bootstrap, options.changes, options.rounds)
        if options.only != "redis":
            to_opensearch(Path(folder), kafka.bootstrap, options.documents, options.rounds)


def to_redis(folder: Path, brokers: str, count: int, rounds: int) -> None:
    """Kafka → Redis invalidation, hot and normal keys."""
    fill(brokers, "bench.redis", PARTITIONS, count, KEYS)
    with running_redis() as server:
        sink = {"type": "redis", "url": server.url, "invalidate": ["order:{sk}"]}
        runs: list[daemon.Run] = []

        def millrace() -> float:
            runs.append(daemon.run(folder, brokers, "bench.redis", count, sink))
            return runs[-1].changes_per_s

        measured = alternate(
            rounds,
            {
                "librdkafka consume alone": lambda: raw.consume(brokers, "bench.redis", count),
                "bare loop: consume, keys, one UNLINK a batch": lambda: raw.redis_loop(
                    brokers, "bench.redis", count, server.url
                ),
                "millrace run": millrace,
            },
        )
    table(f"Kafka → Redis, {count:,} changes, {KEYS:,} keys, {PARTITIONS} partitions", measured)
    about(runs)


def to_opensearch(folder: Path, brokers: str, count: int, rounds: int) -> None:
    """Kafka → OpenSearch, each change a document of its own; then over the same keys again and again."""
    fill(brokers, "bench.distinct", PARTITIONS, count, None)
    fill(brokers, "bench.hot", PARTITIONS, count, KEYS // 20)
    with running_opensearch() as server:
        runs: list[daemon.Run] = []

        def millrace(topic: str) -> float:
            sink = {
                "type": "opensearch",
                "url": server.url,
                "index": f"bench-{topic.rpartition('.')[2]}-{len(runs)}",
                "id": "{sk}",
                "create_index": {"settings": raw.INDEX["settings"], "mappings": raw.INDEX["mappings"]},
            }
            runs.append(daemon.run(folder, brokers, topic, count, sink))
            return runs[-1].changes_per_s

        for _ in range(3):  # the server's JIT compiler warms up
            raw.bulk(server.url, count, None, 2, 1000)
        measured = alternate(
            rounds,
            {
                "raw bulk: prebuilt bodies, 2 connections": lambda: raw.bulk(server.url, count, None, 2, 1000),
                "millrace run, all keys distinct": lambda: millrace("bench.distinct"),
                f"millrace run, {KEYS // 20:,} hot keys": lambda: millrace("bench.hot"),
            },
        )
    table(f"Kafka → OpenSearch, {count:,} changes, {PARTITIONS} partitions", measured)
    about(runs)


def alternate(rounds: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each measure once a round, in turn: a machine that gets slower does so for all of them."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            figures[name].append(measure())
            print(f"round {number + 1}: {name}: {figures[name][-1]:,.0f}/s", file=sys.stderr)
    return figures


def table(title: str, measured: dict[str, list[float]]) -> None:
    """Medians, spread, and the ratio to each raw limit."""
    limits = [name for name in measured if "millrace" not in name]
    print(f"### {title}\n")
    print(
        "| what | changes/s (median) | least – most | " + " | ".join(f"of {name.partition(':')[0]}" for name in limits)
    )
    print("|" + "---|" * (3 + len(limits)))
    for name, figures in measured.items():
        median = statistics.median(figures)
        ratios = [f"{median / statistics.median(measured[limit]):.2f}" for limit in limits]
        print(f"| {name} | {median:,.0f} | {min(figures):,.0f} – {max(figures):,.0f} | " + " | ".join(ratios) + " |")
    print()


def about(runs: list[daemon.Run]) -> None:
    """What else is known of Millrace's runs."""
    cpu = statistics.median(run.cpu_s_per_million for run in runs)
    start = statistics.median(run.start_s for run in runs)
    print(
        f"millrace: {cpu:.1f} CPU seconds a million changes, at most {max(run.peak_mib for run in runs):.0f} MiB, "
        f"{start:.1f} s from start to first shard\n"
    )


if __name__ == "__main__":
    main()
