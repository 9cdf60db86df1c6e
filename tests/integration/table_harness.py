"""A table in DynamoDB Local that is written to while it is read, and what an index must hold of it."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3

from tests.servers.dynamodb_local import DynamoDBLocal
from tests.servers.opensearch import OpenSearchServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
BATCH = 25
PARTITIONS = 101
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


class Table:
    """A table with a sort key and a stream, of items that have a revision."""

    def __init__(self, server: DynamoDBLocal, *, stream: bool = True) -> None:
        self.name = f"orders-{uuid4().hex[:8]}"
        self.server = server
        self.client = boto3.client(
            "dynamodb",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key_id,
            aws_secret_access_key=server.secret_access_key,
        )
        self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            **({"StreamSpecification": STREAM} if stream else {}),
        )

    def enable_stream(self) -> None:
        """What is written from now on is in a stream."""
        self.client.update_table(TableName=self.name, StreamSpecification=STREAM)

    def source(self, **options: Any) -> dict[str, Any]:
        """The pipeline's source."""
        place = {"table": self.name, "region": self.server.region, "endpoint": self.server.endpoint}
        return {"type": "dynamodb_streams", "format": "dynamodb", "start": "latest", **place, **options}

    def fill(self, items: int) -> None:
        """Items 0, 1, 2 … at revision 0."""

        def put(first: int) -> None:
            writes = [{"PutRequest": {"Item": self._item(number, 0)}} for number in range(first, first + BATCH)]
            self.client.batch_write_item(RequestItems={self.name: writes})

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(put, range(0, items, BATCH)))

    def _item(self, number: int, revision: int) -> dict[str, Any]:
        text = "x" * 60
        return {**self.key(number), "revision": {"N": str(revision)}, "note": {"S": f"note{number} {text}"}}

    def key(self, number: int) -> dict[str, Any]:
        """Of the item of this number."""
        return {"pk": {"S": f"customer-{number % PARTITIONS}"}, "sk": {"N": str(number)}}

    def change(self, items: int, seed: int, *, changed: float = 0.2, deleted: float = 0.05) -> None:
        """Write a part of the items anew and delete another one, in random order."""
        chance = random.Random(seed)
        numbers = chance.sample(range(items), round(items * (changed + deleted)))
        first_deleted = round(items * changed)
        for place, number in sorted(enumerate(numbers), key=lambda each: chance.random()):
            if place >= first_deleted:
                self.client.delete_item(TableName=self.name, Key=self.key(number))
            else:
                self.client.put_item(TableName=self.name, Item=self._item(number, seed))

    def items(self) -> list[dict[str, Any]]:
        """All items."""
        pages = self.client.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def changing(self, items: int, seeds: range) -> threading.Thread:
        """``change``, in a thread, once for each seed."""

        def change_all() -> None:
            for seed in seeds:
                part = 1 / len(seeds)
                self.change(items, seed, changed=0.2 * part, deleted=0.05 * part)

        thread = threading.Thread(target=change_all)
        thread.start()
        return thread

    def revisions(self) -> dict[str, int]:
        """What is in the table, by document id."""
        return {f"{item['pk']['S']}|{item['sk']['N']}": int(item["revision"]["N"]) for item in self.items()}


def embedded(path: Path, index: str) -> dict[str, int]:
    """What the embedded search index has."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        query = f'SELECT id, document FROM "{index}:documents" WHERE document IS NOT NULL'
        return {id_: int(json.loads(document)["revision"]) for id_, document in connection.execute(query)}


def indexed(server: OpenSearchServer, index: str) -> dict[str, int]:
    """What OpenSearch has."""
    with urlopen(Request(f"{server.url}/{index}/_refresh", method="POST"), timeout=30):
        pass
    found: dict[str, int] = {}
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {"size": 5000, "sort": [{"sk": "asc"}], "_source": ["revision"]}
        if after is not None:
            body["search_after"] = after
        request = Request(
            f"{server.url}/{index}/_search",
            method="POST",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as response:
            hits = json.load(response)["hits"]["hits"]
        if not hits:
            return found
        found |= {hit["_id"]: int(hit["_source"]["revision"]) for hit in hits}
        after = hits[-1]["sort"]
