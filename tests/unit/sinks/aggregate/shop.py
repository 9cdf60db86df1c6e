"""Histories of a small shop, and its numbers worked out anew from the items: what the sink's must be equal to."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, Inexact
from typing import Any

from connector.change import Change
from sinks.aggregate import AggregateSink
from sinks.aggregate.config import AggregateSinkConfig
from sinks.testing import context, insert, modify, remove

EXACT = Context(prec=1000, traps=[Inexact])

OPTIONS: dict[str, Any] = {
    "table": "orders",
    "group_by": {"status": "{status}", "shop": "{shop}"},
    "measures": {
        "orders": {"kind": "count"},
        "paid": {"kind": "count", "where": {"paid": {"BOOL": [True]}}},
        "revenue": {"kind": "sum", "of": "total", "missing": "skip"},
        "paid_revenue": {"kind": "sum", "of": "total", "missing": "zero", "where": {"paid": {"BOOL": [True]}}},
        "least": {"kind": "min", "of": "total", "missing": "skip"},
        "most": {"kind": "max", "of": "total", "missing": "skip"},
        "mean": {"kind": "average", "of": "total", "missing": "skip"},
        "customers": {"kind": "distinct", "of": "{customer}"},
    },
}
COLUMNS = ["orders", "paid", "revenue", "paid_revenue", "least", "most", "mean_sum", "mean_count", "mean", "customers"]
SELECT = f"SELECT status, shop, items, {', '.join(COLUMNS)} FROM orders"

TOTALS = [
    Decimal("0.1"),
    Decimal("-0.1"),
    Decimal("99999999999999999999999999999999999999"),
    Decimal("1E-130"),
    Decimal("9.9999999999999999999999999999999999999E+125"),
    Decimal("-1E+125"),
    Decimal("1.10"),
    3,
    0,
    -7,
]

Row = tuple[Any, ...]
Item = dict[str, Any]


def aggregate_sink(url: str, pipeline: str = "contract", **more: Any) -> AggregateSink:
    return AggregateSink(AggregateSinkConfig.model_validate({"url": url, **OPTIONS, **more}), context(pipeline))


def random_item(chance: random.Random) -> Item:
    item: Item = {
        "status": chance.choice(["NEW", "PAID", "SENT"]),
        "shop": chance.choice(["a", "b"]),
        "customer": f"c{chance.randrange(3)}",
        "paid": chance.random() < 0.5,
    }
    if chance.random() < 0.8:
        item["total"] = chance.choice(TOTALS)
    return item


def history(chance: random.Random, keys: int, length: int) -> tuple[list[Change], dict[str, Item]]:
    """Changes in the order of the log, and the items at its end. Some images are missing, as old ones may be."""
    items: dict[str, Item] = {}
    changes = []
    for version in range(1, length + 1):
        key = f"k{chance.randrange(keys)}"
        before = items.get(key)
        old = before if chance.random() < 0.5 else None
        if before is not None and chance.random() < 0.25:
            del items[key]
            changes.append(remove(key, old=old, version=version))
            continue
        items[key] = random_item(chance)
        make = insert(key, items[key], version=version)
        changes.append(make if before is None else modify(key, items[key], old=old, version=version))
    return changes, items


def deliveries(chance: random.Random, changes: Sequence[Change], lanes: int) -> list[list[list[Change]]]:
    """For each lane its batches: a key's changes in order in one lane, with replays from anywhere earlier in it."""
    found: list[list[list[Change]]] = []
    for lane in range(lanes):
        mine = [change for change in changes if hash_of(change.key) % lanes == lane]
        batches = []
        at = 0
        while at < len(mine):
            until = min(len(mine), at + chance.randint(1, 6))
            batches.append(mine[at:until])
            # A replay begins anew further up, as after a crash.
            at = chance.randrange(until) if chance.random() < 0.2 else until
        found.append(batches)
    return found


def hash_of(key: str) -> int:
    return sum(key.encode())


def numbers_of(items: Iterable[Item]) -> dict[tuple[str, str], Row]:
    """The numbers of each group, in the order of COLUMNS."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item["status"], item["shop"]].append(item)
    return {group: _row(members) for group, members in groups.items()}


def _row(members: list[Item]) -> Row:
    totals = [Decimal(item["total"]) for item in members if "total" in item]
    paid = [item for item in members if item["paid"]]
    mean = Context(prec=38).divide(_sum(totals), Decimal(len(totals))) if totals else None
    return (
        len(members),
        len(members),
        len(paid),
        _sum(totals),
        _sum(Decimal(item.get("total", 0)) for item in paid),
        min(totals, default=None),
        max(totals, default=None),
        _sum(totals),
        len(totals),
        mean,
        len({item["customer"] for item in members}),
    )


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def rows_by_group(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """What was read, in the same shape: SQLite's texts are numbers again."""
    return {
        (row[0], row[1]): tuple(Decimal(value) if isinstance(value, str) else value for value in row[2:])
        for row in rows
    }
