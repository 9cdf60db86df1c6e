"""Blocks of bytes → lines with their byte offsets. No I/O: whoever reads the blocks is somebody else."""

from __future__ import annotations

from connector.change import Position, Record
from connector.errors import SourceError

CUT_BYTES_KEPT = 4096
"""What is kept of a line that is longer than the limit: enough to see what it was."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineSplitter:
    """Makes a record of each line; a line that has no end yet waits for it.

    Empty lines make no record, but positions move past them. A line of more than ``line_bytes_max`` bytes is never
    held whole: its record has the line's first bytes and then, behind a NUL that no JSON may hold, how long it was.
    So it can be decoded by nobody, is dead-lettered, and is found again in the file by its position.
    """

    def __init__(self, position: Position, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._start = position
        self._first_line = position == 0
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0
        self._records: list[Record] = []
        self._taken = 0

    @property
    def next_position(self) -> Position:
        """Where the first line begins that has not been taken."""
        return self._records[self._taken].position if self.pending else self._start

    @property
    def fed_position(self) -> Position:
        """Where the next block that is fed begins: the end of all bytes so far."""
        return self._start + self._unfinished_bytes

    @property
    def fed_line_position(self) -> Position:
        """Where the line begins that has no end yet."""
        return self._start

    @property
    def pending(self) -> int:
        """How many records wait to be taken."""
        return len(self._records) - self._taken

    def feed(self, block: bytes) -> None:
        """Split one block, which follows on the last one."""
        head, newline, tail = block.partition(b"\n")
        self._hold(head)
        if not newline:
            return
        self._drop_taken()
        self._end_line(1)
        lines = tail.split(b"\n")
        rest = lines.pop()
        start = self._start
        records = self._records
        for line in lines:
            if len(line) > self._line_bytes_max:
                records.append(Record(start, _cut(line, len(line))))
            elif line and not line.isspace():
                if self._first_line:
                    self._look_at_first(line)
                records.append(Record(start, line))
            start += len(line) + 1
        self._start = start
        self._hold(rest)

    def finish(self) -> None:
        """There is no more: a last line without its line end is a line."""
        if self._unfinished_bytes:
            self._end_line(0)

    def take(self, records_max: int) -> list[Record]:
        """The next records, at most ``records_max``."""
        taken = self._records[self._taken : self._taken + records_max]
        self._taken += len(taken)
        return taken

    def _drop_taken(self) -> None:
        del self._records[: self._taken]
        self._taken = 0

    def _hold(self, part: bytes) -> None:
        if not part:
            return
        self._unfinished_bytes += len(part)
        if self._unfinished_bytes <= self._line_bytes_max:
            self._unfinished.append(part)
        elif len(self._unfinished) != 1 or len(self._unfinished[0]) > CUT_BYTES_KEPT:
            self._unfinished = [b"".join([*self._unfinished, part])[:CUT_BYTES_KEPT]]

    def _end_line(self, newline_bytes: int) -> None:
        line = b"".join(self._unfinished)
        length = self._unfinished_bytes
        if length > self._line_bytes_max:
            self._records.append(Record(self._start, _cut(line, length)))
        elif line and not line.isspace():
            if self._first_line:
                line = line.removeprefix(_BYTE_ORDER_MARK) if self._start == 0 else line
                self._look_at_first(line)
            self._records.append(Record(self._start, line))
        self._start += length + newline_bytes
        self._unfinished = []
        self._unfinished_bytes = 0

    def _look_at_first(self, line: bytes) -> None:
        self._first_line = False
        if line.strip() in (b"{", b"["):
            raise SourceError(
                "the first line is a lone bracket, so this is a JSON document over several lines; a file source reads "
                "JSON Lines, one document a line (`jq -c . FILE` makes them)"
            )


def _cut(line: bytes, length: int) -> bytes:
    return line[:CUT_BYTES_KEPT] + b"\x00 cut here: the line has %d bytes, more than line_bytes_max" % length
