"""What the two databases have in common: the rows, and what a transaction of a store can do.

Four tables, here for ``table: orders``:

    orders              one row a group: its columns, ``items`` (how many are in it) and the measures. For reading.
    orders_items        one row a key: the version that is applied, and what the item adds to its group now
    orders_values       how often each value of a ``distinct`` measure stands in a group
    orders_definition   what the numbers mean and whose they are: another meaning needs another table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import NamedTuple, Protocol

from sinks.aggregate.config import Kind

Value = int | Decimal | bytes | None
"""What an item adds to a measure: 1 to a count, a number, a digest of a distinct value; None: it does not count."""


class Average(NamedTuple):
    """Both exact; the quotient is worked out of them."""

    total: Decimal
    number: int


Cell = int | Decimal | Average | None
"""A measure of a group: int for count and distinct, Decimal for a sum, Decimal or None for an extreme."""


class Item(NamedTuple):
    """What a key adds now. Removed items have no group and add nothing: they are kept for their version."""

    version: int
    group_id: bytes | None
    values: tuple[Value, ...]


class ItemRow(NamedTuple):
    """An item as it is to be kept."""

    id: bytes
    """Digest of the key, which may be too long for an index."""
    key: str
    removed_at_ms: int | None
    item: Item


class Group(NamedTuple):
    """The numbers of a group."""

    items: int
    cells: tuple[Cell, ...]


class GroupRow(NamedTuple):
    """A group as it is to be kept. ``names`` are the texts of its columns."""

    id: bytes
    names: tuple[str, ...]
    group: Group


class Counted(NamedTuple):
    """One value of a distinct measure in one group."""

    group_id: bytes
    measure: str
    value_id: bytes


class Measure(NamedTuple):
    """A measure as a store sees it."""

    name: str
    kind: Kind


class Schema(NamedTuple):
    """What tables a store keeps."""

    table: str
    columns: tuple[str, ...]
    """Of a group."""
    measures: tuple[Measure, ...]
    definition: str
    """As JSON with sorted names: equal definitions are equal texts."""


class DataRefused(Exception):
    """The database refuses the contents of some row; nothing of the batch was kept."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Conflict(Exception):
    """The transaction met another one that did the same first, and may be done again at once."""


class Transaction(Protocol):
    """All of it is kept or nothing. What is read stays as it is until the end, but for what this transaction writes.

    Every method may raise what ``Store.transaction`` does.
    """

    async def items(self, ids: Sequence[bytes]) -> Mapping[bytes, Item]:
        """The rows of these keys (sorted, distinct) as far as they are there, held against other writers."""

    async def put_items(self, new: Sequence[ItemRow], known: Sequence[ItemRow]) -> None:
        """Keep rows; ``known`` are those that ``items`` found. Raises Conflict where a new one is there by now."""

    async def groups(self, ids: Sequence[bytes]) -> Mapping[bytes, Group]:
        """The rows of these groups (sorted, distinct) as far as they are there, held against other writers.

        Whoever holds a group sees all that was done to its items and values.
        """

    async def put_groups(self, new: Sequence[GroupRow], known: Sequence[GroupRow], empty: Sequence[bytes]) -> None:
        """Keep groups; ``known`` and ``empty`` (which go) are those that ``groups`` found. Raises Conflict as above."""

    async def extremes(self, measure: Measure, group_ids: Sequence[bytes]) -> Mapping[bytes, Decimal | None]:
        """The least (or greatest) number that an item of each of these groups adds to the measure."""

    async def values(self, wanted: Sequence[Counted]) -> Mapping[Counted, int]:
        """How often each value stands in its group; those that do not are left out."""

    async def put_values(self, counts: Mapping[Counted, int]) -> None:
        """Keep how often values stand in their groups; 0 forgets one."""


class Store(Protocol):
    """A database with the four tables."""

    about: str
    """What it is, for people; known once it is open."""

    async def open(self) -> None:
        """Connect, create the tables where they are missing, and compare the definition.

        Raises ConfigError, SinkUnavailable.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """One durable transaction, committed at the end of the block.

        Raises DataRefused, Conflict, SinkUnavailable.
        """

    async def forget_removed(self, before_ms: int) -> None:
        """Drop the rows of items that were removed before this time. Raises Conflict, SinkUnavailable."""

    async def close(self) -> None:
        """Let go of connections; never raises."""
