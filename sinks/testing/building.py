"""Builders that make changes in one line, and what a sink under test is told of its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from connector.attributes import to_item
from connector.change import Change, EventName, Record
from connector.clock import SystemClock
from connector.codecs.dynamodb import DynamoDBCodec
from connector.sink import SinkContext

Item = Mapping[str, Any]

BASE_VERSION = 1_750_000_000_000 << 20
"""Versions of the builders start here: as large as real ones, so that a sink that keeps them as doubles is caught."""


def context(pipeline: str = "contract", route: str = "contract") -> SinkContext:
    """What a sink under test is told of the place it works in."""
    return SinkContext(pipeline=pipeline, route=route, clock=SystemClock())


def insert(key: str | Item, item: Item | None = None, *, version: int = 1, **more: Any) -> Change:
    """``insert("a", {"name": "Ann"}, version=3)``: the item with ``pk`` "a" is there now. See ``change``."""
    return change(EventName.INSERT, key, new={} if item is None else item, version=version, **more)


def modify(
    key: str | Item, item: Item | None = None, *, old: Item | None = None, version: int = 2, **more: Any
) -> Change:
    """``modify("a", {"name": "Bea"}, old={"name": "Ann"})``: the item changed. See ``change``."""
    return change(EventName.MODIFY, key, new={} if item is None else item, old=old, version=version, **more)


def remove(key: str | Item, *, old: Item | None = None, version: int = 3, **more: Any) -> Change:
    """``remove("a", old={"name": "Bea"})``: the item is gone. See ``change``."""
    return change(EventName.REMOVE, key, old=old, version=version, **more)


def change(
    event_name: EventName,
    key: str | Item,
    *,
    new: Item | None = None,
    old: Item | None = None,
    version: int = 1,
    position: int | None = None,
    shard: str = "contract/0",
    event_id: str | None = None,
    timestamp_ms: int | None = None,
    identity: bytes | None = None,
) -> Change:
    """One change, decoded from a DynamoDB stream record. A ``key`` that is a text is the attribute ``pk``.

    Images are given without the key's attributes (they are added) and as Python values (int, Decimal, bytes, frozenset,
    ...); None is an image that the stream does not carry. ``version`` is small and relative: ``BASE_VERSION`` is added.
    """
    keys = {"pk": key} if isinstance(key, str) else dict(key)
    where = version if position is None else position
    happened_ms = 1_750_000_000_000 + min(version, 86_400_000) if timestamp_ms is None else timestamp_ms
    images = {
        name: to_item({**keys, **image}) for name, image in (("NewImage", new), ("OldImage", old)) if image is not None
    }
    body: dict[str, Any] = {
        "eventID": event_id or f"{shard}:{where}:0",
        "eventName": event_name.value,
        "dynamodb": {"ApproximateCreationDateTime": happened_ms / 1000, "Keys": to_item(keys), **images},
    }
    if identity is not None:
        body["userIdentity"] = msgspec.Raw(identity)
    record = Record(position=where, value=msgspec.json.encode(body), timestamp_ms=happened_ms)
    (made,) = DynamoDBCodec().decode(shard, [record]).changes
    return msgspec.structs.replace(made, timestamp_ms=happened_ms, version=BASE_VERSION + version)
