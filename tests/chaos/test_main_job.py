"""The main job on real servers while processes are killed, frozen and cut off: everything equals the model afterwards.

Short by default; ``make chaos`` runs it in full length (MILLRACE_CHAOS=full).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.chaos.shop import MAPPINGS, Model, write_log
from tests.chaos.truth import dead_letters, hold_to
from tests.daemon import DaemonProcess, wait_until
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.redis import RedisServer

FULL = os.environ.get("MILLRACE_CHAOS") == "full"
CHANGES = 200_000 if FULL else 40_000
KEYS = 20_000 if FULL else 4_000
POISON = 50
DOWN_S = 120 if FULL else 15
MEMORY_MIB_MAX = 500

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200 if FULL else 300)]


@dataclass
class Job:
    """Servers, a log, the model of what must come of it, and the daemons that run on it."""

    servers: dict[str, str]
    model: Model
    config: dict[str, Any]
    folder: Path
    opensearch: OpenSearchServer
    daemons: list[DaemonProcess]

    def daemon(self, name: str) -> DaemonProcess:
        """Another process of the same group."""
        self.daemons.append(DaemonProcess(self.folder, name, self.config))
        return self.daemons[-1]

    def hold_to_model(self) -> None:
        """Everything equals what the model says."""
        hold_to(self.model, **self.servers)


@pytest.fixture
def job(  # noqa: PLR0917 - fixtures come by name
    kafka: KafkaServer,
    opensearch: OpenSearchServer,
    redis_database: RedisServer,
    postgres_database: str,
    kafka_topic: MakeTopic,
    opensearch_index_prefix: str,
    tmp_path: Path,
) -> Iterator[Job]:
    topic, letters = kafka_topic(partitions=4), kafka_topic()
    model = write_log(kafka.bootstrap, topic, changes=CHANGES, keys=KEYS, poison=POISON)
    index = f"{opensearch_index_prefix}orders"
    create = {"mappings": MAPPINGS, "settings": {"number_of_shards": 1, "number_of_replicas": 0}}
    config = {
        "pipelines": {
            "orders": {
                "source": {
                    "type": "kafka",
                    "brokers": [kafka.bootstrap],
                    "topics": [topic],
                    "group": f"millrace-{topic}",
                    "format": "dynamodb",
                    "start": "earliest",
                    "session_timeout": "6s",
                },
                "dead_letter": {"type": "kafka", "topic": letters},
                "checkpoints": {"every": "200ms"},
                "drain": "5s",
                "routes": {
                    "search": {
                        "where": {"status": {"S": [{"anything-but": ["DRAFT"]}]}},
                        "retry": {"backoff": {"max": "2s"}},
                        "timeout": "5s",
                        "sink": {
                            "type": "opensearch",
                            "url": opensearch.url,
                            "index": index,
                            "id": "{pk}|{sk}",
                            "create_index": create,
                        },
                    },
                    "cache": {"sink": {"type": "redis", "url": redis_database.url, "write": {"key": "item:{sk}"}}},
                    "audit": {"sink": {"type": "audit", "url": postgres_database}},
                },
            }
        }
    }
    servers = {
        "opensearch": opensearch.url,
        "index": index,
        "cache": redis_database.url,
        "audit": postgres_database,
        "brokers": kafka.bootstrap,
        "letters": letters,
    }
    made = Job(servers, model, config, tmp_path, opensearch, [])
    yield made
    for daemon in made.daemons:
        daemon.end()


def test_five_kills_on_the_way_leave_no_trace(job: Job) -> None:
    chance = random.Random(5)
    daemon = job.daemon("killed")
    for _ in range(5):
        daemon.start()
        wait_until(daemon.ready, 60, "ready")
        time.sleep(chance.uniform(0.2, 3.0 if FULL else 1.0))
        daemon.kill()
    # The group keeps the shards of a killed member until its session is over: a batch job waits for them.
    daemon.start("--until-caught-up")
    assert daemon.wait(600) == 0
    daemon.start()
    wait_until(lambda: len(_shards(daemon)) == 4 and daemon.caught_up(), 60, "caught up")
    assert daemon.residues() == {0}
    assert daemon.stop() == 0
    job.hold_to_model()


def test_a_process_that_was_frozen_beyond_its_session_does_no_harm(job: Job) -> None:
    first, second = job.daemon("first"), job.daemon("second")
    first.start()
    second.start()
    wait_until(first.ready, 60, "ready")
    wait_until(lambda: len(_shards(first)) == 2 and len(_shards(second)) == 2, 60, "shards shared out")
    first.freeze()
    wait_until(lambda: len(_shards(second)) == 4, 60, "the other takes all shards over")
    time.sleep(1.0)
    first.thaw()
    wait_until(lambda: first.caught_up() and second.caught_up(), 600, "caught up")
    assert len(_shards(first)) + len(_shards(second)) == 4
    assert first.residues() | second.residues() == {0}
    assert (first.stop(), second.stop()) == (0, 0)
    job.hold_to_model()


def test_a_sink_that_is_down_is_waited_for(job: Job) -> None:
    daemon = job.daemon("waiting")
    daemon.start()
    wait_until(lambda: daemon.ready() and bool(_shards(daemon)), 60, "ready")
    job.opensearch.process.kill()
    until = time.monotonic() + DOWN_S
    memory = 0.0
    wait_until(lambda: not daemon.ready(), 60, "not ready while the sink is down")
    assert any("search" in component for component in _components(daemon)), daemon.problems()
    while time.monotonic() < until:
        memory = max(memory, daemon.memory_mib())
        assert daemon.get("/livez")[0] == 200
        time.sleep(0.5)
    kinds = {kind for kind, _ in dead_letters(job.servers["brokers"], job.servers["letters"]).values()}
    assert kinds <= {"decode", "rejected"}, "nothing is dead-lettered because a sink is down"
    assert memory < MEMORY_MIB_MAX
    job.opensearch.process.start()
    wait_until(daemon.ready, 120, "ready again")
    wait_until(daemon.caught_up, 600, "caught up")
    assert daemon.residues() == {0}
    assert daemon.stop() == 0
    job.hold_to_model()


def _shards(daemon: DaemonProcess) -> list[Any]:
    try:
        shards: list[Any] = daemon.pipeline()["shards"]
    except OSError:
        return []
    return shards


def _components(daemon: DaemonProcess) -> list[str]:
    return [problem["component"] for problem in msgspec.json.decode(daemon.get("/readyz")[1])["problems"]]
