"""Standard input as one shard that can be read once."""

from __future__ import annotations

import os
import select
import sys

from connector.change import Position, RecordBatch, ShardId
from connector.config.units import MIB
from connector.sources.lines import LineSplitter

BLOCK_BYTES = MIB


class StandardInput:
    """Lines of standard input, from wherever it stands. Its methods block: they are called in a thread."""

    def __init__(self, shard: ShardId, line_bytes_max: int) -> None:
        self.shard = shard
        self.ended = False
        self._lines = LineSplitter(0, line_bytes_max)
        self._handed_position = 0
        self._descriptor = sys.stdin.fileno()

    @property
    def seen_end(self) -> Position:
        """The end of what has come in so far; nobody knows how much will."""
        return self._lines.fed_position if self.ended else self._lines.fed_line_position

    def read(self, records_max: int, wait_s: float) -> RecordBatch | None:
        """The next lines; None after ``wait_s`` without any, and at the end (``ended``)."""
        if not self._lines.pending and not self.ended and select.select([self._descriptor], [], [], wait_s)[0]:
            block = os.read(self._descriptor, BLOCK_BYTES)
            if block:
                self._lines.feed(block)
            else:
                self._lines.finish()
                self.ended = True
        records = self._lines.take(records_max)
        if self._lines.next_position == self._handed_position:
            return None
        self._handed_position = self._lines.next_position
        return RecordBatch(self.shard, records, self._handed_position)
