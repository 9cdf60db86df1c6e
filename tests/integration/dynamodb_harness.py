"""Tables in DynamoDB Local with their streams, somebody who writes to them, and sources that read them."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector.change import ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.sources.dynamodb_streams import DynamoDBStreamsConfig, DynamoDBStreamsSource
from tests.samples.recorder import clients
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.unit.sources.harness import CONTEXT, Listener, MemoryCheckpoints, Reading


class Table:
    """A table with a sort key, and what is in it by our own account."""

    def __init__(self, server: DynamoDBLocal, view: str = "NEW_AND_OLD_IMAGES") -> None:
        self.server = server
        self.name = f"orders-{uuid.uuid4().hex[:8]}"
        self.dynamodb, self.streams = clients(server)
        self.dynamodb.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
        )

    def put(self, *numbers: int, text: str = "") -> None:
        for number in numbers:
            self.dynamodb.put_item(TableName=self.name, Item=item(number, text))

    def switch(self, view: str) -> None:
        """Another view type: the stream is disabled and another one enabled."""
        self.disable()
        self.dynamodb.update_table(
            TableName=self.name, StreamSpecification={"StreamEnabled": True, "StreamViewType": view}
        )

    def disable(self) -> None:
        self.dynamodb.update_table(TableName=self.name, StreamSpecification={"StreamEnabled": False})

    def arn(self) -> str:
        arn: str = self.dynamodb.describe_table(TableName=self.name)["Table"]["LatestStreamArn"]
        return arn

    def items(self) -> dict[str, dict[str, Any]]:
        """The table as it is, by document id, read consistently."""
        found: dict[str, dict[str, Any]] = {}
        for page in self.dynamodb.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True):
            for row in page["Items"]:
                found[f"{row['pk']['S']}|{row['sk']['S']}"] = {
                    name: int(value["N"]) if "N" in value else value["S"] for name, value in row.items()
                }
        return found

    def drop(self) -> None:
        self.dynamodb.delete_table(TableName=self.name)


class Writer:
    """Inserts, updates, deletes and transactions, by chance; ``written`` is what the stream must show of them."""

    def __init__(self, table: Table, seed: int) -> None:
        self.written: dict[str, list[str]] = {}
        """By document id, the event names in their order."""
        self._table = table
        self._chance = random.Random(seed)
        self._there: dict[str, int] = {}
        self._number = 0

    @property
    def count(self) -> int:
        return sum(len(events) for events in self.written.values())

    def write(self, changes: int) -> None:
        until = self.count + changes
        while self.count < until:
            if self._chance.random() < 0.1:
                keys = self._chance.sample(range(60), 3)
                self._table.dynamodb.transact_write_items(TransactItems=[self._transacted(key) for key in keys])
            else:
                self._one(self._chance.randrange(60))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _one(self, key: int) -> None:
        table, place = self._table, key_of(key)
        if key_id(key) in self._there and self._chance.random() < 0.25:
            table.dynamodb.delete_item(TableName=table.name, Key=place)
            self._note(key, "REMOVE")
        elif self._chance.random() < 0.5:
            table.dynamodb.update_item(
                TableName=table.name,
                Key=place,
                UpdateExpression="SET #n = :n",
                ExpressionAttributeNames={"#n": "number"},
                ExpressionAttributeValues={":n": {"N": str(self._next())}},
            )
            self._note(key, "PUT")
        else:
            table.dynamodb.put_item(TableName=table.name, Item=item(key, f"text {self._next()}", self._number))
            self._note(key, "PUT")

    def _transacted(self, key: int) -> dict[str, Any]:
        if key_id(key) in self._there and self._chance.random() < 0.3:
            self._note(key, "REMOVE")
            return {"Delete": {"TableName": self._table.name, "Key": key_of(key)}}
        number = self._next()
        self._note(key, "PUT")
        return {"Put": {"TableName": self._table.name, "Item": item(key, f"text {number}", number)}}

    def _note(self, key: int, what: str) -> None:
        place = key_id(key)
        if what == "REMOVE":
            del self._there[place]
        else:
            what = "MODIFY" if place in self._there else "INSERT"
            self._there[place] = key
        self.written.setdefault(place, []).append(what)


def key_of(key: int) -> dict[str, Any]:
    return {"pk": {"S": f"CUSTOMER#{key % 7}"}, "sk": {"S": f"ORDER#{key:04}"}}


def key_id(key: int) -> str:
    return f"CUSTOMER#{key % 7}|ORDER#{key:04}"


def item(key: int, text: str = "", number: int = 0) -> dict[str, Any]:
    return key_of(key) | {"text": {"S": text or f"text {key}"}, "number": {"N": str(number)}}


class EndingListener(Listener):
    """A listener that finishes everything at once, and so ends shards when they are read."""

    def __init__(self, checkpoints: MemoryCheckpoints) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.ended_shards: list[ShardId] = []

    async def ended(self, shards: Any) -> dict[ShardId, Checkpoint]:
        ends = {shard: Checkpoint(SHARD_END) for shard in shards}
        self.checkpoints.saved |= ends
        self.ended_shards += shards
        self._drop(shards)
        return ends


class Opened:
    def __init__(self, source: DynamoDBStreamsSource, checkpoints: MemoryCheckpoints) -> None:
        self.source = source
        self.checkpoints = checkpoints
        self.listener = EndingListener(checkpoints)
        self.reading = Reading(source)


@asynccontextmanager
async def opened(
    table: Table, checkpoints: MemoryCheckpoints | None = None, *, name: str | None = None, **options: Any
) -> AsyncIterator[Opened]:
    """A source that reads the table's stream."""
    config = {"region": table.server.region, "endpoint": table.server.endpoint, "start": "earliest", "idle_every": 0.2}
    if "stream_arn" not in options:
        config["table"] = name or table.name
    source = DynamoDBStreamsSource(DynamoDBStreamsConfig(**{**config, **options}), CONTEXT)
    made = Opened(source, checkpoints or MemoryCheckpoints())
    await source.open(made.listener, made.checkpoints)
    try:
        yield made
    finally:
        await source.close()


def environment(server: DynamoDBLocal, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Credentials that the usual chain finds, here and in processes that are started."""
    values = {"AWS_ACCESS_KEY_ID": server.access_key_id, "AWS_SECRET_ACCESS_KEY": server.secret_access_key}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values
