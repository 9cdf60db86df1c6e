"""The vocabulary: records as a source hands them over, and the changes that are in them. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from connector.documents import Numbers

ShardId = str
"""The unit of order and of checkpointing, e.g. ``orders.changes/3`` for a Kafka partition."""

Position = int
"""A source's own cursor inside a shard: a Kafka offset, a byte offset, a sequence number (any number of digits)."""


class EventName(enum.StrEnum):
    """What happened to the item."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


class Record(msgspec.Struct, gc=False):
    """One record of a source, undecoded: what a dead letter keeps so that a replay needs nothing else."""

    position: Position
    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int = 0
    """When the source says that the record was written (epoch milliseconds); 0 where it does not say."""
    headers: tuple[tuple[str, bytes | None], ...] = ()
    part: int = 0
    """The record's place among those that have one position (a producer aggregated them): reading goes on behind all of
    them or none, but each is a record of its own, with its own event ids and dead letters."""

    def place(self, shard: ShardId) -> str:
        """Where the record is, in words that no other record has."""
        return f"{shard}:{self.position}.{self.part}" if self.part else f"{shard}:{self.position}"


class RecordBatch(msgspec.Struct):
    """Records of one shard, in order, with the position from which reading goes on after them.

    ``records`` may be empty with a later ``next_position`` (a run of transaction markers, a compacted hole).
    """

    shard: ShardId
    records: list[Record]
    next_position: Position


class ImageFormat(Protocol):
    """How a codec's images are read. One stateless object a format, shared by all of its changes."""

    def matchable(self, image: bytes) -> dict[str, Any]:
        """The image in the shape that filter patterns are written against (DynamoDB: with type tags)."""

    def values(self, image: bytes) -> dict[str, Any]:
        """The image as Python values: str, int, Decimal, bytes, bool, None, list, dict, frozenset. Exact."""

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        """The image as a JSON-ready document: binary as base64, sets as sorted lists, numbers by policy.

        Raises DocumentError (``number_not_exact``) where the policy is ``reject``.
        """

    def envelope(self, record: Record, index: int) -> dict[str, Any]:
        """The whole record (its ``index``-th change) in the shape that filter patterns are written against."""


class Change(msgspec.Struct, gc=False, kw_only=True):
    """One INSERT, MODIFY or REMOVE of an item. The key is decoded at the door, images only when asked for.

    The images' methods decode at each call and keep nothing: decode, use, drop (hundreds of thousands of
    decoded documents kept alive cost more than decoding them again).
    """

    event_name: EventName
    key: str
    """The item's key as canonical JSON text (sorted names): equal keys are equal texts."""
    keys: Mapping[str, Any]
    """The key's attributes as Python values. Shared between changes of one key: never write to it."""
    shard: ShardId
    record: Record
    images: ImageFormat
    index: int = 0
    """The change's place inside its record, where a record carries several."""
    event_id: str = ""
    """The source's own id of the event, or ``{record.place(shard)}:{index}`` where it has none. Stable over replays."""
    timestamp_ms: int = 0
    """When the change happened (epoch milliseconds), as the record says."""
    version: int = 0
    """63-bit, grows with every later change of the same key (connector.delivery.versions). Until it is stamped: 0, or
    where the log is unordered (connector.codecs.protocol), what orders changes of one millisecond, below 2^20."""
    new_image: bytes | None = None
    old_image: bytes | None = None
    identity: bytes | None = None
    """Who made the change, as raw JSON, where the record says so (DynamoDB's ``userIdentity``)."""
    ledger_entry: Any = None
    """Delivery's own mark: the ledger segment that waits for this change."""

    @property
    def position(self) -> Position:
        """The position of the change's record."""
        return self.record.position

    def new_values(self) -> dict[str, Any] | None:
        """The item after the change as Python values, or None where there is no such image."""
        return None if self.new_image is None else self.images.values(self.new_image)

    def old_values(self) -> dict[str, Any] | None:
        """The item before the change as Python values, or None where there is no such image."""
        return None if self.old_image is None else self.images.values(self.old_image)

    def new_document(self, numbers: Numbers) -> dict[str, Any] | None:
        """The item after the change as a JSON-ready document, or None where there is no such image."""
        return None if self.new_image is None else self.images.document(self.new_image, numbers)

    def old_document(self, numbers: Numbers) -> dict[str, Any] | None:
        """The item before the change as a JSON-ready document, or None where there is no such image."""
        return None if self.old_image is None else self.images.document(self.old_image, numbers)

    def as_removal(self) -> Change:
        """The same change, told to a sink as the item's removal: the item no longer belongs there (``where``).

        The new image becomes the old one where there is no old one, so that templates can still find the place.
        """
        return msgspec.structs.replace(
            self,
            event_name=EventName.REMOVE,
            new_image=None,
            old_image=self.old_image if self.old_image is not None else self.new_image,
        )
