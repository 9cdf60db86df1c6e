"""Dead letters in a table of a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ClassVar, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from connector.deadletter.envelope import DeadLetter
from connector.deadletter.lines import LetterLine, decode_line, encode
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.embedded import EmbeddedDatabase
from connector.errors import ConfigError, DeadLetterError

T = TypeVar("T")

LETTERS_AT_ONCE = 500

# The letter is stored once, as JSON; what people want to select by is computed from it.
_TABLE = """
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'replayed', 'purged')),
    outcome TEXT NOT NULL DEFAULT '',
    letter TEXT NOT NULL,
    route TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.route')) VIRTUAL,
    shard TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.shard')) VIRTUAL,
    item_key TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.key')) VIRTUAL,
    kind TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.kind')) VIRTUAL,
    code TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.code')) VIRTUAL,
    message TEXT GENERATED ALWAYS AS (json_extract(letter, '$.letter.message')) VIRTUAL,
    UNIQUE (pipeline, id)
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS dead_letters_by_state ON dead_letters (pipeline, state, number)"
_APPEND = "INSERT INTO dead_letters (id, pipeline, letter) VALUES (?, ?, ?) ON CONFLICT (pipeline, id) DO NOTHING"
_MARK = "UPDATE dead_letters SET state = ?, outcome = ? WHERE pipeline = ? AND id = ?"
_READ = """
SELECT number, letter, state, outcome FROM dead_letters
WHERE pipeline = ? AND number > ? AND (state = 'dead' OR ?) ORDER BY number LIMIT ?
"""


class SQLiteDeadLettersConfig(BaseModel):
    """A table ``dead_letters``, one row a letter."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    path: str = Field(min_length=1, description="the SQLite file; pipelines, also of several processes, may share it")


class SQLiteDeadLetters:
    """One transaction an append; a letter that is there already stays as it is."""

    config_model: ClassVar[type[BaseModel]] = SQLiteDeadLettersConfig

    def __init__(self, config: SQLiteDeadLettersConfig, pipeline: str) -> None:
        self._pipeline = pipeline
        self._database = EmbeddedDatabase(config.path, "dead-letter-sqlite")

    async def open(self) -> None:
        """Open the file, with its table. Raises ConfigError."""
        try:
            await self._database.run(lambda: self._database.connect(_TABLE, _INDEX))
        except sqlite3.Error as error:
            raise ConfigError(
                f"dead letters cannot be kept in {self._database.path}: {error}", path=("path",)
            ) from error

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Insert letters; they are on the disk when it returns. Raises DeadLetterError."""
        rows = [(letter.id, self._pipeline, encode(LetterLine(letter)).decode()) for letter in letters]
        await self._run(lambda: self._write(_APPEND, rows))

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Note what became of letters. Raises DeadLetterError."""
        rows = [(str(state), outcome, self._pipeline, letter_id) for letter_id in ids]
        await self._run(lambda: self._write(_MARK, rows))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline. Raises DeadLetterError."""
        number = 0
        while rows := await self._run(lambda after=number: self._read(after, include_done)):  # type: ignore[misc]
            for number, text, state, outcome in rows:
                yield StoredLetter(self._letter(number, text), LetterState(state), outcome)

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    def _write(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        with self._database.transaction() as connection:
            connection.executemany(statement, rows)

    def _read(self, after: int, include_done: bool) -> list[tuple[int, str, str, str]]:
        values = (self._pipeline, after, include_done, LETTERS_AT_ONCE)
        return self._database.connection.execute(_READ, values).fetchall()

    def _letter(self, number: int, text: str) -> DeadLetter:
        try:
            line = decode_line(text.encode())
        except msgspec.DecodeError as error:
            raise DeadLetterError(f"dead letter {number} in {self._database.path} is damaged: {error}") from error
        assert isinstance(line, LetterLine), "the table holds letters only"
        return line.letter

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await self._database.run(function)
        except sqlite3.Error as error:
            raise DeadLetterError(f"dead letters in {self._database.path}: {error}") from error
