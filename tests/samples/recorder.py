"""Records DynamoDB's change log as DynamoDB Local writes it, in the JSON that Lambda's events have.

``python -m tests.samples.recorder`` writes the ``dynamodb_*.jsonl`` samples anew; a test compares them with what
DynamoDB Local gives today.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import boto3

from tests.samples import FOLDER
from tests.servers.dynamodb_local import DynamoDBLocal, running_dynamodb_local

VIEWS = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")

KEY: dict[str, Any] = {"pk": {"S": "CUSTOMER#42"}, "sk": {"N": "7"}}
ITEM: dict[str, Any] = KEY | {
    "name": {"S": "Zoë Ødegård 🛠"},
    "note": {"S": ""},
    "total": {"N": "12345678901234567890.123456789012345678"},
    "huge": {"N": "9.9E125"},
    "tiny": {"N": "-1E-130"},
    "thumbnail": {"B": b"\x00\xff\x10"},
    "active": {"BOOL": True},
    "deleted": {"NULL": True},
    "address": {"M": {"city": {"S": "Graz"}, "geo": {"L": [{"N": "47.07"}, {"N": "15.44"}]}}},
    "lines": {"L": [{"M": {"sku": {"S": "A-1"}, "quantity": {"N": "2"}}}, {"L": []}, {"M": {}}]},
    "tags": {"SS": ["new", "gift"]},
    "sizes": {"NS": ["10", "9.5", "-1"]},
    "blobs": {"BS": [b"\x02", b"\x01\x02"]},
}
"""An item with every type of attribute."""


def clients(server: DynamoDBLocal) -> tuple[Any, Any]:
    """boto3's clients of the tables and of their streams."""
    options = {
        "endpoint_url": server.endpoint,
        "region_name": server.region,
        "aws_access_key_id": server.access_key_id,
        "aws_secret_access_key": server.secret_access_key,
    }
    return boto3.client("dynamodb", **options), boto3.client("dynamodbstreams", **options)


def record(server: DynamoDBLocal, view: str) -> list[dict[str, Any]]:
    """What a put, an update and a delete of one item leave in the stream of a fresh table with this view type."""
    dynamodb, streams = clients(server)
    table = f"orders-{view}"
    created = dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
    )
    try:
        dynamodb.put_item(TableName=table, Item=ITEM)
        dynamodb.update_item(
            TableName=table,
            Key=KEY,
            UpdateExpression="SET active = :no REMOVE note",
            ExpressionAttributeValues={":no": {"BOOL": False}},
        )
        dynamodb.delete_item(TableName=table, Key=KEY)
        return [lambda_shape(entry) for entry in _read(streams, created["TableDescription"]["LatestStreamArn"])]
    finally:
        dynamodb.delete_table(TableName=table)


def _read(streams: Any, arn: str) -> list[dict[str, Any]]:
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
    return records


def lambda_shape(value: Any) -> Any:
    """boto3's values as the JSON of a Lambda event has them: times in seconds, binary as base64."""
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: lambda_shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [lambda_shape(inner) for inner in value]
    return value


def main() -> None:
    """Write the samples anew."""
    with running_dynamodb_local() as server:
        for view in VIEWS:
            lines = [json.dumps(entry, ensure_ascii=False) for entry in record(server, view)]
            (FOLDER / f"dynamodb_{view.lower()}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
