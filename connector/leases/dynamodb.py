"""Leases in a DynamoDB table, with the attributes that users of KCL know (connector.leases.items).

A table that KCL kept until now can be gone on with (stop KCL first): its checkpoints and owners mean the same here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from connector.change import ShardId
from connector.errors import CheckpointError, CheckpointLost, ConfigError
from connector.leases.items import (
    END,
    HELD,
    ONE,
    PIPELINE,
    UNFINISHED,
    ZERO,
    Item,
    Values,
    held,
    lease_of,
    new_item,
    number,
    seen,
    text,
)
from connector.leases.protocol import SHARD_END, Lease, Progress

A = TypeVar("A")
T = TypeVar("T")

CALLS_AT_ONCE = 8
"""Rows are written one by one (each has a condition of its own), so many in parallel."""
TABLE_ACTIVE_S = 60

_FOR_A_PERSON = frozenset(
    {
        "AccessDeniedException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)
_MAY_PASS = (ClientError, BotoCoreError, CheckpointError)
_BEAT = "leaseCounter = leaseCounter + :one"


class DynamoDBLeases:
    """A LeaseStore: a table of its own for each pipeline, made with on-demand billing where it is missing.

    Credentials are found by botocore's usual chain. ``timeout_s`` bounds connecting and each answer.
    """

    def __init__(
        self,
        table: str,
        pipeline: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        profile: str | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        self._table = table
        self._pipeline = pipeline
        self._region = region
        self._endpoint = endpoint
        self._profile = profile
        self._timeout_s = timeout_s
        self._client: Any = None
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="dynamodb-leases")

    async def open(self) -> None:
        """Connect; make the table if it is missing. Raises ConfigError for what only a person can mend, also for a
        table that is another pipeline's: two pipelines in one row would each lose what the other had read."""
        await self._call("opening", self._open)

    async def all(self) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.all``. Consistent reads."""
        leases = map(lease_of, await self._call("reading", self._scan))
        return {lease.key: lease for lease in leases}

    async def create(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.create``."""

        def create(lease: Lease) -> bool:
            item, absent = new_item(lease, self._pipeline), "attribute_not_exists(leaseKey)"
            return self._holds(self._client.put_item, Item=item, ConditionExpression=absent)

        await self._each("creating", create, leases)

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        """See ``LeaseStore.take``."""
        condition, values = seen(lease)
        change = (
            f"SET leaseOwner = :taker, {_BEAT}, millraceEpoch = if_not_exists(millraceEpoch, :zero) + :one, "
            "ownerSwitchesSinceCheckpoint = if_not_exists(ownerSwitchesSinceCheckpoint, :zero) + :one "
            "REMOVE millraceWantedBy"
        )
        values |= {":taker": text(owner), ":zero": ZERO, ":one": ONE, **END}
        return await self._call(
            "taking", lambda: self._update(lease.key, change, f"{condition} AND {UNFINISHED}", values)
        )

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        """See ``LeaseStore.renew``."""

        def renew(lease: Lease) -> Lease | None:
            return self._update(lease.key, f"SET {_BEAT}", HELD, {**held(lease.owner, lease.epoch), ":one": ONE})

        answers = await self._try_each(renew, leases)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures and len(failures) == len(answers):
            raise _failure("renewing", failures[0]) from failures[0]
        renewed: dict[ShardId, Lease] = {}
        for lease, answer in zip(leases, answers, strict=True):
            if answer is not None:
                renewed[lease.key] = lease if isinstance(answer, BaseException) else answer
        return renewed

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        """See ``LeaseStore.save``."""
        change = (
            "SET checkpoint = :saved, checkpointSubSequenceNumber = :zero, millraceClock = :clock, "
            "ownerSwitchesSinceCheckpoint = :zero"
        )

        def save(key: ShardId) -> bool:
            one = progress[key]
            values = {":saved": text(one.checkpoint), ":clock": number(one.clock), ":zero": ZERO, **END}
            values |= held(owner, one.epoch)
            return self._update(key, change, f"{HELD} AND {UNFINISHED}", values) is not None

        saved = await self._each("saving", save, list(progress))
        lost = [key for key, ours in zip(progress, saved, strict=True) if not ours]
        if lost:
            raise CheckpointLost(f"{', '.join(lost)} are not ours any more", shards=lost)

    async def want(self, lease: Lease, by: str) -> bool:
        """See ``LeaseStore.want``."""
        values = {**held(lease.owner, lease.epoch), ":by": text(by)}
        unasked = "attribute_not_exists(millraceWantedBy)"
        if lease.wanted_by is not None:
            unasked, values[":seen"] = "millraceWantedBy = :seen", text(lease.wanted_by)
        condition = f"{HELD} AND ({unasked} OR millraceWantedBy = :by)"
        change = "SET millraceWantedBy = :by"
        return await self._call("asking", lambda: self._update(lease.key, change, condition, values)) is not None

    async def release(self, lease: Lease) -> bool:
        """See ``LeaseStore.release``."""
        change, values = f"SET {_BEAT} REMOVE leaseOwner", {**held(lease.owner, lease.epoch), ":one": ONE}
        return await self._call("releasing", lambda: self._update(lease.key, change, HELD, values)) is not None

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        """See ``LeaseStore.finish``."""
        change = f"SET checkpoint = :end, {_BEAT}, millraceClock = :clock, millraceEndedAt = :ended"
        change += ", checkpointSubSequenceNumber = :zero, ownerSwitchesSinceCheckpoint = :zero"
        values: dict[str, Any] = {":zero": ZERO, ":one": ONE, ":clock": number(clock), ":ended": number(ended_ms)}
        values |= {**held(lease.owner, lease.epoch), **END}
        if children:
            change += ", childShardIds = :children"
            values[":children"] = {"SS": sorted(children)}
        change += " REMOVE leaseOwner, millraceWantedBy"

        def finish() -> bool:
            if self._update(lease.key, change, f"{HELD} AND {UNFINISHED}", values) is not None:
                return True
            answer = self._client.get_item(
                TableName=self._table, Key={"leaseKey": text(lease.key)}, ConsistentRead=True
            )
            row = lease_of(answer["Item"]) if "Item" in answer else None
            return row is not None and row.checkpoint == SHARD_END and row.epoch == lease.epoch

        if not await self._call("finishing", finish):
            raise CheckpointLost(f"{lease.key} is not ours any more", shards=[lease.key])

    async def delete(self, leases: Sequence[Lease]) -> None:
        """See ``LeaseStore.delete``."""

        def delete(lease: Lease) -> bool:
            condition, values = seen(lease)
            return self._holds(
                self._client.delete_item,
                Key={"leaseKey": text(lease.key)},
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )

        await self._each("deleting", delete, leases)

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._threads.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    def _open(self) -> None:
        settings = ClientConfig(
            connect_timeout=self._timeout_s,
            read_timeout=self._timeout_s,
            # A heartbeat that comes too late is worth nothing: the keeper's own next turn is the retry.
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=CALLS_AT_ONCE,
        )
        try:
            session = boto3.Session(profile_name=self._profile, region_name=self._region)
            self._client = session.client("dynamodb", endpoint_url=self._endpoint, config=settings)
            self._make_table()
            pipelines = {item[PIPELINE]["S"] for item in self._scan() if PIPELINE in item}
        except (NoCredentialsError, NoRegionError, ProfileNotFound, ValueError) as error:
            raise ConfigError(f"leases cannot be kept in DynamoDB: {error}") from error
        except ClientError as error:
            if error.response["Error"]["Code"] not in _FOR_A_PERSON:
                raise
            raise ConfigError(f"leases cannot be kept in the table {self._table!r}: {_said(error)}") from error
        if others := pipelines - {self._pipeline}:
            raise ConfigError(
                f"the lease table {self._table!r} is that of pipeline {min(others)!r}: each has its own",
                path=("table",),
            )

    def _make_table(self) -> None:
        try:
            table = self._client.describe_table(TableName=self._table)["Table"]
        except self._client.exceptions.ResourceNotFoundException:
            try:
                self._client.create_table(
                    TableName=self._table,
                    AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
                    KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                    BillingMode="PAY_PER_REQUEST",
                )
            except self._client.exceptions.ResourceInUseException:
                pass  # another replica made it in the meantime
        else:
            if [part["AttributeName"] for part in table["KeySchema"]] != ["leaseKey"]:
                raise ConfigError(
                    f"the table {self._table!r} is not a lease table: its key is not leaseKey alone", path=("table",)
                )
            if table["TableStatus"] in ("ACTIVE", "UPDATING"):
                return
        waiter = self._client.get_waiter("table_exists")
        waiter.wait(TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": TABLE_ACTIVE_S})

    def _scan(self) -> list[Item]:
        pages = self._client.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def _update(self, key: ShardId, change: str, condition: str, values: Values) -> Lease | None:
        """The row after a conditional update, or None where the condition did not hold."""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"leaseKey": text(key)},
                UpdateExpression=change,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        return lease_of(answer["Attributes"])

    def _holds(self, write: Callable[..., Any], **request: Any) -> bool:
        """Write on a condition; says whether it held."""
        try:
            write(TableName=self._table, **request)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    async def _call(self, doing: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (ClientError, BotoCoreError) as error:
            raise _failure(doing, error) from error

    async def _try_each(self, work: Callable[[A], T], items: Iterable[A]) -> list[T | BaseException]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(self._threads, work, item) for item in items]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, _MAY_PASS):
                raise answer
        return answers

    async def _each(self, doing: str, work: Callable[[A], T], items: Iterable[A]) -> list[T]:
        """Every item is tried, also when another one fails; then the first failure is raised."""
        done: list[T] = []
        failures: list[BaseException] = []
        for answer in await self._try_each(work, items):
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                done.append(answer)
        if failures:
            raise _failure(doing, failures[0]) from failures[0]
        return done


def _failure(doing: str, error: BaseException) -> CheckpointError:
    return error if isinstance(error, CheckpointError) else CheckpointError(f"leases, {doing}: {_said(error)}")


def _said(error: BaseException) -> str:
    if isinstance(error, ClientError):
        said = error.response["Error"]
        return f"{said['Code']}: {said.get('Message', '')}"
    return str(error)
