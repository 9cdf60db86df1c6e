"""Apache Kafka 3.9.1: one KRaft node that is broker and controller."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.servers.jars import jars, java
from tests.servers.process import HOST, ServerFailed, ServerProcess, data_folder, free_ports


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A running broker; `bootstrap` is what a client's `bootstrap.servers` wants. Topics are not made by themselves."""

    bootstrap: str
    process: ServerProcess


@contextmanager
def running_kafka() -> Iterator[KafkaServer]:
    """Kafka, until the block ends. Raises `ServerMissing` where jars or a JDK cannot be had."""
    command = [java(), "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    command += ["-cp", f"{jars('kafka')}/*"]
    with data_folder("kafka") as folder:
        broker_port, controller_port = free_ports(2)
        properties = folder / "server.properties"
        properties.write_text(_properties(folder, broker_port, controller_port))
        _format(command, properties)
        bootstrap = f"{HOST}:{broker_port}"
        process = ServerProcess(
            "kafka", [*command, "kafka.Kafka", str(properties)], folder=folder, answers=lambda: _answers(bootstrap)
        )
        try:
            process.start()
            yield KafkaServer(bootstrap, process)
        finally:
            process.kill()


def _properties(folder: Path, broker_port: int, controller_port: int) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
listeners=PLAINTEXT://{HOST}:{broker_port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{broker_port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data

# One node has one replica of everything, and starts sooner with few internal partitions.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
num.network.threads=2
num.io.threads=4
# A killed broker may come back under the same id only when its session is over.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216

# A misspelt topic is an error.
auto.create.topics.enable=false

# Groups form at once, and a test may lose a session in a second instead of six.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# Retention and compaction are seen within seconds by tests that ask for them.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
log.segment.delete.delay.ms=1000
"""


def _format(command: list[str], properties: Path) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", f"--config={properties}"]
    done = subprocess.run([*command, *tool], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ServerFailed(f"Kafka's storage cannot be formatted: {done.stdout}{done.stderr}")


def _answers(bootstrap: str) -> bool:
    """Whether the broker has joined its own cluster; before that it knows no live broker and makes no topics."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return bool(client.list_topics(timeout=2).brokers)
