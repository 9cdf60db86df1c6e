"""A table that writes its changes to a Kinesis stream as DynamoDB does: twice now and then, and not in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.unit.sources.kinesis.aggregate import aggregate

START_US = 1_790_000_000_000_000
DISORDER = 12
"""Of how many changes in a row the order is left to chance."""


class Table:
    """Items, their changes, and what every sink must come to hold."""

    def __init__(self, keys: int, seed: int) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.event_ids: list[str] = []
        self._keys = keys
        self._chance = random.Random(seed)
        self._time_us = START_US

    def changes(self, count: int) -> list[tuple[str, bytes]]:
        """So many changes, each with its partition key, as the stream gets them."""
        made = [self.change() for _ in range(count)]
        made = [each for each in made for _ in range(2 if self._chance.random() < 0.05 else 1)]
        for at in range(0, len(made), DISORDER):
            window = made[at : at + DISORDER]
            self._chance.shuffle(window)
            made[at : at + DISORDER] = window
        return made

    def change(self) -> tuple[str, bytes]:
        """One change of a key that chance picks, with its partition key."""
        # The time stands still in milliseconds: only the microseconds tell the order.
        self._time_us += self._chance.choice([1, 1, 3, 400])
        number = len(self.event_ids)
        pk = f"c{self._chance.randrange(self._keys)}"
        old = self.items.get(pk)
        new = None if old and self._chance.random() < 0.2 else {"pk": {"S": pk}, "n": {"N": str(number)}}
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": self._time_us,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": {"pk": {"S": pk}},
        }
        if old is not None:
            body["OldImage"] = old
        if new is None:
            del self.items[pk]
        else:
            self.items[pk] = body["NewImage"] = new
        name = "REMOVE" if new is None else "MODIFY" if old else "INSERT"
        event_id = f"e{number}"
        self.event_ids.append(event_id)
        return pk, msgspec.json.encode(
            {"eventID": event_id, "eventName": name, "tableName": "orders", "userIdentity": None, "dynamodb": body}
        )


def entries(changes: list[tuple[str, bytes]], chance: random.Random) -> Iterator[dict[str, Any]]:
    """The records to put: most alone, some aggregated as the Kinesis Producer Library does."""
    at = 0
    while at < len(changes):
        several = chance.choice([1, 1, 1, 7])
        part = changes[at : at + several]
        at += several
        data = part[0][1] if len(part) == 1 else aggregate(part)
        yield {"Data": data, "PartitionKey": part[0][0]}
