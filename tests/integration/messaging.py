"""Where messages arrive: a webhook's endpoint, and readers of queues and topics."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import boto3
from aiohttp import web
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as Record

from tests.servers.moto import MotoServer


@dataclass
class Post:
    """A request that an endpoint got."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]


Answer = tuple[int, dict[str, str]]


@dataclass
class Endpoint:
    """An HTTP server in a thread. ``answer`` says what each post gets, by what it is and how many came before it."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answer: Callable[[Post], Answer] = lambda post: (204, {})
    wait_s: float = 0.0
    under_way: int = 0
    most_under_way: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Note the post and answer it."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            post = Post(
                {name.lower(): text for name, text in request.headers.items()}, await request.read(), request.path
            )
            self.posts.append(post)
            await asyncio.sleep(self.wait_s)
            status, headers = self.answer(post)
            return web.Response(status=status, headers=headers)
        finally:
            self.under_way -= 1

    @property
    def ids(self) -> list[str]:
        """The ids of the posts, in the order of their arrival."""
        return [post.id for post in self.posts]


@contextmanager
def listening() -> Iterator[Endpoint]:
    """An endpoint on loopback."""
    endpoint = Endpoint()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", endpoint.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield endpoint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def records(bootstrap: str, topic: str) -> list[Record]:
    """Every record of a topic, partition by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "enable.partition.eof": False})
    try:
        found: list[Record] = []
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            place = TopicPartition(topic, partition)
            low, high = consumer.get_watermark_offsets(place, timeout=30)
            if low == high:
                continue
            consumer.assign([TopicPartition(topic, partition, low)])
            while not found or found[-1].partition() != partition or (found[-1].offset() or 0) < high - 1:
                record = consumer.poll(30)
                assert record is not None, "the topic's end was not reached"
                assert record.error() is None, record.error()
                found.append(record)
        return found
    finally:
        consumer.close()


def header(record: Record, name: str) -> str | None:
    """A record's header as text."""
    found = dict(record.headers() or []).get(name)
    return None if found is None else (found if isinstance(found, str) else found.decode())


def aws(service: str, server: MotoServer) -> Any:
    """A client of moto."""
    login = {"aws_access_key_id": server.access_key_id, "aws_secret_access_key": server.secret_access_key}
    return boto3.client(service, endpoint_url=server.endpoint, region_name=server.region, **login)


def make_queue(server: MotoServer, **attributes: str) -> str:
    """A queue that no other test has; ``FifoQueue="true"`` makes a FIFO queue. Its URL."""
    name = f"q-{uuid4().hex[:12]}" + (".fifo" if "FifoQueue" in attributes else "")
    return str(aws("sqs", server).create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def queue_arn(server: MotoServer, queue: str) -> str:
    """A queue's ARN."""
    told = aws("sqs", server).get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(told["Attributes"]["QueueArn"])


def messages(server: MotoServer, queue: str) -> list[dict[str, Any]]:
    """Take every message out of a queue, in the order in which it gives them."""
    client = aws("sqs", server)
    found: list[dict[str, Any]] = []
    while got := client.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in got:
            client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        found += got
    return found


def attribute(message: dict[str, Any], name: str) -> str | None:
    """A message attribute as text."""
    found = message.get("MessageAttributes", {}).get(name)
    return None if found is None else str(found["StringValue"])


def details(server: MotoServer, queue: str) -> list[dict[str, Any]]:
    """The events that a rule put into a queue."""
    return [json.loads(message["Body"]) for message in messages(server, queue)]
