"""A service that answers what it is told to, by HTTP on loopback, and remembers what it was asked."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from connector.clock import SystemClock
from connector.sources.kinesis.api import KinesisApi
from connector.sources.kinesis.config import KinesisConfig

NAME = "orders"
CREATED_S = 1_790_000_000
RETENTION_H = 48
ARN = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"


class Service:
    """``answers``: by operation, what to say next; the last answer is given again and again."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.answers["DescribeStreamSummary"].append(summary())
        self.answers["GetShardIterator"].append({"ShardIterator": "begun"})

    def asked_for(self, operation: str) -> list[dict[str, Any]]:
        """The arguments of all calls of one operation."""
        return [arguments for name, arguments in self.asked if name == operation]

    async def handle(self, request: web.Request) -> web.Response:
        """One call."""
        operation = request.headers["X-Amz-Target"].removeprefix("Kinesis_20131202.")
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        self.asked.append((operation, msgspec.json.decode(await request.read())))
        answers = self.answers[operation]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status = 400 if "__type" in answer else 200
        return web.Response(status=status, body=msgspec.json.encode(answer))


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    """The service's address."""
    application = web.Application()
    application.router.add_post("/", service.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (_, port) = runner.addresses[0]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(service: Service, **options: Any) -> AsyncIterator[KinesisApi]:
    """An API that speaks to the service."""
    async with serving(service) as endpoint:
        told = {"endpoint": endpoint, "stream": NAME, "region": "eu-central-1", "start": "earliest", **options}
        api = KinesisApi(KinesisConfig.model_validate(told), SystemClock())
        await api.open()
        try:
            yield api
        finally:
            await api.close()


def summary(*, created_s: float = CREATED_S, status: str = "ACTIVE", hours: int = RETENTION_H) -> dict[str, Any]:
    """What DescribeStreamSummary says."""
    return {
        "StreamDescriptionSummary": {
            "StreamARN": ARN,
            "StreamName": NAME,
            "StreamStatus": status,
            "StreamCreationTimestamp": created_s,
            "RetentionPeriodHours": hours,
        }
    }


def page(*records: tuple[int, float, bytes], then: str | None = "next", behind_ms: int = 0) -> dict[str, Any]:
    """What GetRecords says: records by sequence number, time of arrival (seconds) and data."""
    return {
        "Records": [
            {
                "SequenceNumber": str(number),
                "ApproximateArrivalTimestamp": arrived_s,
                "Data": base64.b64encode(data).decode(),
                "PartitionKey": "k",
            }
            for number, arrived_s, data in records
        ],
        "NextShardIterator": then,
        "MillisBehindLatest": behind_ms,
    }


def refusal(name: str) -> dict[str, Any]:
    """An error."""
    return {"__type": f"com.amazonaws.kinesis#{name}", "message": "no"}
