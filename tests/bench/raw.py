"""The raw limits: the bare clients doing the same calls, with nothing around them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import aiohttp
import msgspec
import redis
from confluent_kafka import Consumer, Message

from tests.bench.changes import records

BATCH = 4000


class Keys(msgspec.Struct):
    """What the bare loop decodes of a record: its key."""

    pk: dict[str, str]
    sk: dict[str, str]


class Body(msgspec.Struct):
    """Images stay bytes."""

    Keys: Keys
    NewImage: msgspec.Raw


class Envelope(msgspec.Struct):
    """The record."""

    dynamodb: Body


def _batches(brokers: str, topic: str, count: int) -> Iterator[list[Message]]:
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # Otherwise the client rests for a second whenever its queue is full.
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic])
    try:
        seen = 0
        while seen < count:
            # Never waiting for a full batch: that costs more than half of the speed.
            batch = consumer.consume(BATCH, 0) or consumer.consume(1, 0.05) + consumer.consume(BATCH - 1, 0)
            seen += len(batch)
            if batch:
                yield batch
    finally:
        consumer.close()


def consume(brokers: str, topic: str, count: int) -> float:
    """librdkafka's ``consume`` alone: records a second, from the first batch."""
    began = 0.0
    for batch in _batches(brokers, topic, count):
        began = began or time.perf_counter()
        for message in batch:
            message.value()
    return count / (time.perf_counter() - began)


def redis_loop(brokers: str, topic: str, count: int, url: str) -> float:
    """Consume, decode the keys, one variadic UNLINK a batch: records a second."""
    client = redis.Redis.from_url(url)
    decode = msgspec.json.Decoder(Envelope).decode
    began = 0.0
    for batch in _batches(brokers, topic, count):
        began = began or time.perf_counter()
        keys = {f"order:{decode(value).dynamodb.Keys.sk['S']}" for message in batch if (value := message.value())}
        client.unlink(*keys)
    return count / (time.perf_counter() - began)


def bulk(url: str, count: int, keys: int | None, connections: int, batch: int) -> float:
    """Prebuilt bulk bodies, so many connections: documents a second. The documents are those of the topic's changes."""
    bodies = []
    lines: list[bytes] = []
    for number, (_, value) in enumerate(records(count, keys)):
        image = msgspec.json.decode(value)["dynamodb"]["NewImage"]
        document = {name: next(iter(typed.values())) for name, typed in image.items() if name != "lines"}
        document["total"] = float(document["total"])
        document["updated_at"] = int(document["updated_at"])
        document["lines"] = [
            {"product": line["M"]["product"]["S"], "quantity": 2, "price": 6.2} for line in image["lines"]["L"]
        ]
        action = {"_id": document["sk"], "version": (number + 1) << 20, "version_type": "external_gte"}
        lines += [msgspec.json.encode({"index": action}), msgspec.json.encode(document)]
        if len(lines) == 2 * batch:
            bodies.append(b"\n".join(lines) + b"\n")
            lines = []
    if lines:
        bodies.append(b"\n".join(lines) + b"\n")
    index = f"raw-{uuid.uuid4().hex[:8]}"
    return asyncio.run(_post(url, index, bodies, connections, count))


async def _post(url: str, index: str, bodies: list[bytes], connections: int, count: int) -> float:
    waiting = iter(bodies)

    async with aiohttp.ClientSession() as session:
        async with session.put(f"{url}/{index}", json=INDEX) as answer:
            answer.raise_for_status()

        async def post() -> None:
            for body in waiting:
                headers = {"content-type": "application/x-ndjson"}
                async with session.post(
                    f"{url}/{index}/_bulk?filter_path=errors", data=body, headers=headers
                ) as answer:
                    answer.raise_for_status()
                    said = await answer.read()
                    assert b'"errors":false' in said, said[:500]

        began = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(connections)))
        return count / (time.perf_counter() - began)


INDEX = {
    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "5s"},
    "mappings": {
        "dynamic": False,
        "properties": {
            "pk": {"type": "keyword"},
            "sk": {"type": "keyword"},
            "status": {"type": "keyword"},
            "total": {"type": "double"},
            "note": {"type": "text"},
            "updated_at": {"type": "date", "format": "epoch_second"},
        },
    },
}
"""The same index for the raw limit and for Millrace."""
