"""Contributions → numbers: what a key added before is taken away, what it adds now is added, in one transaction.

Why this is right under replays, zombies and lanes: batches of a route's lanes are written at once and in any order, so
no single position of a shard could say what is in the numbers. Each key says it instead: its row holds the version
that is applied and exactly what that version added. A change with that version or an older one is stale and touches
nothing, whoever writes it (a replay, a stopped owner that wakes up, a second process); a newer one takes away what the
row says and adds its own, and row and numbers change in one transaction. So the numbers are at all times the sum of
the rows, and the rows hold each key's newest version. No old image is asked for: what it would retract is in the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from connector.errors import SinkUnavailable
from sinks.aggregate.config import Kind
from sinks.aggregate.contribute import Contribution
from sinks.aggregate.decimals import ZERO, add, subtract
from sinks.aggregate.store import (
    Average,
    Cell,
    Counted,
    Group,
    GroupRow,
    Item,
    Schema,
    Transaction,
    Value,
)


class _Delta:
    """What a batch does to one group."""

    def __init__(self, measures: int) -> None:
        self.names: tuple[str, ...] = ()
        self.items = 0
        self.counts = [0] * measures
        self.totals = [ZERO] * measures
        self.came: list[list[Decimal]] = [[] for _ in range(measures)]
        self.went: list[list[Decimal]] = [[] for _ in range(measures)]
        self.values: list[Counter[bytes]] = [Counter() for _ in range(measures)]

    def count(self, values: Sequence[Value], sign: int) -> None:
        """Add (1) or take away (-1) what an item adds."""
        self.items += sign
        for at, value in enumerate(values):
            if value is None:
                continue
            if isinstance(value, bytes):
                self.values[at][value] += sign
                continue
            self.counts[at] += sign
            if isinstance(value, Decimal):
                self.totals[at] = (add if sign > 0 else subtract)(self.totals[at], value)
                (self.came if sign > 0 else self.went)[at].append(value)

    @property
    def is_nothing(self) -> bool:
        """Whether the numbers stay as they are."""
        if self.items or any(self.counts) or any(self.totals):
            return False
        return not any(any(counter.values()) for counter in self.values) and all(
            sorted(came) == sorted(went) for came, went in zip(self.came, self.went, strict=True)
        )


async def apply(transaction: Transaction, schema: Schema, contributions: Sequence[Contribution]) -> list[bool]:
    """Apply contributions; of each, whether it was new (False: its key holds this version or a newer one)."""
    held = await transaction.items(sorted({one.row.id for one in contributions}))
    versions = {item_id: item.version for item_id, item in held.items()}
    newest: dict[bytes, Contribution] = {}
    done: list[bool] = []
    for one in contributions:
        version = one.row.item.version
        is_new = version > versions.get(one.row.id, -1)
        done.append(is_new)
        if is_new:
            versions[one.row.id] = version
            newest[one.row.id] = one
    if newest:
        # Sorted: whoever writes the same rows at once takes them in the same order, and none waits in a circle.
        rows = [newest[item_id].row for item_id in sorted(newest)]
        await transaction.put_items(
            [row for row in rows if row.id not in held], [row for row in rows if row.id in held]
        )
        deltas = _deltas(held, newest.values(), len(schema.measures))
        if deltas:
            await _change_groups(transaction, schema, deltas)
    return done


def _deltas(held: Mapping[bytes, Item], newest: Iterable[Contribution], measures: int) -> dict[bytes, _Delta]:
    deltas: dict[bytes, _Delta] = {}
    for row, names in newest:
        before, after = held.get(row.id), row.item
        if before is not None and before[1:] == after[1:]:
            continue  # it adds what it added before
        for item, sign in ((before, -1), (after, 1)):
            if item is None or item.group_id is None:
                continue
            delta = deltas.get(item.group_id)
            if delta is None:
                delta = deltas[item.group_id] = _Delta(measures)
            delta.count(item.values, sign)
            if sign > 0:
                delta.names = names
    return {group_id: delta for group_id, delta in deltas.items() if not delta.is_nothing}


async def _change_groups(transaction: Transaction, schema: Schema, deltas: Mapping[bytes, _Delta]) -> None:
    ids = sorted(deltas)
    held = await transaction.groups(ids)
    came = await _count_values(transaction, schema, deltas)
    new: list[GroupRow] = []
    known: list[GroupRow] = []
    empty: list[bytes] = []
    cells: dict[bytes, list[Cell]] = {group_id: [] for group_id in ids}
    for at, measure in enumerate(schema.measures):
        stale: list[bytes] = []
        for group_id in ids:
            before = held[group_id].cells[at] if group_id in held else _EMPTY[measure.kind]
            delta = deltas[group_id]
            cell = _cell(measure.kind, before, delta, at, came.get((group_id, measure.name), 0))
            if cell is _UNKNOWN:
                stale.append(group_id)
            cells[group_id].append(cell)
        if stale:
            for group_id, extreme in (await transaction.extremes(measure, stale)).items():
                cells[group_id][at] = extreme
    for group_id in ids:
        delta, group = deltas[group_id], held.get(group_id)
        items = delta.items + (group.items if group is not None else 0)
        if items < 0 or (group is None and items == 0):
            raise _damaged(schema)
        if items == 0:
            empty.append(group_id)
        elif group is None:
            new.append(GroupRow(group_id, delta.names, Group(items, tuple(cells[group_id]))))
        else:
            known.append(GroupRow(group_id, (), Group(items, tuple(cells[group_id]))))
    await transaction.put_groups(new, known, empty)


_EMPTY: Mapping[Kind, Cell] = {
    Kind.COUNT: 0,
    Kind.SUM: ZERO,
    Kind.AVERAGE: Average(ZERO, 0),
    Kind.MIN: None,
    Kind.MAX: None,
    Kind.DISTINCT: 0,
}
_UNKNOWN: Final = Decimal("NaN")
"""Stands for an extreme that must be looked up: the item that it came from is gone."""


def _cell(kind: Kind, before: Cell, delta: _Delta, at: int, values_came: int) -> Cell:
    match kind:
        case Kind.COUNT:
            assert isinstance(before, int)
            return before + delta.counts[at]
        case Kind.DISTINCT:
            assert isinstance(before, int)
            return before + values_came
        case Kind.SUM:
            assert isinstance(before, Decimal)
            return add(before, delta.totals[at])
        case Kind.AVERAGE:
            assert isinstance(before, Average)
            return Average(add(before.total, delta.totals[at]), before.number + delta.counts[at])
        case Kind.MIN | Kind.MAX:
            assert before is None or isinstance(before, Decimal)
            return _extreme(min if kind is Kind.MIN else max, before, delta.came[at], delta.went[at])


def _extreme(
    choose: Callable[[Iterable[Decimal]], Decimal], before: Decimal | None, came: list[Decimal], went: list[Decimal]
) -> Decimal | None:
    best = choose(came) if came else None
    if before is None:
        return best
    if best is not None and choose((best, before)) == best:
        return best
    return _UNKNOWN if before in went else before


async def _count_values(
    transaction: Transaction, schema: Schema, deltas: Mapping[bytes, _Delta]
) -> dict[tuple[bytes, str], int]:
    """Keep how often distinct values stand in their groups; by group and measure, how many more there are now."""
    changed = {
        Counted(group_id, measure.name, value_id): count
        for group_id, delta in deltas.items()
        for at, measure in enumerate(schema.measures)
        for value_id, count in delta.values[at].items()
        if count
    }
    if not changed:
        return {}
    wanted = sorted(changed)
    held = await transaction.values(wanted)
    counts: dict[Counted, int] = {}
    more: Counter[tuple[bytes, str]] = Counter()
    for value in wanted:
        before = held.get(value, 0)
        counts[value] = before + changed[value]
        if counts[value] < 0:
            raise _damaged(schema)
        more[value.group_id, value.measure] += (counts[value] > 0) - (before > 0)
    await transaction.put_values(counts)
    return more


def _damaged(schema: Schema) -> SinkUnavailable:
    # No change's fault, and nothing that another attempt mends: the route waits and says why, and loses nothing.
    return SinkUnavailable(
        f"the numbers in {schema.table} are not those of {schema.table}_items: somebody else changed them; "
        "drop its tables and have them filled again"
    )
