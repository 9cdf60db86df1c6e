"""The intake: records become changes in the ledger, or undecodable ones that are dead-lettered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import orjson
import pytest

from connector.change import Change, Record, RecordBatch
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.protocol import Codec
from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.delivery.bounds import Bounds
from connector.delivery.counts import Ending
from connector.delivery.courier import TooManyDeadLetters
from connector.delivery.ledger import Ledger
from connector.delivery.policy import LetterLimits, RoutePolicy
from connector.delivery.route import Route, Sieve, Sifted
from connector.intake import Intake
from connector.sink import Rejected
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.delivery.builders import Answer, ToldSink, simulated


def entry(pk: str, number: int) -> dict[str, object]:
    return {
        "eventID": f"{pk}-{number}",
        "eventName": "MODIFY",
        "dynamodb": {
            "ApproximateCreationDateTime": EPOCH_MS // 1000,
            "Keys": {"pk": {"S": pk}},
            "NewImage": {"pk": {"S": pk}, "number": {"N": str(number)}},
        },
    }


def good(position: int, pk: str = "a") -> Record:
    return Record(position, orjson.dumps(entry(pk, position)))


def wrapped(position: int, *entries: object) -> Record:
    return Record(position, orjson.dumps({"Records": list(entries)}))


def bad(position: int) -> Record:
    return Record(position, b"{")


class Door:
    """An intake before one route, with the books and letters to look into."""

    def __init__(
        self,
        clock: SimulatedClock,
        answer: Answer | None = None,
        sieves: Sequence[Sieve | None] = (None,),
        limits: LetterLimits | None = None,
    ) -> None:
        self.letters: list[DeadLetter] = []
        self.open = asyncio.Event()
        self.open.set()
        self.sink = ToldSink(answer)
        self.bounds = Bounds(1000, 1_000_000)
        self.routes = [
            Route(
                name=f"search-{number}",
                number=number,
                pipeline="orders",
                sink=self.sink,
                sieve=sieve,
                policy=RoutePolicy(),
                bounds=self.bounds,
                bury=self.bury,
                codec="dynamodb",
                clock=clock,
                chance=random.Random(0),
                held={},
            )
            for number, sieve in enumerate(sieves)
        ]
        codec: Codec = DynamoDBCodec()
        self.intake = Intake(
            codec=codec, routes=self.routes, bounds=self.bounds, pipeline="orders", clock=clock, limits=limits
        )
        self.ledger = Ledger("log/0", None, len(sieves) + 1, 0)
        self.moved = asyncio.Event()

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        assert letters, "nothing to bury"
        await self.open.wait()
        self.letters += letters

    def take(self, *records: Record) -> None:
        next_position = records[-1].position + 1 if records else 100
        self.intake.take(RecordBatch("log/0", list(records), next_position), self.ledger)

    def start(self) -> None:
        self.tasks = [asyncio.ensure_future(self.intake.run_burials(self.bury, self.moved))]
        self.tasks += [asyncio.ensure_future(route.run_lane(lane)) for route in self.routes for lane in route.lanes]

    @property
    def finished(self) -> int:
        return self.ledger.finished_position

    def balance(self) -> None:
        for counts in self.ledger.counts:
            assert counts.residue() == 0


@simulated
async def test_records_become_stamped_changes_in_the_ledger(clock: SimulatedClock) -> None:
    door = Door(clock)
    door.take(good(3), wrapped(5, entry("b", 1), entry("c", 2)), Record(9, None))
    queued = list(door.routes[0].lanes[0].queue)
    assert [(each.position, each.index) for each in queued] == [(3, 0), (5, 0), (5, 1)]
    assert [each.version for each in queued] == [(EPOCH_MS << 20) + step for step in range(3)]
    assert (door.intake.records, door.intake.changes, door.intake.empty) == (3, 3, 1)
    assert door.ledger.read_position == 10
    assert door.ledger.clock == queued[-1].version
    assert not door.ledger.idle
    door.start()
    await asyncio.sleep(1)
    assert door.finished == 10
    door.balance()


@simulated
async def test_records_without_changes_and_empty_batches_move_the_watermark_at_once(clock: SimulatedClock) -> None:
    door = Door(clock)
    door.take(Record(0, None), Record(1, None))
    assert door.finished == 2
    door.take()
    assert door.finished == 100


@simulated
async def test_an_undecodable_record_is_finished_when_its_letter_is_durable(clock: SimulatedClock) -> None:
    door = Door(clock)
    door.open.clear()
    door.take(good(0), bad(1), good(2))
    door.start()
    await asyncio.sleep(60)
    counts = door.ledger.counts[door.intake.decode_number]
    assert (counts.read, counts.in_flight, counts.ended[Ending.DEAD_LETTERED]) == (1, 1, 0)
    assert door.ledger.watermark is None
    door.open.set()
    await asyncio.sleep(1)
    (letter,) = door.letters
    assert (letter.kind, letter.code, letter.route, letter.key) == (ErrorKind.DECODE, "not_json", "", None)
    assert (letter.shard, letter.position, letter.format) == ("log/0", 1, "dynamodb")
    assert letter.record == bad(1)
    assert door.finished == 3
    assert door.moved.is_set()
    assert (counts.in_flight, counts.ended[Ending.DEAD_LETTERED]) == (0, 1)
    assert door.intake.undecodable == {"not_json": 1}
    door.balance()


@simulated
async def test_undecodable_records_that_cannot_be_buried_fill_the_bounds(clock: SimulatedClock) -> None:
    door = Door(clock)
    door.open.clear()
    door.start()
    door.take(*(bad(position) for position in range(1000)))
    assert door.bounds.full
    door.open.set()
    await asyncio.sleep(1)
    assert (door.bounds.changes, door.bounds.bytes) == (0, 0)
    assert len(door.letters) == 1000


@simulated
async def test_an_undecodable_record_of_a_lost_shard_is_abandoned_without_a_letter(clock: SimulatedClock) -> None:
    door = Door(clock)
    door.take(bad(0), bad(1))
    door.ledger.lost = True
    door.start()
    await asyncio.sleep(1)
    assert door.letters == []
    assert door.ledger.counts[1].ended[Ending.ABANDONED] == 2
    assert door.bounds.changes == 0
    door.balance()


@simulated
async def test_several_undecodable_records_have_letters_of_their_own_and_the_same_at_every_replay(
    clock: SimulatedClock,
) -> None:
    ids = []
    for _ in range(2):
        door = Door(clock)
        door.take(bad(1), bad(2), wrapped(3, entry("a", 1), {"eventName": "MODIFY"}, {"no": "change"}))
        door.start()
        await asyncio.sleep(1)
        ids.append([letter.id for letter in door.letters])
        assert len(set(ids[-1])) == 3, "a record with several bad entries is one letter, whole"
        assert door.sink.calls == [], "nothing of a record is delivered when a part of it cannot be read"
    assert ids[0] == ids[1]


@simulated
async def test_poison_parts_of_one_record_have_letters_that_do_not_collide(clock: SimulatedClock) -> None:
    door = Door(clock, lambda batch: [Rejected("no")] * len(batch), sieves=(None, None))
    door.take(wrapped(7, entry("a", 1), entry("a", 2), entry("b", 3)), bad(8))
    door.start()
    await asyncio.sleep(1)
    assert len(door.letters) == 2 * 3 + 1
    assert len({letter.id for letter in door.letters}) == 7
    assert sorted((letter.route, letter.position, letter.index) for letter in door.letters) == [
        ("", 8, 0),
        *((f"search-{number}", 7, index) for number in (0, 1) for index in (0, 1, 2)),
    ]


@simulated
async def test_the_same_record_on_two_shards_has_two_letters(clock: SimulatedClock) -> None:
    door = Door(clock)
    other = Ledger("log/1", None, 2, 0)
    door.take(bad(1))
    door.intake.take(RecordBatch("log/1", [bad(1)], 2), other)
    door.start()
    await asyncio.sleep(1)
    assert len({letter.id for letter in door.letters}) == 2
    assert other.idle


@simulated
async def test_a_filter_that_fails_leaves_its_batch_unfinished_even_where_another_route_is_quick(
    clock: SimulatedClock,
) -> None:
    def broken(changes: Sequence[Change]) -> Sifted:
        raise ZeroDivisionError

    door = Door(clock, sieves=(None, broken))
    door.start()
    with pytest.raises(ZeroDivisionError):
        door.take(good(0))
    await asyncio.sleep(1)
    assert door.sink.calls, "the first route has delivered it"
    assert door.ledger.watermark is None
    assert door.ledger.unsaved is None


@simulated
async def test_a_replay_from_the_checkpoint_stamps_the_same_versions(clock: SimulatedClock) -> None:
    first, again = Door(clock), Door(clock)
    first.take(good(0), good(1))
    first.start()
    await asyncio.sleep(1)
    checkpoint = first.ledger.watermark
    first.take(good(2), good(3))
    again.ledger = Ledger("log/0", checkpoint, 2, 0)
    again.take(good(2), good(3))
    stamped = [[each.version for each in door.routes[0].lanes[0].queue] for door in (first, again)]
    assert stamped[0] == stamped[1]
    assert len(stamped[0]) == 2


@simulated
async def test_a_lie_about_a_records_time_is_a_letter_and_stops_nothing(clock: SimulatedClock) -> None:
    timeless = entry("a", 1)
    del timeless["dynamodb"]["ApproximateCreationDateTime"]  # type: ignore[attr-defined]
    door = Door(clock)
    door.take(Record(0, orjson.dumps(timeless), timestamp_ms=2**62), good(1))
    door.start()
    await asyncio.sleep(1)
    assert [letter.code for letter in door.letters] == ["time_out_of_range"]
    assert door.finished == 2


@simulated
async def test_too_many_undecodable_records_in_a_row_stop_the_burials(clock: SimulatedClock) -> None:
    door = Door(clock, limits=LetterLimits(max_consecutive=2, ratio_min=100))
    door.take(bad(0), bad(1), good(2), bad(3), bad(4))
    door.start()
    await asyncio.sleep(1)
    assert [letter.position for letter in door.letters] == [0, 1, 3, 4]
    door.take(bad(5), good(6))
    with pytest.raises(TooManyDeadLetters, match=r"3 in a row, max_consecutive is 2; the last reason was \w+"):
        await door.tasks[0]
    assert len(door.letters) == 4
    assert door.finished == 5
    door.balance()


@simulated
async def test_records_that_decode_break_the_row_of_undecodable_ones(clock: SimulatedClock) -> None:
    door = Door(clock, limits=LetterLimits(max_consecutive=2, ratio_min=100))
    door.start()
    for first in range(0, 40, 4):
        door.take(bad(first), bad(first + 1))
        door.take(good(first + 2), good(first + 3))
    await asyncio.sleep(1)
    assert len(door.letters) == 20
