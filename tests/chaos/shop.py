"""A change log with a model: what every sink must hold when all of it was delivered, told from the log alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
from confluent_kafka import Producer

POISON_KINDS = ("cut_off", "mapping", "too_exact")
START_S = 1_760_000_000

MAPPINGS = {
    "dynamic": False,
    "properties": {"sk": {"type": "keyword"}, "status": {"type": "keyword"}, "total": {"type": "double"}},
}


@dataclass
class Model:
    """The truth."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The search index by document id: orders that are no drafts."""
    cached: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The write-through cache by key: every item."""
    event_ids: dict[str, list[str]] = field(default_factory=dict)
    """The audit table: event ids by item, in order."""
    poison: dict[str, str] = field(default_factory=dict)
    """Kafka key of the record → what is wrong with it."""


def write_log(brokers: str, topic: str, *, changes: int, keys: int, poison: int, seed: int = 1) -> Model:
    """Fill a topic and tell what must come of it. Poison records have keys of their own."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "enable.idempotence": True})
    model = Model()
    for key, value in _records(model, changes, keys, poison, random.Random(seed)):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.2)
    assert producer.flush(120) == 0
    return model


def _records(
    model: Model, changes: int, keys: int, poison: int, chance: random.Random
) -> Iterator[tuple[bytes, bytes]]:
    items: dict[str, dict[str, Any]] = {}
    poisoned = set(chance.sample(range(changes), poison))
    for number in range(changes):
        if number in poisoned:
            yield _poison(model, number, chance)
        else:
            yield _good(model, items, f"ORDER#{chance.randrange(keys):08}", number, chance)


def _good(
    model: Model, items: dict[str, dict[str, Any]], sk: str, number: int, chance: random.Random
) -> tuple[bytes, bytes]:
    before = items.get(sk)
    after: dict[str, Any] | None = None
    if before is None or chance.random() > 0.05:
        after = {
            "pk": "SHOP",
            "sk": sk,
            "status": chance.choice(("DRAFT", "PLACED", "PAID")),
            "total": f"{chance.randrange(1, 10**6) / 100:.2f}",
            "number": str(number),
            "note": "n" * chance.randrange(40),
        }
    place, cached = f"SHOP|{sk}", f"item:{sk}"
    model.documents.pop(place, None)
    model.cached.pop(cached, None)
    if after is None:
        del items[sk]
    else:
        items[sk] = after
        document = {**after, "total": float(after["total"]), "number": number}
        model.cached[cached] = document
        if after["status"] != "DRAFT":
            model.documents[place] = document
    model.event_ids.setdefault(sk, []).append(_event_id(number))
    return sk.encode(), _record(number, sk, before, after)


def _poison(model: Model, number: int, chance: random.Random) -> tuple[bytes, bytes]:
    kind = POISON_KINDS[len(model.poison) % len(POISON_KINDS)]
    sk = f"ORDER#poison-{number:08}"
    model.poison[sk] = kind
    item = {"pk": "SHOP", "sk": sk, "status": "PLACED", "total": "1.00", "number": str(number), "note": ""}
    if kind == "cut_off":
        return sk.encode(), _record(number, sk, None, item)[: -chance.randint(5, 60)]
    record = msgspec.json.decode(_record(number, sk, None, item))
    image = record["dynamodb"]["NewImage"]
    image["total"] = {"S": "twelve pounds"} if kind == "mapping" else {"N": "0.12345678901234567890123456789"}
    model.event_ids[sk] = [_event_id(number)]
    document: dict[str, Any] = {**item, "total": "twelve pounds", "number": number}
    if kind == "too_exact":
        # The cache keeps numbers as they are, with all of their digits.
        document["total"] = Decimal("0.12345678901234567890123456789")
    model.cached[f"item:{sk}"] = document
    return sk.encode(), msgspec.json.encode(record)


def _event_id(number: int) -> str:
    return f"{number:032x}"


def _record(number: int, sk: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> bytes:
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": START_S + number // 500,
        "Keys": {"pk": {"S": "SHOP"}, "sk": {"S": sk}},
        "SequenceNumber": str(10**20 + number),
        "SizeBytes": 300,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    for name, image in (("NewImage", after), ("OldImage", before)):
        if image is not None:
            body[name] = {
                attribute: {"N" if attribute in ("total", "number") else "S": value}
                for attribute, value in image.items()
            }
    return msgspec.json.encode(
        {
            "eventID": _event_id(number),
            "eventName": "REMOVE" if after is None else "INSERT" if before is None else "MODIFY",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-central-1",
            "dynamodb": body,
        }
    )
