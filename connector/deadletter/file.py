"""Dead letters in a JSON Lines file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import ClassVar

import msgspec
import structlog
from pydantic import BaseModel, ConfigDict, Field

from connector.deadletter.envelope import DeadLetter
from connector.deadletter.lines import LetterLine, Line, MarkLine, Register, decode_line, encode
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import ConfigError, DeadLetterError
from connector.onethread import OneThread

log = structlog.get_logger(__name__)

LETTERS_AT_ONCE = 500


class FileDeadLettersConfig(BaseModel):
    """One JSON document a line, for letters and for what became of them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    path: str = Field(min_length=1, description="the file; pipelines, also of several processes, may share it")


class FileDeadLetters:
    """Appends, and syncs the disk before it returns. Nothing that was written is ever changed.

    Writers take turns by a lock on the file. A line that was cut off by a crash or a full disk was never
    acknowledged: the next writer ends it, and readers pass over it with a warning.
    """

    config_model: ClassVar[type[BaseModel]] = FileDeadLettersConfig

    def __init__(self, config: FileDeadLettersConfig, pipeline: str) -> None:
        self._path = config.path
        self._pipeline = pipeline
        self._file: int | None = None
        self._thread = OneThread("dead-letter-file")

    async def open(self) -> None:
        """Open the file, made where it is missing. Raises ConfigError."""
        await self._thread.run(self._open)

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Append letters; they are on the disk when it returns. Raises DeadLetterError."""
        await self._write([LetterLine(letter) for letter in letters])

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Append a mark. Raises DeadLetterError."""
        await self._write([MarkLine(self._pipeline, tuple(ids), state, outcome)])

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline that are in the file when this is called. Raises DeadLetterError."""
        end = await self._thread.run(self._whole_lines)
        register = Register(self._pipeline)
        await self._thread.run(lambda: self._note_all(register, end))
        lines = self._lines(end, warn=False)
        while chunk := await self._thread.run(lambda: self._chunk(lines)):
            for stored in register.letters(chunk, include_done=include_done):
                yield stored

    async def close(self) -> None:
        """Close the file."""
        await self._thread.run(self._close)
        self._thread.stop()

    def _open(self) -> None:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            folder = os.open(os.path.dirname(os.path.abspath(self._path)), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the file's name too survives a power cut
            finally:
                os.close(folder)
        except OSError as error:
            self._close()
            raise ConfigError(f"dead letters cannot be kept in {self._path}: {error}", path=("path",)) from error

    async def _write(self, lines: Sequence[Line]) -> None:
        text = b"".join(encode(line) + b"\n" for line in lines)
        await self._thread.run(lambda: self._append(text))

    def _append(self, text: bytes) -> None:
        file = self._opened()
        try:
            with _locked(file):
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    text = b"\n" + text
                while text:
                    text = text[os.write(file, text) :]
                os.fsync(file)
        except OSError as error:
            raise DeadLetterError(f"dead letters cannot be written to {self._path}: {error}") from error

    def _whole_lines(self) -> int:
        """The size of the file at a moment when nobody is writing."""
        with _locked(self._opened(), fcntl.LOCK_SH):
            return os.fstat(self._opened()).st_size

    def _note_all(self, register: Register, end: int) -> None:
        for line in self._lines(end, warn=True):
            register.note(line)

    def _chunk(self, lines: Iterator[Line]) -> list[Line]:
        return list(islice(lines, LETTERS_AT_ONCE))

    def _lines(self, end: int, *, warn: bool) -> Iterator[Line]:
        """The lines before ``end``. Used in the thread only."""
        try:
            with open(self._path, "rb") as file:
                start = 0
                while start < end and (text := file.readline()):
                    try:
                        yield decode_line(text)
                    except msgspec.DecodeError as error:
                        if warn and not text.isspace():
                            log.warning("a line is no dead letter", file=self._path, byte=start, reason=str(error))
                    start += len(text)
        except OSError as error:
            raise DeadLetterError(f"dead letters cannot be read from {self._path}: {error}") from error

    def _opened(self) -> int:
        assert self._file is not None, "open() comes first"
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextlib.contextmanager
def _locked(file: int, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
