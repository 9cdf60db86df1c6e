"""The example configurations: each one is read as the daemon would read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connector.config.load import load

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "examples").glob("*.yaml"))

ENVIRONMENT = {
    "KAFKA_BROKERS": "localhost:9092",
    "KAFKA_USERNAME": "millrace",
    "OPENSEARCH_URL": "https://search.example.com",
    "REDIS_URL": "redis://localhost:6379/0",
    "AUDIT_URL": "postgresql://millrace:secret@localhost:5432/audit",
    "AWS_REGION": "eu-central-1",
    "WEBHOOK_URL": "https://hooks.example.com/orders",
    "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "ORDERS_QUEUE": "https://sqs.eu-central-1.amazonaws.com/123456789012/orders.fifo",
}
SECRET_FILE = "/run/secrets/kafka-password"


def test_there_are_examples_of_every_way() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "kafka-to-opensearch-redis-audit",
        "file-to-search-embedded",
        "debezium-to-redis-write-through",
        "sigv4-opensearch",
        "kafka-to-webhook-and-queue",
        "dynamodb-outbox-to-kafka",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_a_configuration(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    mounted = tmp_path / path.name
    mounted.write_text(path.read_text().replace(SECRET_FILE, str(secret)))
    config = load(mounted, env=ENVIRONMENT)
    assert config.pipelines


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_says_which_variables_it_needs(path: Path) -> None:
    text = path.read_text()
    comments = " ".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    for name in re.findall(r"\$\{([A-Z_]+)\}", text):
        assert name in comments, name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_holds_a_secret(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.search(r"\b(password|secret)\w*:", line):
            assert "${" in line, line
