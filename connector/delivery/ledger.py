"""The ledger: which positions of a shard are finished, and so what may be saved.

A shard's changes come in segments (one a read). A segment is finished when every route has finished every change of
it that it took; the watermark moves over finished segments from the front only, so it is contiguous. It is coarse on
purpose: counting by segment costs nothing per change, and a replay of a part of a segment leaves no trace.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from connector.change import Position, ShardId
from connector.checkpoints.protocol import Checkpoint
from connector.delivery.counts import Counts


class Segment:
    """A run of records of one shard: what is pending of it, and where reading goes on after it."""

    __slots__ = ("clock", "delivery_bytes", "ledger", "newest_ms", "next_position", "pending")

    def __init__(self, ledger: Ledger, next_position: Position, delivery_bytes: int, newest_ms: int) -> None:
        self.ledger: Final = ledger
        self.next_position: Final = next_position
        self.clock = 0
        """The version clock after the segment's last change."""
        self.delivery_bytes: Final = delivery_bytes
        """The average bytes of a change of this segment, for the bounds in flight."""
        self.newest_ms: Final = newest_ms
        self.pending = 1
        """Changes that some route has not finished, and one more until ``release``."""


class Ledger:
    """The ledger of one shard, from its assignment until it is lost."""

    def __init__(self, shard: ShardId, start: Checkpoint | None, routes: int, now_ms: int) -> None:
        self.shard: Final = shard
        self.watermark: Checkpoint | None = start
        """Everything before it is finished; None before the first segment of a shard without a checkpoint is."""
        self.saved: Checkpoint | None = start
        self.clock = start.clock if start else 0
        """The version clock at the end of what was read."""
        self.read_position: Position | None = start.position if start else None
        self.moved_ms = now_ms
        """When the watermark last moved (or the shard was assigned)."""
        self.done_ms = 0
        """The newest change time below the watermark."""
        self.end: Position | None = None
        """The shard's end in the source when last asked."""
        self.lost = False
        self.timed = True
        """Whether its changes' times say when they happened (a snapshot's items have one that is no change's)."""
        self.counts: Final = [Counts() for _ in range(routes)]
        self._segments: deque[Segment] = deque()

    def open_segment(self, next_position: Position, delivery_bytes: int, newest_ms: int) -> Segment:
        """Take note of a run of records, read just now. Its changes are then stamped with it (``seal``), the routes add
        what they take to its ``pending``, and when every route has had its turn it is let go (``release``): until then
        the watermark stays before it, even if a route fails on the way."""
        self.read_position = next_position
        segment = Segment(self, next_position, delivery_bytes, newest_ms)
        self._segments.append(segment)
        return segment

    def seal(self, segment: Segment, clock: int) -> None:
        """Take note of the version clock after the segment's last change."""
        self.clock = segment.clock = clock

    def release(self, segment: Segment, now_ms: int) -> None:
        """Every route has taken what it wants of the segment: from now on it is finished when they are."""
        segment.pending -= 1
        if not segment.pending:
            self.advance(now_ms)

    def advance(self, now_ms: int) -> bool:
        """Move the watermark over the finished segments at the front; says whether it moved."""
        moved = False
        segments = self._segments
        while segments and segments[0].pending == 0:
            segment = segments.popleft()
            self.watermark = Checkpoint(segment.next_position, segment.clock)
            self.done_ms = max(self.done_ms, segment.newest_ms)
            moved = True
        if moved:
            self.moved_ms = now_ms
        return moved

    @property
    def finished_position(self) -> Position:
        """Everything before it is finished. 0 where nothing is and there was no checkpoint: nothing lies before."""
        return self.watermark.position if self.watermark else 0

    @property
    def idle(self) -> bool:
        """True when all that was read is finished."""
        return not self._segments

    @property
    def unsaved(self) -> Checkpoint | None:
        """The watermark, where it may and should be saved."""
        if self.lost or self.watermark is None or self.watermark == self.saved:
            return None
        return self.watermark
