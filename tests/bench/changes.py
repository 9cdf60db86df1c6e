"""Realistic changes for the benches: DynamoDB stream records of about 1.1 kB, in a Kafka topic."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

START_S = 1_760_000_000


def record(number: int, key: int, chance: random.Random) -> bytes:
    """One MODIFY of an order with both images."""
    keys = {"pk": {"S": f"CUSTOMER#{key % 997:06}"}, "sk": {"S": f"ORDER#{key:010}"}}
    total = f"{chance.randrange(100, 100_000) / 100:.2f}"
    image = {
        **keys,
        "type": {"S": "order"},
        "status": {"S": chance.choice(("PLACED", "PAID", "SHIPPED"))},
        "total": {"N": total},
        "currency": {"S": "EUR"},
        "updated_at": {"N": str(START_S + number // 1000)},
        "note": {"S": "leave it with the neighbour at number twelve"},
        "lines": {
            "L": [
                {"M": {"product": {"S": "green tea"}, "quantity": {"N": "2"}, "price": {"N": "6.20"}}},
                {"M": {"product": {"S": "teapot"}, "quantity": {"N": "1"}, "price": {"N": total}}},
            ]
        },
    }
    return msgspec.json.encode(
        {
            "eventID": f"{number:032x}",
            "eventName": "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-central-1",
            "dynamodb": {
                "ApproximateCreationDateTime": START_S + number // 1000,
                "Keys": keys,
                "NewImage": image,
                "OldImage": {**image, "status": {"S": "DRAFT"}},
                "SequenceNumber": str(10**20 + number),
                "SizeBytes": 900,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        }
    )


def records(count: int, keys: int | None, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """(Kafka key, record): over so many keys at random, or each with a key of its own."""
    chance = random.Random(seed)
    for number in range(count):
        key = number if keys is None else chance.randrange(keys)
        yield f"{key}".encode(), record(number, key, chance)


def fill(brokers: str, topic: str, partitions: int, count: int, keys: int | None) -> None:
    """Make the topic and load it."""
    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "batch.size": 1_000_000})
    for key, value in records(count, keys):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(120):
        raise RuntimeError(f"{left} records were not produced")
