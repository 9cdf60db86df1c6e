"""The stand-ins for services of AWS do what the tests count on."""

import time
from typing import Any

import boto3

from tests.servers.kinesis import KinesisLocal
from tests.servers.moto import MotoServer


def client(service: str, server: KinesisLocal | MotoServer) -> Any:
    login = {"aws_access_key_id": server.access_key_id, "aws_secret_access_key": server.secret_access_key}
    return boto3.client(service, endpoint_url=server.endpoint, region_name=server.region, **login)


def test_a_kinesis_shard_that_was_split_ends_and_names_its_children(kinesis_local: KinesisLocal) -> None:
    kinesis = client("kinesis", kinesis_local)
    kinesis.create_stream(StreamName="splits", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName="splits", WaiterConfig={"Delay": 1})
    kinesis.put_record(StreamName="splits", Data=b"before", PartitionKey="k")
    kinesis.split_shard(StreamName="splits", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    kinesis.get_waiter("stream_exists").wait(StreamName="splits", WaiterConfig={"Delay": 1})
    while not (after := put(kinesis, "splits", b"after")):
        time.sleep(0.05)

    shards = kinesis.list_shards(StreamName="splits")["Shards"]
    assert [shard.get("ParentShardId") for shard in shards] == [None, *["shardId-000000000000"] * 2]
    assert after in {shard["ShardId"] for shard in shards[1:]}
    start = {"StreamName": "splits", "ShardId": shards[0]["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    page = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**start)["ShardIterator"])
    assert [record["Data"] for record in page["Records"]] == [b"before"]
    assert page.get("NextShardIterator") is None


def put(kinesis: Any, stream: str, data: bytes) -> str | None:
    """The shard that a record was written to; None while the stream is being changed."""
    try:
        return str(kinesis.put_record(StreamName=stream, Data=data, PartitionKey="k")["ShardId"])
    except kinesis.exceptions.ResourceInUseException:
        return None


def test_moto_keeps_objects_and_passes_messages_on(moto_server: MotoServer) -> None:
    bucket = client("s3", moto_server)
    bucket.create_bucket(Bucket="exports", CreateBucketConfiguration={"LocationConstraint": moto_server.region})
    bucket.put_object(Bucket="exports", Key="a/b.json", Body=b"{}")
    assert [each["Key"] for each in bucket.list_objects_v2(Bucket="exports")["Contents"]] == ["a/b.json"]
    assert bucket.get_object(Bucket="exports", Key="a/b.json")["Body"].read() == b"{}"

    queues, topics = client("sqs", moto_server), client("sns", moto_server)
    queue = queues.create_queue(QueueName="q")["QueueUrl"]
    (queue_arn,) = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"].values()
    topic = topics.create_topic(Name="t")["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    topics.publish(TopicArn=topic, Message="hello")
    (message,) = queues.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == "hello"
    assert client("events", moto_server).list_event_buses()["EventBuses"][0]["Name"] == "default"
