"""A stream of one test alone: written to, split and merged."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

from tests.daemon import wait_until
from tests.integration.kinesis_table import entries
from tests.servers.kinesis import KinesisLocal
from tests.servers.test_aws_servers import client


class Stream:
    """A stream with a name that no other test has."""

    def __init__(self, server: KinesisLocal, shards: int) -> None:
        self.name = f"orders-{uuid4().hex[:8]}"
        self.kinesis = client("kinesis", server)
        self._chance = random.Random(1)
        self.kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        self.settle()

    def settle(self) -> None:
        """Wait until a change of its shards is through."""
        wait_until(lambda: self.status() == "ACTIVE", 30, "the stream is active")

    def status(self) -> str:
        summary = self.kinesis.describe_stream_summary(StreamName=self.name)
        return str(summary["StreamDescriptionSummary"]["StreamStatus"])

    def put(self, changes: list[tuple[str, bytes]]) -> None:
        """Write changes in this order."""
        records = list(entries(changes, self._chance))
        for at in range(0, len(records), 100):
            answer = self.kinesis.put_records(StreamName=self.name, Records=records[at : at + 100])
            assert answer["FailedRecordCount"] == 0

    def shards(self, *, of_all: bool = False) -> list[dict[str, Any]]:
        """The open shards (or all), by their hash keys."""
        shards = self.kinesis.list_shards(StreamName=self.name)["Shards"]
        open_ = [one for one in shards if of_all or "EndingSequenceNumber" not in one["SequenceNumberRange"]]
        return sorted(open_, key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))

    def split(self, shard: dict[str, Any]) -> None:
        """Split an open shard in its middle."""
        first, last = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
        middle = str((first + last) // 2)
        self.kinesis.split_shard(StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)
        self.settle()

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """Merge two neighbours."""
        names = {"ShardToMerge": one["ShardId"], "AdjacentShardToMerge": other["ShardId"]}
        self.kinesis.merge_shards(StreamName=self.name, **names)
        self.settle()
