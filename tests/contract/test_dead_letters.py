"""What every dead-letter destination promises, held against each of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connector.change import Record
from connector.deadletter.envelope import ErrorKind
from connector.deadletter.fallback import FallbackDeadLetters, FallbackDeadLettersConfig
from connector.deadletter.file import FileDeadLetters, FileDeadLettersConfig
from connector.deadletter.kafka import KafkaDeadLetters, KafkaDeadLettersConfig
from connector.deadletter.postgres import PostgresDeadLetters, PostgresDeadLettersConfig
from connector.deadletter.protocol import DeadLetters, LetterState, StoredLetter
from connector.deadletter.s3 import S3DeadLetters, S3DeadLettersConfig
from connector.deadletter.sqlite import SQLiteDeadLetters, SQLiteDeadLettersConfig
from tests.contract.moto_places import a_bucket, in_moto
from tests.coroutines import asynchronous
from tests.servers.moto import MotoServer
from tests.unit.deadletter.letters import letter, positions, stored

MakeDestination = Callable[[str], DeadLetters]


SERVERS = ("kafka", "postgres", "s3", "fallback")


@pytest.fixture(params=["file", "sqlite", *(pytest.param(name, marks=pytest.mark.servers) for name in SERVERS)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeDestination:
    """Makes destinations of pipelines that share one place, which is empty at first."""
    if request.param == "file":
        return lambda pipeline: FileDeadLetters(FileDeadLettersConfig(path=str(tmp_path / "dead.jsonl")), pipeline)
    if request.param == "sqlite":
        return lambda pipeline: SQLiteDeadLetters(SQLiteDeadLettersConfig(path=str(tmp_path / "dead.db")), pipeline)
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_database")
        options = PostgresDeadLettersConfig.model_validate({"url": url})
        return lambda pipeline: PostgresDeadLetters(options, pipeline)
    if request.param == "fallback":
        raw = [
            {"type": "postgres", "url": request.getfixturevalue("postgres_database")},
            {"type": "file", "path": str(tmp_path / "fallback.jsonl")},
        ]
        several = FallbackDeadLettersConfig.model_validate({"destinations": raw})
        return lambda pipeline: FallbackDeadLetters(several, pipeline)
    if request.param == "s3":
        moto: MotoServer = request.getfixturevalue("moto_server")
        in_moto(moto, request.getfixturevalue("monkeypatch"))
        place = {"region": moto.region, "endpoint": moto.endpoint, "bucket": f"letters-{uuid4().hex[:12]}"}
        a_bucket(moto, place["bucket"])
        return lambda pipeline: S3DeadLetters(S3DeadLettersConfig.model_validate(place), pipeline)
    bootstrap: str = request.getfixturevalue("kafka").bootstrap
    topic: str = request.getfixturevalue("kafka_topic")(partitions=3, config={"max.message.bytes": "20000000"})
    config: dict[str, Any] = {"brokers": [bootstrap], "topic": topic}
    return lambda pipeline: KafkaDeadLetters(KafkaDeadLettersConfig.model_validate(config), pipeline)


@asynchronous
async def test_a_letter_comes_back_exactly_as_it_was_written(make: MakeDestination) -> None:
    letters = [
        letter(1),
        letter(2, key=None, route="", kind=ErrorKind.DECODE, event_id="", attempts=0, holds_key=True, index=7),
        letter(3, record=Record(3, bytes(range(256)), b"\xff\x00", 5, (("h", b"\xfe"), ("h", None), ("", b"")))),
        letter(4, record=Record(4, None, None)),
        letter(5, record=Record(5, b"", b"")),
        letter(int("4" * 56), record=Record(int("4" * 56), b"x")),
        letter(6, key='{"pk":"\udc80 \u202e\x1b[31m\r\n\x00"}', message="lone \ud800 surrogate", shard="file:a b/ü"),
        letter(7, record=Record(7, b"x" * 3_000_000, b"k")),
    ]
    destination = make("orders")
    await destination.open()
    await destination.append(letters)
    assert await stored(destination) == [StoredLetter(each) for each in letters]
    await destination.close()


@asynchronous
async def test_letters_are_there_after_a_restart_in_the_order_in_which_they_were_written(make: MakeDestination) -> None:
    written = [*range(600, 0, -1), *range(601, 1301)]
    for first in range(0, len(written), 650):
        destination = make("orders")
        await destination.open()
        await destination.append([letter(position) for position in written[first : first + 650]])
        await destination.close()
    destination = make("orders")
    await destination.open()
    assert await positions(destination) == written
    await destination.close()


@asynchronous
async def test_a_letter_that_is_written_again_is_one_letter_where_it_was_first(make: MakeDestination) -> None:
    destination = make("orders")
    await destination.open()
    await destination.append([letter(1), letter(2)])
    await destination.append([letter(3), letter(1, attempts=9), letter(1)])
    found = await stored(destination)
    assert [(each.letter.position, each.letter.attempts) for each in found] == [(1, 3), (2, 3), (3, 3)]
    await destination.close()


@asynchronous
async def test_a_marked_letter_is_shown_only_when_asked_for_and_its_last_mark_counts(make: MakeDestination) -> None:
    destination = make("orders")
    await destination.open()
    letters = [letter(position) for position in range(1, 5)]
    await destination.append(letters)
    await destination.mark([letters[0].id, letters[1].id], LetterState.REPLAYED, "applied")
    await destination.mark([letters[1].id], LetterState.PURGED)
    await destination.mark([letters[2].id], LetterState.DEAD, "rejected again")
    await destination.append([letters[0]])
    assert await positions(destination) == [3, 4]
    await destination.close()
    again = make("orders")
    await again.open()
    found = await stored(again, include_done=True)
    assert [(each.letter.position, each.state, each.replay_outcome) for each in found] == [
        (1, LetterState.REPLAYED, "applied"),
        (2, LetterState.PURGED, ""),
        (3, LetterState.DEAD, "rejected again"),
        (4, LetterState.DEAD, ""),
    ]
    await again.close()


@asynchronous
async def test_pipelines_that_share_a_place_do_not_see_each_other(make: MakeDestination) -> None:
    orders, customers = make("orders"), make("customers")
    await orders.open()
    await customers.open()
    await orders.append([letter(1), letter(2)])
    await customers.append([letter(1, pipeline="customers")])
    await customers.mark([letter(1).id, letter(2).id], LetterState.PURGED)
    await orders.append([letter(3)])
    assert await positions(orders) == [1, 2, 3]
    assert await positions(customers) == [1]
    await orders.close()
    await customers.close()


@asynchronous
async def test_letters_can_be_marked_and_written_while_they_are_being_read(make: MakeDestination) -> None:
    destination = make("orders")
    await destination.open()
    await destination.append([letter(position) for position in range(1, 1101)])
    seen = []
    async for each in destination.letters():
        seen.append(each.letter.position)
        if each.letter.position % 100 == 0:
            await destination.mark([each.letter.id], LetterState.REPLAYED, "applied")
    assert seen == list(range(1, 1101))
    assert len(await positions(destination)) == 1089
    await destination.append([letter(2000)])
    async for each in destination.letters():
        assert each.letter.position == 1
        break  # a reader that stops early leaves nothing locked
    await destination.append([letter(2001)])
    assert (await positions(destination))[-2:] == [2000, 2001]
    await destination.close()


@asynchronous
async def test_an_empty_place_has_no_letters(make: MakeDestination) -> None:
    destination = make("orders")
    await destination.open()
    assert await stored(destination, include_done=True) == []
    await destination.append([])
    await destination.mark([], LetterState.PURGED)
    assert await stored(destination) == []
    await destination.close()
