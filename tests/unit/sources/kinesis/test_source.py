"""The source as the pipeline calls it, before a service that answers what it is told to."""

from __future__ import annotations

import time

import pytest

from connector.sources.kinesis import KinesisConfig, KinesisSource
from tests.coroutines import asynchronous
from tests.unit.sources.harness import CONTEXT, Listener, MemoryCheckpoints, Reading
from tests.unit.sources.kinesis.aggregate import aggregate
from tests.unit.sources.kinesis.service import NAME, RETENTION_H, Service, page, serving

SHARD = "orders/2026-09-21T14:13:20/shardId-000000000000"


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")


@asynchronous
async def test_the_parts_of_one_record_are_given_together_however_few_are_asked_for() -> None:
    """What is behind a part cannot be a place to go on from: a checkpoint between two parts would lose the second."""
    service = Service()
    service.answers["ListShards"] = [
        {"Shards": [{"ShardId": "shardId-000000000000", "SequenceNumberRange": {"StartingSequenceNumber": "1"}}]}
    ]
    now_s = time.time()
    parts = [("k", b"part %d" % number) for number in range(5)]
    service.answers["GetRecords"] = [
        page((1, now_s, b"one"), (2, now_s, b"two"), (3, now_s, aggregate(parts)), (4, now_s, b"last")),
        page(),
    ]
    async with serving(service) as endpoint:
        told = {"stream": NAME, "region": "eu-central-1", "endpoint": endpoint, "start": "earliest"}
        source = KinesisSource(KinesisConfig.model_validate(told), CONTEXT)
        listener, reading = Listener(), Reading(source)
        await source.open(listener, MemoryCheckpoints())
        sizes = []
        while reading.count < 8:
            if size := await reading.once(records_max=3):
                sizes.append((size, reading.next_positions[SHARD]))
        assert source.retention_s == RETENTION_H * 3600
        await source.close()
    assert sizes == [(7, 4), (1, 5)]
    assert [(record.position, record.part) for record in reading.records[SHARD]] == [
        (1, 0),
        (2, 0),
        *((3, part) for part in range(5)),
        (4, 0),
    ]
