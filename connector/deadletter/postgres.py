"""Dead letters in a table of PostgreSQL."""

# The table's name, which the configuration holds to a pattern, and constants are all that statements are made of.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import psycopg
from psycopg.pq import TransactionStatus
from pydantic import BaseModel, ConfigDict, Field, field_validator

from connector.config.units import Duration, Secret
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.lines import LetterLine, decode_line, encode
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import ConfigError, DeadLetterError
from connector.postgres import TABLE_NAME, Connection, connect, is_for_a_person, readable_url, said, settings

LETTERS_AT_ONCE = 500
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('millrace.dead_letters.schema'))"
_COLUMNS = "route, shard, item_key, kind, code, message, last_failed"
"""What people select by. The letter itself is text: JSON types refuse some of what keys and messages may hold."""


def schema(table: str) -> tuple[str, ...]:
    """The statements that make the table."""
    index = table.rpartition(".")[2]
    return (
        f"CREATE TABLE {table} (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pipeline text NOT NULL, "
        "id text NOT NULL, state text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'replayed', 'purged')), "
        "outcome text NOT NULL DEFAULT '', route text NOT NULL, shard text NOT NULL, item_key text, "
        "kind text NOT NULL, code text NOT NULL, message text NOT NULL, last_failed timestamptz NOT NULL, "
        "letter text NOT NULL, UNIQUE (pipeline, id))",
        f"CREATE INDEX {index}_by_state ON {table} (pipeline, state, number)",
    )


class PostgresDeadLettersConfig(BaseModel):
    """A table in PostgreSQL, one row a letter."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Secret = Field(description="postgresql://user:password@host/database")
    table: str = Field(
        default="millrace_dead_letters",
        pattern=TABLE_NAME,
        description="the table's name, which may begin with a schema's; made where it is missing; pipelines may share "
        "it",
    )
    timeout: Duration = Field(default=10.0, ge=1, le=300, description="how long connecting and one statement may take")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: Secret) -> Secret:
        return readable_url(url)


class PostgresDeadLetters:
    """One transaction an append; a letter that is there already stays as it is. One session, renewed when it fails."""

    config_model: ClassVar[type[BaseModel]] = PostgresDeadLettersConfig

    def __init__(self, config: PostgresDeadLettersConfig, pipeline: str) -> None:
        self._conninfo = settings(config.url.get_secret_value(), config.timeout)
        self._timeout_s = config.timeout
        self._table = config.table
        self._pipeline = pipeline
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Connect; make the table if it is missing. Raises ConfigError for what only a person can mend."""
        try:
            async with self._session() as connection, connection.transaction():
                await connection.execute(_LOCK)
                found = await (await connection.execute("SELECT to_regclass(%s)::text", (self._table,))).fetchone()
                if found is None or found[0] is None:
                    for statement in schema(self._table):
                        await connection.execute(statement)
                await connection.execute(f"SELECT {_COLUMNS}, pipeline, id, state, outcome FROM {self._table} LIMIT 0")
        except DeadLetterError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.Error) and is_for_a_person(cause):
                raise ConfigError(f"dead letters cannot be kept in PostgreSQL: {said(cause)}", path=("url",)) from error
            raise

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Insert letters; they are on the disk when it returns. Raises DeadLetterError."""
        columns = f"pipeline, id, letter, {_COLUMNS}"
        places = ", ".join(["%s"] * 10)
        statement = f"INSERT INTO {self._table} ({columns}) VALUES ({places}) ON CONFLICT (pipeline, id) DO NOTHING"
        await self._write(statement, [self._row(letter) for letter in letters])

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Note what became of letters. Raises DeadLetterError."""
        statement = f"UPDATE {self._table} SET state = %s, outcome = %s WHERE pipeline = %s AND id = ANY(%s)"
        await self._write(statement, [(str(state), outcome, self._pipeline, list(ids))] if ids else [])

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline. Raises DeadLetterError."""
        number = 0
        statement = (
            f"SELECT number, letter, state, outcome FROM {self._table} WHERE pipeline = %s AND number > %s "
            f"AND (state = 'dead' OR %s) ORDER BY number LIMIT {LETTERS_AT_ONCE}"
        )
        while True:
            async with self._session() as connection:
                cursor = await connection.execute(statement, (self._pipeline, number, include_done))
                rows = await cursor.fetchall()
            if not rows:
                return
            for number, text, state, outcome in rows:
                yield StoredLetter(self._letter(number, text), LetterState(state), outcome)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._let_go()

    def _row(self, letter: DeadLetter) -> tuple[Any, ...]:
        return (
            self._pipeline,
            letter.id,
            encode(LetterLine(letter)).decode(),
            _storable(letter.route),
            _storable(letter.shard),
            None if letter.key is None else _storable(letter.key),
            str(letter.kind),
            _storable(letter.code),
            _storable(letter.message),
            datetime.fromtimestamp(letter.last_failed_ms / 1000, UTC),
        )

    def _letter(self, number: int, text: str) -> DeadLetter:
        try:
            line = decode_line(text.encode())
        except msgspec.DecodeError as error:
            raise DeadLetterError(f"dead letter {number} in the table {self._table} is damaged: {error}") from error
        assert isinstance(line, LetterLine), "the table holds letters only"
        return line.letter

    async def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            async with self._session() as connection, connection.transaction(), connection.cursor() as cursor:
                await cursor.executemany(statement, rows)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        try:
            async with self._one_at_a_time, asyncio.timeout(self._timeout_s):
                if self._connection is None:
                    self._connection = await connect(self._conninfo)
                try:
                    yield self._connection
                except BaseException:
                    # One that was cut off, or left in the middle of something, is not used again.
                    if self._connection.info.transaction_status is not TransactionStatus.IDLE:
                        await self._let_go()
                    raise
        except TimeoutError as error:
            raise DeadLetterError(f"PostgreSQL did not answer within {self._timeout_s:g} s") from error
        except psycopg.Error as error:
            raise DeadLetterError(f"dead letters in PostgreSQL: {said(error)}") from error

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


def _storable(text: str) -> str:
    """For people to select by: without NUL, which PostgreSQL's text cannot hold, and without lone surrogates."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
