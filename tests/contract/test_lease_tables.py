"""What is said of one lease table and not of the others: KCL's rows, tables that are not ours, servers that refuse."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import boto3
import psycopg
import pytest

from connector.errors import CheckpointError, ConfigError
from connector.leases.dynamodb import DynamoDBLeases
from connector.leases.postgres import PostgresLeases
from connector.leases.protocol import TRIM_HORIZON, Lease, LeaseStore, Progress
from connector.leases.sqlite import SQLiteLeases
from tests.coroutines import asynchronous
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.servers.process import free_ports

SHARD = "shardId-00000001700000000000-0a1b2c3d"


@pytest.fixture
def client(dynamodb_local: DynamoDBLocal, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of DynamoDB Local, whose credentials the stores find too."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", dynamodb_local.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", dynamodb_local.secret_access_key)
    return boto3.client("dynamodb", region_name=dynamodb_local.region, endpoint_url=dynamodb_local.endpoint)


@pytest.fixture
def table() -> str:
    return f"leases-{uuid4().hex[:12]}"


@pytest.fixture
def leases(client: Any, table: str, dynamodb_local: DynamoDBLocal) -> Callable[[str], DynamoDBLeases]:
    """Makes stores of pipelines in one and the same table."""
    return lambda pipeline: DynamoDBLeases(
        table, pipeline, region=dynamodb_local.region, endpoint=dynamodb_local.endpoint, timeout_s=30.0
    )


@contextlib.asynccontextmanager
async def opened(store: LeaseStore) -> AsyncIterator[LeaseStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def make_table(client: Any, table: str, *keys: str) -> None:
    client.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ["HASH", "RANGE"], strict=False)],
        BillingMode="PAY_PER_REQUEST",
    )


@asynchronous
async def test_a_row_has_the_attributes_that_users_of_kcl_know(
    client: Any, table: str, leases: Callable[[str], DynamoDBLeases]
) -> None:
    async with opened(leases("orders")) as store:
        await store.create([Lease(key=SHARD, checkpoint=TRIM_HORIZON, parents=frozenset({"shardId-parent"}))])
        taken = await store.take((await store.all())[SHARD], "one")
        assert taken is not None
        again = await store.take(taken, "two")
        assert again is not None
        assert _item(client, table) == {
            "leaseKey": {"S": SHARD},
            "leaseOwner": {"S": "two"},
            "leaseCounter": {"N": "2"},
            "checkpoint": {"S": TRIM_HORIZON},
            "checkpointSubSequenceNumber": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "2"},
            "parentShardId": {"SS": ["shardId-parent"]},
            "millraceEpoch": {"N": "2"},
            "millraceClock": {"N": "0"},
            "millracePipeline": {"S": "orders"},
        }
        await store.save("two", {SHARD: Progress(2, "17", 5)})
        assert _item(client, table)["ownerSwitchesSinceCheckpoint"] == {"N": "0"}
        await store.finish(again, clock=6, children=["shardId-child"], ended_ms=7)
        ended = _item(client, table)
        assert "leaseOwner" not in ended
        assert (ended["checkpoint"], ended["childShardIds"]) == ({"S": "SHARD_END"}, {"SS": ["shardId-child"]})


@asynchronous
async def test_a_table_that_kcl_kept_is_gone_on_with(
    client: Any, table: str, leases: Callable[[str], DynamoDBLeases]
) -> None:
    make_table(client, table, "leaseKey")
    client.put_item(
        TableName=table,
        Item={
            "leaseKey": {"S": SHARD},
            "leaseOwner": {"S": "kcl-worker"},
            "leaseCounter": {"N": "1234"},
            "checkpoint": {"S": "49590338271490256608559692538361571095921575989136588898"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "3"},
        },
    )
    async with opened(leases("orders")) as store:
        row = (await store.all())[SHARD]
        assert (row.owner, row.counter, row.epoch, row.clock) == ("kcl-worker", 1234, 0, 0)
        taken = await store.take(row, "one")
        assert taken is not None
        assert (taken.epoch, taken.checkpoint) == (1, row.checkpoint)
        await store.save("one", {SHARD: Progress(1, "49590338271490256608559692538361571095921575989136588900", 1)})
        assert await store.take(row, "two") is None


@asynchronous
async def test_another_pipelines_table_is_refused(leases: Callable[[str], DynamoDBLeases]) -> None:
    async with opened(leases("orders")) as store:
        await store.create([Lease(key=SHARD, checkpoint=TRIM_HORIZON)])
    customers = leases("customers")
    with pytest.raises(ConfigError, match="pipeline 'orders'"):
        await customers.open()
    await customers.close()


@asynchronous
async def test_a_table_of_another_kind_is_refused(
    client: Any, table: str, leases: Callable[[str], DynamoDBLeases]
) -> None:
    make_table(client, table, "leaseKey", "sk")
    store = leases("orders")
    with pytest.raises(ConfigError, match="not a lease table"):
        await store.open()
    await store.close()


@asynchronous
async def test_a_row_that_is_no_lease_is_said_to_be_none(
    client: Any, table: str, leases: Callable[[str], DynamoDBLeases]
) -> None:
    async with opened(leases("orders")) as store:
        client.put_item(TableName=table, Item={"leaseKey": {"S": "x"}, "leaseCounter": {"N": "1.5"}})
        with pytest.raises(CheckpointError, match="not a lease"):
            await store.all()


@asynchronous
async def test_a_password_that_is_wrong_is_for_a_person_to_mend(postgres_database: str) -> None:
    url = urlsplit(postgres_database)
    wrong = urlunsplit(url._replace(netloc=url.netloc.replace(f":{url.password}@", ":s3cret@")))
    with pytest.raises(ConfigError) as caught:
        await PostgresLeases(wrong, "orders").open()
    assert "s3cret" not in str(caught.value)


@asynchronous
async def test_a_server_that_cuts_its_connections_is_asked_again(postgres_database: str) -> None:
    async with opened(PostgresLeases(postgres_database, "orders", timeout_s=30.0)) as store:
        await store.create([Lease(key=SHARD, checkpoint=TRIM_HORIZON)])
        async with await psycopg.AsyncConnection.connect(postgres_database, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(CheckpointError):
            await store.all()
        assert (await store.all()).keys() == {SHARD}


@asynchronous
async def test_a_server_that_is_not_there_may_come_back() -> None:
    (port,) = free_ports(1)
    with pytest.raises(CheckpointError):
        await PostgresLeases(f"postgresql://u:p@127.0.0.1:{port}/d", "orders").open()


@asynchronous
async def test_a_table_in_a_schema_that_is_not_there_is_for_a_person_to_mend(postgres_database: str) -> None:
    with pytest.raises(ConfigError):
        await PostgresLeases(postgres_database, "orders", table="nowhere.leases").open()


@asynchronous
async def test_a_file_that_cannot_be_made_is_for_a_person_to_mend(tmp_path: Path) -> None:
    store = SQLiteLeases(tmp_path / "missing" / "leases.db", "orders")
    with pytest.raises(ConfigError):
        await store.open()
    await store.close()


def _item(client: Any, table: str) -> dict[str, Any]:
    item: dict[str, Any] = client.get_item(TableName=table, Key={"leaseKey": {"S": SHARD}}, ConsistentRead=True)["Item"]
    return item
