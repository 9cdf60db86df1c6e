"""Dead letters as JSON, one document a letter or mark: what every destination stores, each in its own way.

The original bytes are base64, and only that: one truth. ``millrace dlq show`` makes them readable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import LetterState, StoredLetter


class LetterLine(msgspec.Struct, frozen=True, tag="letter"):
    """A letter was written."""

    letter: DeadLetter


class MarkLine(msgspec.Struct, frozen=True, tag="mark"):
    """Something became of letters of one pipeline."""

    pipeline: str
    ids: tuple[str, ...]
    state: LetterState
    outcome: str = ""


Line = LetterLine | MarkLine


def encode(value: Any) -> bytes:
    """JSON without a line end. Lone surrogates (in keys, in names of files) are written as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def decode(text: bytes, what: Any) -> Any:
    """The opposite of ``encode``. Raises msgspec.DecodeError for what is not such a document."""
    try:
        return msgspec.json.decode(text, type=what)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError):
        try:
            return msgspec.convert(json.loads(text), what)  # reads lone surrogates, too
        except (ValueError, RecursionError) as error:
            raise msgspec.DecodeError(str(error)) from error


def decode_line(text: bytes) -> Line:
    """A letter or a mark. Raises msgspec.DecodeError for what is neither."""
    line: Line = decode(text, Line)
    return line


class Register:
    """Reads a destination that can only append: what became of each letter, and which of its copies counts.

    First ``note`` everything that is stored, then ask for the letters of it, in the same order.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._marks: dict[str, tuple[LetterState, str]] = {}
        self._given: set[str] = set()

    def note(self, line: Line) -> None:
        """Take note of a mark; the last one counts."""
        if isinstance(line, MarkLine) and line.pipeline == self._pipeline:
            for letter_id in line.ids:
                self._marks[letter_id] = (line.state, line.outcome)

    def letters(self, lines: Iterable[Line], *, include_done: bool) -> Sequence[StoredLetter]:
        """The letters among these lines: each id once, with its state."""
        found = []
        for line in lines:
            if isinstance(line, MarkLine) or line.letter.pipeline != self._pipeline:
                continue
            letter = line.letter
            if letter.id in self._given:
                continue
            self._given.add(letter.id)
            state, outcome = self._marks.get(letter.id, (LetterState.DEAD, ""))
            if include_done or state is LetterState.DEAD:
                found.append(StoredLetter(letter, state, outcome))
        return found
