"""An unordered log through the intake, and records that share a position: what a producer had aggregated."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson

from connector.change import Record
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.kinesis_dynamodb import KinesisDynamoDBCodec
from connector.deadletter.kafka.headers import headers_of_letter, line_of
from connector.deadletter.lines import LetterLine, decode_line, encode
from connector.delivery.versions import LOGICAL_BITS
from connector.intake import Intake
from tests.coroutines import asynchronous
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.codecs.builders import SHARD, decode
from tests.unit.deadletter.replay_world import MemoryLetters, VersionedSink, letter, plan, record_of, replay
from tests.unit.delivery.builders import simulated
from tests.unit.test_intake import Door


def kinesis_record(position: int, microsecond: int, pk: str = "a") -> Record:
    body = {
        "ApproximateCreationDateTime": EPOCH_MS * 1000 + microsecond,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": {"pk": {"S": pk}},
        "NewImage": {"pk": {"S": pk}, "at": {"N": str(microsecond)}},
    }
    return Record(position, orjson.dumps({"eventName": "MODIFY", "eventID": f"{pk}-{microsecond}", "dynamodb": body}))


def unordered(door: Door, clock: SimulatedClock) -> Door:
    door.intake = Intake(
        codec=KinesisDynamoDBCodec(), routes=door.routes, bounds=door.bounds, pipeline="orders", clock=clock
    )
    return door


@simulated
async def test_an_older_change_that_is_read_later_has_the_lower_version_in_whatever_batch_it_comes(
    clock: SimulatedClock,
) -> None:
    door = unordered(Door(clock), clock)
    door.take(kinesis_record(1, 900), kinesis_record(2, 100))
    door.take(kinesis_record(3, 500), kinesis_record(4, 900))
    queued = [each for lane in door.routes[0].lanes for each in lane.queue]
    base = EPOCH_MS << LOGICAL_BITS
    assert [each.version - base for each in queued] == [900, 100, 500, 900]
    assert door.ledger.clock == base + 900


@simulated
async def test_poison_parts_of_one_record_are_letters_of_their_own(clock: SimulatedClock) -> None:
    door = Door(clock)
    parts = [Record(5, b"{", part=part) for part in range(3)]
    door.take(*parts)
    door.start()
    await asyncio.sleep(1)
    assert [each.record.part for each in door.letters] == [0, 1, 2]
    assert len({each.id for each in door.letters}) == 3
    assert door.finished == 6
    door.balance()


def test_changes_of_parts_without_event_ids_of_their_own_have_different_ones() -> None:
    value = orjson.dumps({"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": "a"}}}})
    changes = DynamoDBCodec().decode(SHARD, [Record(7, value), Record(7, value, part=1)]).changes
    assert [change.event_id for change in changes] == [f"{SHARD}:7:0", f"{SHARD}:7.1:0"]
    assert decode(DynamoDBCodec(), Record(7, value, part=4)).changes[0].event_id == f"{SHARD}:7.4:0"


@asynchronous
async def test_letters_of_two_parts_are_replayed_each_for_itself() -> None:
    sink = VersionedSink()
    first = letter("a", 1, 9, record=msgspec.structs.replace(record_of("a", 1, 9), part=0))
    second = letter("b", 2, 9, record=msgspec.structs.replace(record_of("b", 2, 9), part=1))
    second = msgspec.structs.replace(second, id="b" * 32)
    sink.refuses = lambda change: change.keys["pk"] == "a"
    letters = MemoryLetters([second, first])
    await replay(letters, [plan(sink)])
    assert letters.dead() == [first]
    assert letters.outcome(second) == "applied"
    assert {key: item["price"] for key, item in sink.state().items()} == {"b": 2}


@asynchronous
async def test_a_mended_letter_of_an_unordered_log_has_its_own_time_as_version() -> None:
    sink = VersionedSink()
    late, early = (
        letter("a", 0, at, route="", format="kinesis-dynamodb", record=kinesis_record(at, microsecond))
        for at, microsecond in ((1, 900), (2, 100))
    )
    await replay(MemoryLetters([early, late]), [plan(sink)], codec_of=lambda _: KinesisDynamoDBCodec())
    assert sink.state()["a"]["at"] == 900


def test_a_letter_keeps_its_records_part_in_every_destination() -> None:
    kept = letter("a", 1, 9, record=msgspec.structs.replace(record_of("a", 1, 9), part=3))
    assert decode_line(encode(LetterLine(kept))) == LetterLine(kept)

    class Message:
        def headers(self) -> Any:
            return headers_of_letter(kept)

        def value(self) -> bytes | None:
            return kept.record.value

        def key(self) -> bytes | None:
            return kept.record.key

    message: Any = Message()
    assert line_of(message) == LetterLine(kept)
