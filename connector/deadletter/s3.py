"""Dead letters as objects of an S3 bucket, one a letter: Lambda's failure record with its payload, and our envelope.

Letters lie under ``<prefix><pipeline>/letters/<year>/<month>/<day>/`` with the time in their names, so that listing
gives them in the order in which they were written; what became of them is told by objects under ``…/marks/``. Nothing
that was written is ever changed: lifecycle rules and object locks may be set as for any log.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, ClassVar
from uuid import uuid4

import msgspec
from pydantic import BaseModel, Field, model_validator

from connector.deadletter.aws import AwsClient, AwsOptions
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.failure_record import failure_record, letter_of
from connector.deadletter.lines import MarkLine, decode_line, encode
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import DeadLetterError

CALLS_AT_ONCE = 16
LETTERS_AT_ONCE = 64
"""How many letters are read ahead of whoever asks for them."""
KEYS_AT_ONCE = 1000


class S3DeadLettersConfig(AwsOptions):
    """A bucket, one object a letter: Lambda's failure record with its payload, plus our envelope."""

    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="the bucket, which must be there already"
    )
    prefix: str = Field(
        default="millrace/",
        max_length=500,
        pattern=r"^([A-Za-z0-9!_.*'()-]+/)*$",
        description="the first part of the objects' names, which ends in a slash; pipelines may share it",
    )

    @model_validator(mode="after")
    def _has_region(self) -> S3DeadLettersConfig:
        if self.region is None:
            raise ValueError("region: is needed; it is never guessed from the environment")
        return self


class S3DeadLetters:
    """Puts, and lists what was put. S3 reads what it has acknowledged at once and everywhere."""

    config_model: ClassVar[type[BaseModel]] = S3DeadLettersConfig

    def __init__(self, config: S3DeadLettersConfig, pipeline: str) -> None:
        self._bucket = config.bucket
        self._pipeline = pipeline
        self._letters = f"{config.prefix}{pipeline}/letters/"
        self._marks = f"{config.prefix}{pipeline}/marks/"
        self._last_us = 0
        self._client = AwsClient(
            "s3", config, config.region, f"the S3 bucket {config.bucket}", calls_at_once=CALLS_AT_ONCE
        )

    async def open(self) -> None:
        """Look for the bucket. Raises ConfigError and DeadLetterError."""
        await self._client.open(
            lambda client: client.list_objects_v2(Bucket=self._bucket, Prefix=self._letters, MaxKeys=1)
        )

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Put letters; S3 has all of them when it returns. Raises DeadLetterError."""
        put = [(self._name(self._letters, letter.id), letter) for letter in letters]
        await self._client.each(
            lambda client, item: self._put(client, item[0], failure_record(item[1], with_payload=True)), put
        )

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        """Put a mark. Raises DeadLetterError."""
        if ids:
            name = self._name(self._marks, uuid4().hex)
            text = encode(MarkLine(self._pipeline, tuple(ids), state, outcome))
            await self._client.call(lambda client: self._put(client, name, text))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        """The letters of the pipeline. Raises DeadLetterError."""
        marks = await self._read_marks()
        given: set[str] = set()
        async for page in self._names(self._letters):
            wanted = []
            for name in page:
                letter_id = _id_in(name)
                state, _ = marks.get(letter_id, (LetterState.DEAD, ""))
                if letter_id not in given and (include_done or state is LetterState.DEAD):
                    wanted.append(name)
                given.add(letter_id)
            for names in _parts(wanted, LETTERS_AT_ONCE):
                for text in await self._client.each(self._get, names):
                    letter = letter_of(text)
                    yield StoredLetter(letter, *marks.get(letter.id, (LetterState.DEAD, "")))

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    def _name(self, folder: str, id_: str) -> str:
        """The next name in the order of time, by this process's clock; never the same twice."""
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
        seconds, microseconds = divmod(self._last_us, 1_000_000)
        moment = datetime.fromtimestamp(seconds, UTC)
        return f"{folder}{moment:%Y/%m/%d/%Y%m%dT%H%M%S}.{microseconds:06}Z-{id_}.json"

    def _put(self, client: Any, name: str, text: bytes) -> None:
        client.put_object(Bucket=self._bucket, Key=name, Body=text, ContentType="application/json")

    def _get(self, client: Any, name: str) -> bytes:
        content: bytes = client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        return content

    async def _names(self, folder: str) -> AsyncIterator[list[str]]:
        """The names of what is in a folder, in their order, page by page."""
        after = ""
        while True:
            place = {"Bucket": self._bucket, "Prefix": folder, "StartAfter": after}
            answer = await self._client.call(partial(_list, place=place))
            names = [item["Key"] for item in answer.get("Contents", ())]
            yield [name for name in names if name.endswith(".json")]
            if not answer.get("IsTruncated") or not names:
                return
            after = names[-1]

    async def _read_marks(self) -> dict[str, tuple[LetterState, str]]:
        marks: dict[str, tuple[LetterState, str]] = {}
        async for page in self._names(self._marks):
            for text in await self._client.each(self._get, page):
                mark = _mark_of(text)
                marks.update(dict.fromkeys(mark.ids, (mark.state, mark.outcome)))
        return marks


def _list(client: Any, *, place: Mapping[str, str]) -> Any:
    return client.list_objects_v2(**place, MaxKeys=KEYS_AT_ONCE)


def _mark_of(text: bytes) -> MarkLine:
    try:
        line = decode_line(text)
    except msgspec.DecodeError as error:
        raise DeadLetterError(f"an object under marks/ is damaged: {error}") from error
    if not isinstance(line, MarkLine):
        raise DeadLetterError("an object under marks/ is no mark")
    return line


def _id_in(name: str) -> str:
    return name.rpartition("-")[2].removesuffix(".json")


def _parts(names: Sequence[str], size: int) -> Iterator[list[str]]:
    remaining = iter(names)
    while part := list(islice(remaining, size)):
        yield part
