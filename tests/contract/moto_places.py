"""Buckets, queues and topics in moto's server, each for one test."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.servers.moto import MotoServer


def in_moto(server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore's usual chain find moto's keys."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def client_of(server: MotoServer, service: str) -> Any:
    """A client of our own, to make places and to look into them."""
    return boto3.client(
        service,
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    )


def a_bucket(server: MotoServer, name: str) -> None:
    """Make a bucket."""
    client_of(server, "s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": server.region})


def a_queue(server: MotoServer, *, fifo: bool = False) -> tuple[str, str]:
    """Make a queue; its URL and its ARN."""
    sqs = client_of(server, "sqs")
    name = f"letters-{uuid4().hex[:12]}" + (".fifo" if fifo else "")
    url: str = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def a_topic(server: MotoServer, queue_arn: str) -> str:
    """Make a topic with one subscriber, a queue that gets the messages as they are; its ARN."""
    sns = client_of(server, "sns")
    topic: str = sns.create_topic(Name=f"letters-{uuid4().hex[:12]}")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    return topic


def received(server: MotoServer, queue_url: str) -> list[dict[str, Any]]:
    """All messages of a queue, in the order in which it gives them, with their attributes."""
    sqs = client_of(server, "sqs")
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0, AttributeNames=["All"]
    ).get("Messages"):
        found += messages
        for message in messages:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found
