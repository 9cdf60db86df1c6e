"""A lease as a DynamoDB item: KCL's attributes with KCL's meanings, and our own, which begin with ``millrace``.

KCL ignores attributes that it does not know; ours are absent from rows that KCL wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector.errors import CheckpointError
from connector.leases.protocol import SHARD_END, Lease

Item = dict[str, Any]
Values = dict[str, dict[str, str]]
"""The values of an expression's placeholders."""

PIPELINE = "millracePipeline"
ONE, ZERO = {"N": "1"}, {"N": "0"}

HELD = "leaseOwner = :owner AND millraceEpoch = :epoch"
UNFINISHED = "checkpoint <> :end"
END: Values = {":end": {"S": SHARD_END}}


def text(value: str) -> dict[str, str]:
    """A string attribute."""
    return {"S": value}


def number(value: int) -> dict[str, str]:
    """A number attribute: 38 digits, exact."""
    return {"N": str(value)}


def held(owner: str | None, epoch: int) -> Values:
    """The values of ``HELD``. Nobody's lease is held by nobody: no row has an empty owner."""
    return {":owner": text(owner or ""), ":epoch": number(epoch)}


def seen(lease: Lease) -> tuple[str, Values]:
    """The condition that a row's owner, counter and epoch are as they were seen, with its values."""
    parts = ["leaseCounter = :counter"]
    values: Values = {":counter": number(lease.counter)}
    if lease.owner is None:
        parts.append("attribute_not_exists(leaseOwner)")
    else:
        parts.append("leaseOwner = :owner")
        values[":owner"] = text(lease.owner)
    if lease.epoch:
        parts.append("millraceEpoch = :epoch")
        values[":epoch"] = number(lease.epoch)
    else:  # also a row that KCL wrote
        parts.append("(attribute_not_exists(millraceEpoch) OR millraceEpoch = :epoch)")
        values[":epoch"] = ZERO
    return " AND ".join(parts), values


def new_item(lease: Lease, pipeline: str) -> Item:
    """The item of a lease that nobody has had yet. DynamoDB has no empty sets: an empty one is absent."""
    item: Item = {
        "leaseKey": text(lease.key),
        "leaseCounter": number(lease.counter),
        "checkpoint": text(lease.checkpoint),
        "checkpointSubSequenceNumber": ZERO,
        "ownerSwitchesSinceCheckpoint": ZERO,
        "millraceEpoch": number(lease.epoch),
        "millraceClock": number(lease.clock),
        PIPELINE: text(pipeline),
    }
    if lease.parents:
        item["parentShardId"] = {"SS": sorted(lease.parents)}
    if lease.children:
        item["childShardIds"] = {"SS": sorted(lease.children)}
    if lease.ended_ms is not None:
        item["millraceEndedAt"] = number(lease.ended_ms)
    return item


def lease_of(item: Mapping[str, Any]) -> Lease:
    """The lease of an item. Raises CheckpointError for one that is no lease's."""
    try:
        ended = item.get("millraceEndedAt")
        return Lease(
            key=item["leaseKey"]["S"],
            owner=item.get("leaseOwner", {}).get("S"),
            counter=int(item["leaseCounter"]["N"]),
            epoch=int(item.get("millraceEpoch", ZERO)["N"]),
            wanted_by=item.get("millraceWantedBy", {}).get("S"),
            checkpoint=item["checkpoint"]["S"],
            clock=int(item.get("millraceClock", ZERO)["N"]),
            parents=frozenset(item.get("parentShardId", {}).get("SS", ())),
            children=frozenset(item.get("childShardIds", {}).get("SS", ())),
            ended_ms=None if ended is None else int(ended["N"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"a row of the lease table is not a lease: {type(error).__name__} {error}") from error
