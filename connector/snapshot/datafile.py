"""One data file of an export: gzipped lines, each an item."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from botocore.exceptions import HTTPClientError
from botocore.exceptions import IncompleteReadError as IncompleteBody

from connector.errors import SourceError
from connector.snapshot.manifests import DataFile
from connector.snapshot.protocol import Item
from connector.snapshot.records import item_with_keys

PAGE_BYTES_MAX: Final = 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""An item has at most 400 kB, which escapes and type tags make longer; old and new image are on one line."""
FILE_BROKE: Final = (EOFError, OSError, zlib.error, HTTPClientError, IncompleteBody)
"""What reading raises when the connection breaks in the middle of a file."""

_ABSENT = msgspec.Raw()


class _FullLine(msgspec.Struct):
    item: msgspec.Raw = msgspec.field(name="Item")


class _ChangedLine(msgspec.Struct):
    keys: msgspec.Raw = msgspec.field(name="Keys")
    new_image: msgspec.Raw = msgspec.field(name="NewImage", default=_ABSENT)


_full = msgspec.json.Decoder(_FullLine).decode
_changed = msgspec.json.Decoder(_ChangedLine).decode


class _Hashed(io.RawIOBase):
    """A body on its way, with the digest of what came of it."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.digest = hashlib.md5(usedforsecurity=False)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._body.read(len(buffer))
        self.digest.update(content)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._body.close()
        super().close()


class DataFileReader:
    """Reads one file from its beginning. Blocking; for one thread at a time."""

    def __init__(self, body: Any, file: DataFile, key_names: Sequence[str], *, full: bool) -> None:
        self.line = 0
        """How many lines were read."""
        self._file = file
        self._key_names = key_names
        self._full = full
        self._hashed = _Hashed(body)
        self._buffered = io.BufferedReader(self._hashed, 256 * 1024)
        self._lines = gzip.GzipFile(fileobj=self._buffered)

    def skip_to(self, line: int) -> None:
        """Read on to a line. Raises SourceError where the file has fewer, and FILE_BROKE."""
        while self.line < line:
            if not self._read_line():
                raise SourceError(f"{self._file.key}: is shorter than it was when it was read before")

    def read(self, items_max: int) -> tuple[list[Item], bool]:
        """Items of the next lines, and whether the file is over. Raises SourceError, FILE_BROKE."""
        items: list[Item] = []
        size = 0
        while len(items) < items_max and size < PAGE_BYTES_MAX:
            line = self._read_line()
            if not line:
                self._check()
                return items, True
            size += len(line)
            items.append(self._item(line))
        return items, False

    def close(self) -> None:
        """Let go of the connection."""
        self._lines.close()
        self._buffered.close()

    def _read_line(self) -> bytes:
        line = self._lines.readline(LINE_BYTES_MAX)
        if len(line) == LINE_BYTES_MAX:
            raise SourceError(f"{self._file.key}: line {self.line + 1} is longer than an item can be")
        self.line += bool(line)
        return line

    def _item(self, line: bytes) -> Item:
        try:
            if self._full:
                return item_with_keys(bytes(_full(line).item), self._key_names)
            changed = _changed(line)
        except msgspec.DecodeError as error:
            raise SourceError(f"{self._file.key}: line {self.line} is not an item: {error}") from error
        if changed.new_image is _ABSENT:
            return Item(bytes(changed.keys), None)
        return item_with_keys(bytes(changed.new_image), self._key_names)

    def _check(self) -> None:
        if self.line != self._file.items:
            raise SourceError(f"{self._file.key}: has {self.line} items, its manifest says {self._file.items}")
        while self._buffered.read(256 * 1024):
            pass  # what gzip left over belongs to the file's digest
        digest = base64.b64encode(self._hashed.digest.digest()).decode()
        if self._file.md5 is not None and digest != self._file.md5:
            raise SourceError(f"{self._file.key}: is damaged (its digest is not the manifest's)")
