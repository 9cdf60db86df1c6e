"""What a snapshot is made of: a source that can be scanned, a scanner that gives pages of items, and its places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from connector.change import ShardId

BEGIN = ""
"""The place before a segment's first item."""

_SHARD = re.compile(r"snapshot/[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}/[0-9]+")


def shard_of(snapshot: str, segment: int) -> ShardId:
    """The ledger shard of one segment."""
    return f"snapshot/{snapshot}/{segment}"


def is_snapshot_shard(shard: ShardId) -> bool:
    """Whether a shard's changes are items of a snapshot. A table may be named ``snapshot``; ids tell them apart."""
    return shard.startswith("snapshot/") and _SHARD.fullmatch(shard) is not None


def segment_of(shard: ShardId) -> int:
    """The number of the segment that a snapshot's shard is."""
    return int(shard.rpartition("/")[2])


class Item(msgspec.Struct, gc=False):
    """One item as typed JSON. ``image`` None: the item is known to be gone (an incremental export says so)."""

    keys: bytes
    image: bytes | None


class ItemPage(msgspec.Struct):
    """Some items of one segment, and where the next page begins."""

    items: Sequence[Item]
    next_place: str | None
    """None: the segment has no more."""
    capacity_units: float = 0.0
    """What reading the page cost, as the service says."""


class ScanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before the first page."""

    segments: int
    items_estimate: int | None = None
    """About how many items there are (DynamoDB counts them every six hours)."""
    server_ms: int | None = None
    """The time of the state that is read, or an earlier one, by the service's own clock (epoch milliseconds)."""
    region: str = ""


class Scanner(Protocol):
    """Gives the items of a table, segment by segment. Called by several tasks at once, one a segment."""

    whole_state_at_once: bool
    """True where all items are of one moment in the past (an export): what was deleted since then would come back if
    the stream were delivered before all of it is, so the stream is held until the snapshot is finished."""

    async def open(self, segments: int | None) -> ScanFacts:
        """Connect. ``segments``: how many a snapshot that is gone on with has; places hold for that number only.

        Raises ConfigError for what only a person can mend, StreamApiError for what may pass."""

    def after(self, segment: int) -> int:
        """How many segments must be finished before this one may begin: 0 where their order does not matter."""

    def version_ms(self, segment: int) -> int | None:
        """The time that the segment's items have, where it is not the snapshot's (a later, incremental export)."""

    async def page(self, segment: int, place: str) -> ItemPage:
        """The page of a segment that begins at a place. Raises StreamApiError, and SourceError for what is broken."""

    async def close(self) -> None:
        """Let go of connections."""


class TableScanner(Scanner, Protocol):
    """A scanner of the table itself."""

    name: str
    """The table's."""

    async def key_names(self) -> Sequence[str]:
        """The names of the key's attributes, sorted. Raises as ``open`` does."""


class Scannable(Protocol):
    """A source whose table can be read whole. Sources that cannot have none of this."""

    def pin_exactly(self) -> None:
        """Before ``open``: positions that are taken for the first time must lose nothing that comes after them, also
        where ``start: latest`` would otherwise be taken as "about now"."""

    @property
    def pinned(self) -> bool:
        """Whether the position of every shard that there is was taken and saved. What is written from then on comes
        with the stream: shards that are found later are read whole."""

    def table_scanner(self, *, segments: int, page_items: int) -> TableScanner:
        """A scanner of the table, not open yet."""

    @property
    def table_name(self) -> str:
        """The table."""
