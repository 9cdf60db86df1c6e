"""What a codec is: bytes → changes, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from connector.change import Change, Record, ShardId
from connector.errors import DecodeError


class Undecodable(msgspec.Struct, gc=False):
    """A record that is not what its format says. It is dead-lettered whole."""

    record: Record
    error: DecodeError


class Decoded(msgspec.Struct):
    """What a batch of records turned out to hold, in their order."""

    changes: list[Change]
    undecodable: list[Undecodable]
    empty: int = 0
    """Records that rightly carry no change (Debezium's tombstones, schema change events, heartbeats)."""


class Codec(Protocol):
    """Decodes one format. Found by an entry point in the group ``millrace.codecs``; its name is ``format:``.

    Made without arguments. ``decode`` is a plain function of its input but for caches: the same records give the
    same changes, event ids included, at every replay.

    A codec may have an attribute ``ordered`` (True without it): whether the order in which a key's changes are read is
    that in which they happened. False: their own times alone order them (connector.delivery.versions.stamp_by_time),
    and the codec may put into each change's ``version`` what orders those of one millisecond, below 2^20.
    """

    name: ClassVar[str]

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        """Decode records of one shard. Never raises for what is in a record: that is an ``Undecodable``."""
