"""The example configurations that send messages, each one run by the daemon until it has caught up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.dynamodb_harness import Table, environment
from tests.integration.messaging import header, listening, make_queue, messages, records
from tests.integration.test_examples import changes, make_dead_letter_topic, produce, run
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.servers.fixtures import MakeTopic
from tests.servers.kafka import KafkaServer
from tests.servers.moto import MotoServer


def statuses(value: bytes) -> tuple[str | None, str | None]:
    """An order's status before and after a change."""
    body = json.loads(value)["dynamodb"]
    old, new = (body.get(name, {}).get("status", {}).get("S") for name in ("OldImage", "NewImage"))
    return old, new


def test_a_webhook_hears_of_payments_and_a_queue_of_every_order(
    kafka: KafkaServer, kafka_topic: MakeTopic, moto_server: MotoServer, tmp_path: Path
) -> None:
    log = changes(400)
    topic = kafka_topic(2)
    produce(kafka, topic, log)
    make_dead_letter_topic(kafka, "orders.dlq")
    queue = make_queue(moto_server, FifoQueue="true")
    with listening() as endpoint:
        variables = {
            "KAFKA_BROKERS": kafka.bootstrap,
            "WEBHOOK_URL": endpoint.url,
            "WEBHOOK_SECRET": "0123456789abcdef0123456789abcdef",
            "WEBHOOK_INSIDE": "true",
            "ORDERS_QUEUE": queue,
            "AWS_REGION": moto_server.region,
            "AWS_ENDPOINT_URL_SQS": moto_server.endpoint,
            "AWS_ACCESS_KEY_ID": moto_server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": moto_server.secret_access_key,
        }
        run("kafka-to-webhook-and-queue", tmp_path, variables, topics=[topic], group=topic)
    paid = sorted(
        json.loads(value)["dynamodb"]["Keys"]["sk"]["S"] for _, value in log if statuses(value) == ("PLACED", "PAID")
    )
    assert paid
    told = [json.loads(post.body) for post in endpoint.posts]
    assert sorted(one["order"] for one in told) == paid
    assert [one["event"] for one in told] == endpoint.ids
    assert all(post.headers["webhook-signature"].startswith("v1,") for post in endpoint.posts)

    expected: dict[str, list[str]] = {}
    for _, value in log:
        record = json.loads(value)
        sort_key = record["dynamodb"]["Keys"]["sk"]["S"]
        if sort_key.startswith("ORDER#"):
            expected.setdefault(sort_key, []).append(record["eventID"])
    found: dict[str, list[str]] = {}
    for message in messages(moto_server, queue):
        body = json.loads(message["Body"])
        found.setdefault(body["key"]["sk"], []).append(body["event_id"])
    assert found == expected


def transact(table: Table, customer: str, number: int, **more: Any) -> None:
    """An order and the outbox item that tells of it, or neither."""
    outbox = {
        "pk": {"S": customer},
        "sk": {"S": f"OUTBOX#{number:06}"},
        "destination": {"S": "orders"},
        "type": {"S": "OrderPlaced"},
        "payload": {"M": {"order": {"N": str(number)}, "total": {"N": "9.90"}}},
        **more,
    }
    order = {"pk": {"S": customer}, "sk": {"S": f"ORDER#{number}"}, "status": {"S": "PLACED"}}
    puts = [{"Put": {"TableName": table.name, "Item": item}} for item in (order, outbox)]
    table.dynamodb.transact_write_items(TransactItems=puts)


def make_topic(kafka: KafkaServer, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    if name not in admin.list_topics(timeout=30).topics:
        admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1)])[name].result(timeout=30)


def test_what_a_transaction_wrote_into_the_outbox_is_published_in_its_customers_order(
    kafka: KafkaServer, dynamodb_local: DynamoDBLocal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = {
        **environment(dynamodb_local, monkeypatch),
        "AWS_REGION": dynamodb_local.region,
        "KAFKA_BROKERS": kafka.bootstrap,
    }
    for name in ("shop.orders", "shop.stock"):
        make_topic(kafka, name)
    table = Table(dynamodb_local)
    try:
        for number in range(30):
            transact(table, f"CUSTOMER#{number % 3}", number, tenant={"S": "t1"})
        transact(table, "CUSTOMER#0", 30, destination={"S": "stock"})
        transact(table, "CUSTOMER#0", 31, destination={"S": "elsewhere"})
        key = {"pk": {"S": "CUSTOMER#0"}, "sk": {"S": "OUTBOX#000000"}}
        table.dynamodb.delete_item(TableName=table.name, Key=key)  # as TTL would
        place = {"table": table.name, "endpoint": dynamodb_local.endpoint}
        run("dynamodb-outbox-to-kafka", tmp_path, variables, **place)
        run("dynamodb-outbox-to-kafka", tmp_path, variables, **place)  # goes on behind its checkpoint
    finally:
        table.drop()
    found: dict[bytes, list[int]] = {}
    for record in records(kafka.bootstrap, "shop.orders"):
        customer = record.key()
        assert isinstance(customer, bytes)
        body = json.loads(record.value() or b"")
        assert body["total"] == 9.9
        assert (header(record, "type"), header(record, "tenant")) == ("OrderPlaced", "t1")
        found.setdefault(customer, []).append(body["order"])
    assert found == {f"CUSTOMER#{number}".encode(): list(range(number, 30, 3)) for number in range(3)}
    (stock,) = records(kafka.bootstrap, "shop.stock")
    assert json.loads(stock.value() or b"")["order"] == 30
    assert header(stock, "event_id")
