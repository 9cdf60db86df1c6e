"""Changes in one line, and an image format that counts what is decoded."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from connector.change import Change, EventName, Record
from connector.documents import Numbers

INSERT, MODIFY, REMOVE = EventName.INSERT, EventName.MODIFY, EventName.REMOVE


class CountingImages:
    """Images and records as plain JSON; ``decoded`` lists what was asked for."""

    def __init__(self) -> None:
        self.decoded: list[str] = []

    def matchable(self, image: bytes) -> dict[str, Any]:
        self.decoded.append(f"matchable {_side(image)}")
        return self._read(image)

    def values(self, image: bytes) -> dict[str, Any]:
        self.decoded.append(f"values {_side(image)}")
        return self._read(image)

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        raise AssertionError("neither filters nor templates look at documents")

    def envelope(self, record: Record, index: int) -> dict[str, Any]:
        self.decoded.append("envelope")
        assert record.value is not None
        return self._read(record.value)

    def _read(self, raw: bytes) -> dict[str, Any]:
        item: dict[str, Any] = json.loads(raw, parse_float=Decimal)
        return item


def _side(image: bytes) -> str:
    return "old" if image.startswith(b" ") else "new"


def change(
    name: EventName = MODIFY,
    *,
    keys: dict[str, Any] | None = None,
    key: Any = None,
    new: Any = None,
    old: Any = None,
    record: Any = None,
    images: CountingImages | None = None,
) -> Change:
    """A change; ``key`` is what its key text holds where that is not ``keys`` (DynamoDB: with type tags)."""
    keys = {"pk": "C#1"} if keys is None else keys
    return Change(
        event_name=name,
        key=json.dumps(keys if key is None else key, sort_keys=True),
        keys=keys,
        shard="orders/0",
        record=Record(position=7, value=json.dumps(record or {}).encode()),
        images=images or CountingImages(),
        event_id="event-1",
        timestamp_ms=1700000000000,
        version=99,
        new_image=None if new is None else json.dumps(new).encode(),
        old_image=None if old is None else b" " + json.dumps(old).encode(),
    )


def decoded(of: Change) -> list[str]:
    """What was decoded of a change so far."""
    assert isinstance(of.images, CountingImages)
    return of.images.decoded
