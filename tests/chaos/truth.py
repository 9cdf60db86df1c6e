"""Holding real sinks against the model: every index document, cache key, audit row and dead letter."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from decimal import Decimal
from itertools import chain
from typing import Any

import psycopg
import redis
from confluent_kafka import Consumer, TopicPartition

from tests.chaos.shop import Model

REASONS = {
    "cut_off": ("", "decode"),
    "mapping": ("search", "rejected"),
    "too_exact": ("search", "rejected"),
}
"""What a poison record's dead letter must say: the route and the kind of error."""


def index_documents(url: str, index: str) -> dict[str, dict[str, Any]]:
    """Every document of an index, by id."""
    _ask(f"{url}/{index}/_refresh", {})
    found: dict[str, dict[str, Any]] = {}
    answer = _ask(f"{url}/{index}/_search?scroll=1m", {"size": 5000, "sort": ["_doc"]})
    while hits := answer["hits"]["hits"]:
        found.update({hit["_id"]: hit["_source"] for hit in hits})
        answer = _ask(f"{url}/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
    return found


def _ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        decoded: dict[str, Any] = json.loads(answer.read())
        return decoded


def cached_documents(url: str) -> dict[str, dict[str, Any]]:
    """Every item in the write-through cache, by key; removed ones (their versions stay a while) left out."""
    client = redis.Redis.from_url(url)
    keys = list(client.scan_iter("item:*", count=5000))
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(keys), 5000):
        pipe = client.pipeline(transaction=False)
        for key in keys[start : start + 5000]:
            pipe.hget(key, "d")
        for key, document in zip(keys[start : start + 5000], pipe.execute(), strict=True):
            if document is not None:
                found[key.decode()] = json.loads(document, parse_float=_exact)
    return found


def _exact(text: str) -> float | Decimal:
    return float(text) if repr(float(text)) == text else Decimal(text)


def audit_events(url: str) -> dict[str, list[str]]:
    """The audit table's event ids by item, in the order of their versions."""
    found: dict[str, list[str]] = {}
    with psycopg.connect(url) as connection:
        for sk, event_id in connection.execute("SELECT keys->>'sk', event_id FROM audit ORDER BY version"):
            found.setdefault(sk, []).append(event_id)
    return found


def dead_letters(brokers: str, topic: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(route, Kafka key) → (kind, code) of each dead letter in a topic; a letter written twice counts once."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "truth", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for partition in partitions:
        place = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(place, 10)
        consumer.assign([TopicPartition(topic, partition, low)])
        while low < high:
            for message in consumer.consume(1000, 5.0):
                assert message.error() is None
                low = (message.offset() or 0) + 1
                headers = dict(message.headers() or [])
                letter = json.loads(headers["millrace.envelope"] or b"")["letter"]
                key = (message.key() or b"").decode()
                found[letter["route"], key] = (letter["kind"], letter["code"])
                assert headers["__connect.errors.topic"], "the headers are named as Kafka Connect names them"
    consumer.close()
    return found


def hold_to(model: Model, *, opensearch: str, index: str, cache: str, audit: str, brokers: str, letters: str) -> None:
    """Everything equals what the model says."""
    _same("index documents", index_documents(opensearch, index), model.documents)
    _same("cache keys", cached_documents(cache), model.cached)
    events = audit_events(audit)
    _same("audit rows", events, model.event_ids)
    twice = [event_id for event_id, times in Counter(chain.from_iterable(events.values())).items() if times > 1]
    assert not twice, f"event ids twice in the audit table: {twice[:5]}"
    found = {key: (route, kind) for (route, key), (kind, _) in dead_letters(brokers, letters).items()}
    _same("dead letters", found, {key: REASONS[kind] for key, kind in model.poison.items()})


def _same(what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    shown = {key: (found.get(key), expected.get(key)) for key in sorted(wrong)[:3]}
    assert not wrong, f"{len(wrong)} {what} of {len(expected)} are wrong; (found, expected): {shown}"
