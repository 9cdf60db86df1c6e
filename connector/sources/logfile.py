"""One file of a file source: opened, read on from a position, watched for being cut or replaced."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import BinaryIO, cast

from connector.change import Position, Record, RecordBatch, ShardId
from connector.config.units import MIB
from connector.errors import SourceError
from connector.sources.lines import LineSplitter

BLOCK_BYTES = MIB


class Replaced(Exception):  # control flow between a file and its source
    """The file at the path is not the one that was being read: shorter than what was read, or a new one."""

    def __init__(self, file: LogFile, message: str) -> None:
        super().__init__(message)
        self.file = file


class LogFile:
    """One file, read from a line's start. All methods block: they are called in a thread."""

    def __init__(self, path: str, shard: ShardId, position: Position, *, line_bytes_max: int, follow: bool) -> None:
        self.path = path
        self.shard = shard
        self.compressed = path.endswith(".gz")
        self.follow = follow and not self.compressed
        self.done = False
        """Nothing will ever be read of it again."""
        self._ended = False
        self._lines = LineSplitter(position, line_bytes_max)
        self._handed_position = position
        self._file: BinaryIO | None = None
        self._inode = 0
        self._end: Position | None = None
        self._replaced = ""
        """Why the path's file is not this one any more, once that is known; what is left of this one is read first."""

    def read(self, records_max: int) -> RecordBatch | None:
        """The next lines; None at the present end (``done`` is then set where the file is not followed).

        Raises Replaced, or SourceError where the file cannot be read.
        """
        records: list[Record] = []
        while len(records) < records_max:
            records += self._lines.take(records_max - len(records))
            if len(records) == records_max or self._ended or not self._feed():
                break
        if self._lines.next_position == self._handed_position:
            if self._replaced and self._ended:
                raise Replaced(self, self._replaced)
            self.done = self._ended
            return None
        self._handed_position = self._lines.next_position
        return RecordBatch(self.shard, records, self._handed_position)

    def present_end(self) -> Position:
        """The position that is reached when every whole line has been read (without ``follow``: every byte)."""
        if self._ended:
            return self._lines.fed_position
        if self.compressed:
            return self._uncompressed_end()
        size = _size(self.path)
        return last_line_end(self.path, size) if self.follow else size

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _feed(self) -> bool:
        """Feed the next block to the lines; False when there is none at present."""
        try:
            file = self._opened()
            block = file.read(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self.path} cannot be read on from byte {self._lines.fed_position}: {error}") from error
        if block:
            try:
                self._lines.feed(block)
            except SourceError as error:
                raise SourceError(f"{self.path}: {error}") from error
            return True
        if self.follow and not self._replaced:
            # Lines may have been added to the old file until it was replaced: it is read once more.
            self._replaced = self._look_for_another(file)
            return bool(self._replaced)
        self._lines.finish()
        self._ended = True
        self.close()
        return True

    def _opened(self) -> BinaryIO:
        if self._file is not None:
            return self._file
        position = self._lines.fed_position
        file = cast(BinaryIO, gzip.open(self.path, "rb")) if self.compressed else open(self.path, "rb", buffering=0)  # noqa: SIM115
        try:
            if not self.compressed:
                self._inode = os.fstat(file.fileno()).st_ino
            self._seek_line_start(file, position)
        except BaseException:
            file.close()
            raise
        self._file = file
        return file

    def _seek_line_start(self, file: BinaryIO, position: Position) -> None:
        """Go to ``position``, which is where a line starts or ends: otherwise this is another file than it was."""
        if position == 0:
            return
        if file.seek(position - 1) != position - 1:
            raise Replaced(self, f"{self.path} has fewer bytes than the {position} that had been read of it")
        around = file.read(2)
        if not around:
            raise Replaced(self, f"{self.path} has fewer bytes than the {position} that had been read of it")
        if around[:1] != b"\n" and around[1:] not in (b"", b"\n", b"\r"):
            raise Replaced(self, f"no line of {self.path} starts at the saved position {position}")
        file.seek(position)

    def _look_for_another(self, file: BinaryIO) -> str:
        """At the end of what is open: why the path is not this file any more, or an empty text.

        Raises Replaced where this file itself was cut: what was cut away cannot be read.
        """
        read = self._lines.fed_position
        if os.fstat(file.fileno()).st_size < read:
            raise Replaced(self, f"{self.path} was cut to less than the {read} bytes that had been read of it")
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            return ""
        return "" if inode == self._inode else f"{self.path} is another file now than the one that was being read"

    def _uncompressed_end(self) -> Position:
        """Counted once by reading it through: gzip does not say how much is in a file of several members."""
        if self._end is None:
            try:
                with gzip.open(self.path, "rb") as file:
                    self._end = sum(len(block) for block in iter(lambda: file.read(BLOCK_BYTES), b""))
            except (OSError, EOFError, zlib.error) as error:
                raise SourceError(f"{self.path} cannot be read: {error}") from error
        return self._end


def last_line_end(path: str, size: int) -> Position:
    """The offset behind the last line end within the first ``size`` bytes: 0 where there is none."""
    with open(path, "rb") as file:
        end = size
        while end > 0:
            start = max(0, end - 64 * 1024)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
