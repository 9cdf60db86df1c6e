"""The example configurations, each one run by the daemon against real servers until it has caught up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pytest
import redis
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from sinks.search.query import search
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.redis import RedisServer
from tests.unit.deploy.test_load import generate

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
START_S = 1_790_000_000.0

Image = dict[str, Any]


def run(name: str, folder: Path, environment: Mapping[str, str], **replaced: Any) -> None:
    """Run an example until it has caught up. ``replaced``: options of its one pipeline's source."""
    told = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    told["admin"] = {"port": 0}
    (pipeline,) = told["pipelines"].values()
    for option, value in replaced.items():
        if value is None:
            del pipeline["source"][option]
        else:
            pipeline["source"][option] = value
    config = folder / "millrace.yaml"
    config.write_text(yaml.safe_dump(told))
    command = [sys.executable, "-c", "from connector.cli import main; main()", "run", "--until-caught-up", str(config)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def changes(count: int, poison: float = 0.0) -> list[tuple[bytes, bytes]]:
    source = generate.records(1, START_S, 100.0, 40, poison)
    return [record for _, record in zip(range(count), source, strict=False)]


def produce(kafka: KafkaServer, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    for key, value in records:
        producer.produce(topic, key=key, value=value)
    assert producer.flush(30) == 0


def make_dead_letter_topic(kafka: KafkaServer, name: str) -> None:
    """The examples name their topics, so several tests may share one."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    if name not in admin.list_topics(timeout=30).topics:
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(timeout=30)


def items_at_the_end(records: Iterable[tuple[bytes, bytes]]) -> dict[str, Image]:
    """What the log says is there, by ``pk|sk``; poison (which stands under keys of its own) left out."""
    items: dict[str, Image] = {}
    for _, value in records:
        if b"ORDER#poison-" in value:
            continue
        body = json.loads(value)["dynamodb"]
        place = "|".join(body["Keys"][name]["S"] for name in ("pk", "sk"))
        items.pop(place, None)
        if "NewImage" in body:
            items[place] = body["NewImage"]
    return items


def ordered(items: Mapping[str, Image]) -> dict[str, str]:
    """The orders that belong in the index, with their statuses."""
    statuses = {place: image["status"]["S"] for place, image in items.items() if "status" in image}
    return {place: status for place, status in statuses.items() if status != "DRAFT"}


def documents(server: OpenSearchServer, index: str) -> dict[str, Image]:
    with urlopen(Request(f"{server.url}/{index}/_refresh", method="POST"), timeout=30):
        pass
    with urlopen(f"{server.url}/{index}/_search?size=10000", timeout=30) as response:
        return {hit["_id"]: hit["_source"] for hit in json.load(response)["hits"]["hits"]}


def delete_indexes(server: OpenSearchServer, pattern: str) -> None:
    with urlopen(Request(f"{server.url}/{pattern}", method="DELETE"), timeout=30):
        pass


def poisoned(records: Iterable[tuple[bytes, bytes]], kind: str) -> int:
    return sum(f"ORDER#poison-{kind}".encode() in value for _, value in records)


def test_a_file_becomes_a_search_index_without_any_server(tmp_path: Path) -> None:
    records = changes(1500, poison=0.02)
    (tmp_path / "changes.jsonl").write_bytes(b"".join(value + b"\n" for _, value in records))
    run("file-to-search-embedded", tmp_path, {})
    found = search(tmp_path / "search.db", "orders", "SHIPPED", limit=10_000)
    shipped = {place for place, status in ordered(items_at_the_end(records)).items() if status == "SHIPPED"}
    assert {hit.id for hit in found} == shipped
    assert shipped


@pytest.fixture
def sinks_of_the_main_job(
    opensearch: OpenSearchServer, redis_database: RedisServer, postgres_database: str
) -> Iterator[dict[str, str]]:
    """The environment that leads to them."""
    yield {"OPENSEARCH_URL": opensearch.url, "REDIS_URL": redis_database.url, "AUDIT_URL": postgres_database}
    delete_indexes(opensearch, "orders")


def test_the_main_job_ends_as_the_log_says(
    kafka: KafkaServer,
    kafka_topic: MakeTopic,
    opensearch: OpenSearchServer,
    sinks_of_the_main_job: dict[str, str],
    tmp_path: Path,
) -> None:
    records = changes(3000, poison=0.01)
    topic = kafka_topic(4)
    produce(kafka, topic, records)
    make_dead_letter_topic(kafka, "orders.dlq")
    cache = redis.Redis.from_url(sinks_of_the_main_job["REDIS_URL"])
    keys = {place: place.split("|") for place in items_at_the_end(records)}
    changed = {f"order:{sk}" for _, sk in keys.values() if sk.startswith("ORDER#")}
    changed |= {f"customer:{pk}:orders" for pk, sk in keys.values() if sk.startswith("ORDER#")}
    cache.mset(dict.fromkeys([*changed, "order:PROFILE", "somebody:else"], "cached"))

    environment = {"KAFKA_BROKERS": kafka.bootstrap, **sinks_of_the_main_job}
    run("kafka-to-opensearch-redis-audit", tmp_path, environment, topics=[topic], group=topic)

    indexed = documents(opensearch, "orders")
    assert {place: image["status"] for place, image in indexed.items()} == ordered(items_at_the_end(records))
    assert set(cache.scan_iter()) == {b"order:PROFILE", b"somebody:else"}
    with psycopg.connect(sinks_of_the_main_job["AUDIT_URL"]) as connection:
        rows = connection.execute("SELECT count(*), count(DISTINCT event_id) FROM audit").fetchone()
    unreadable = sum(poisoned(records, kind) for kind in ("cut_off", "unknown_event", "unknown_type"))
    assert unreadable
    assert rows == (3000 - unreadable, 3000 - unreadable)


def test_a_debezium_table_stands_whole_in_redis(
    kafka: KafkaServer, kafka_topic: MakeTopic, redis_database: RedisServer, tmp_path: Path
) -> None:
    topic = kafka_topic(2)
    make_dead_letter_topic(kafka, "products.dlq")

    def event(number: int, op: str, before: Image | None, after: Image | None) -> tuple[bytes, bytes]:
        told = {"before": before, "after": after, "op": op, "ts_ms": number, "source": {"ts_ms": number}}
        key = json.dumps({"id": (after or before or {})["id"]})
        return key.encode(), json.dumps(told).encode()

    kettle, teapot = {"id": 1, "name": "kettle", "price": 39}, {"id": 2, "name": "teapot", "price": 24}
    cheaper = {**kettle, "price": 35}
    start_ms = round(START_S * 1000)
    produce(
        kafka,
        topic,
        [
            event(start_ms, "c", None, kettle),
            event(start_ms + 1, "r", None, teapot),
            event(start_ms + 2, "u", kettle, cheaper),
            event(start_ms + 3, "d", teapot, None),
        ],
    )
    environment = {"KAFKA_BROKERS": kafka.bootstrap, "REDIS_URL": redis_database.url}
    run("debezium-to-redis-write-through", tmp_path, environment, topics=[topic], group=topic)
    cache = redis.Redis.from_url(redis_database.url)
    assert json.loads(cache.hget("product:1", "d") or b"") == cheaper
    assert cache.hget("product:2", "d") is None
    assert 0 < cache.ttl("product:1") <= 7 * 86_400


def test_signed_requests_fill_an_index_a_month(
    kafka: KafkaServer, kafka_topic: MakeTopic, opensearch: OpenSearchServer, tmp_path: Path
) -> None:
    """The test's servers ask for no credentials: those of Kafka are left out, AWS's signatures are made and ignored."""
    topic = kafka_topic(1)
    make_dead_letter_topic(kafka, "orders.dlq")
    produce(
        kafka, topic, [kinesis_record("1", "2026-01"), kinesis_record("2", "2026-02"), kinesis_record("3", "1999-12")]
    )
    environment = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "OPENSEARCH_URL": opensearch.url,
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    try:
        run("sigv4-opensearch", tmp_path, environment, topics=[topic], group=topic, tls=None, sasl=None)
        assert list(documents(opensearch, "orders-2026-01")) == ["CUSTOMER#1|ORDER#1"]
        assert list(documents(opensearch, "orders-2026-02")) == ["CUSTOMER#1|ORDER#2"]
    finally:
        delete_indexes(opensearch, "orders-2026-*")


def kinesis_record(number: str, month: str) -> tuple[bytes, bytes]:
    keys = {"pk": {"S": "CUSTOMER#1"}, "sk": {"S": f"ORDER#{number}"}}
    told = {
        "awsRegion": "eu-central-1",
        "eventID": f"event-{number}",
        "eventName": "INSERT",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "shop",
        "dynamodb": {
            "ApproximateCreationDateTime": round(START_S * 1000),
            "Keys": keys,
            "NewImage": {**keys, "month": {"S": month}},
            "SizeBytes": 100,
        },
        "eventSource": "aws:dynamodb",
    }
    return b"CUSTOMER#1", json.dumps(told).encode()
