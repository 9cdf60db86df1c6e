"""Replay: letters go their way again in order, are marked when they are through, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from connector.change import Change, Record
from connector.codecs.dynamodb import DynamoDBCodec
from connector.codecs.protocol import Decoded
from connector.deadletter.envelope import ErrorKind
from connector.deadletter.rehearsal import rehearse
from connector.delivery.policy import OnPoison
from connector.delivery.route import Sifted
from connector.errors import DeadLetterError, SinkUnavailable
from connector.sink import Outcome, Semantics
from tests.coroutines import asynchronous
from tests.unit.deadletter.replay_world import (
    MemoryLetters,
    VersionedSink,
    codecs,
    key_of,
    letter,
    options,
    plan,
    record_of,
    replay,
    version_of,
)


def odd_price(change: Change) -> bool:
    item = change.new_values()
    return item is not None and item["price"] % 2 == 1


@asynchronous
async def test_what_was_poison_and_is_not_any_more_brings_the_sink_to_the_models_state() -> None:
    sink = VersionedSink()
    letters = MemoryLetters([letter(f"k{at % 7}", at, at) for at in range(1, 60)])
    report = await replay(letters, [plan(sink)])
    assert {pk: int(item["price"]) for pk, item in sink.state().items()} == {
        f"k{n}": max(at for at in range(1, 60) if at % 7 == n) for n in range(7)
    }
    assert letters.dead() == []
    assert report.routes["search"].replayed == {"applied": 7, "superseded": 52}
    assert (report.dead, report.left) == (0, 0)
    assert (sink.opened, sink.closed) == (1, 1)


@asynchronous
async def test_each_letter_is_marked_with_its_outcome_after_it_was_written() -> None:
    sink = VersionedSink()
    letters = MemoryLetters([letter("a", 1, 1), letter("a", 2, 2)])
    written_by_then: list[bool] = []
    letters.before_mark = lambda: written_by_then.append(("a", version_of(2)) in sink.written)
    await replay(letters, [plan(sink)])
    assert written_by_then == [True, True]
    first, second = (stored.letter for stored in letters.stored.values())
    assert (letters.outcome(first), letters.outcome(second)) == ("superseded", "applied")


@asynchronous
async def test_letters_are_sent_in_the_order_of_their_versions_whatever_order_they_were_written_in() -> None:
    sink = VersionedSink(Semantics.EVENT)
    await replay(MemoryLetters([letter("a", at, at) for at in (5, 2, 9, 1)]), [plan(sink)])
    assert sink.written == [("a", version_of(at)) for at in (1, 2, 5, 9)]


@asynchronous
async def test_the_order_is_kept_over_rounds_when_not_all_letters_fit_in_memory() -> None:
    sink = VersionedSink(Semantics.EVENT)
    letters = MemoryLetters([letter("a", at, at) for at in (8, 3, 7, 1, 6, 2, 5, 4)])
    report = await replay(letters, [plan(sink)], options(letters_max=3))
    assert sink.written == [("a", version_of(at)) for at in range(1, 9)]
    assert report.routes["search"].replayed == {"applied": 8}


@asynchronous
async def test_a_small_letter_does_not_overtake_a_large_one_that_had_no_room() -> None:
    sink = VersionedSink(Semantics.EVENT)
    large = record_of("a", 2, 2)
    large.key = b"x" * 5000
    letters = MemoryLetters([letter("a", 1, 1), letter("a", 2, 2, record=large), letter("a", 3, 3)])
    await replay(letters, [plan(sink)], options(bytes_max=1000))
    assert sink.written == [("a", version_of(at)) for at in (1, 2, 3)]


@asynchronous
async def test_replaying_twice_is_harmless() -> None:
    sink = VersionedSink(Semantics.EVENT)
    letters = MemoryLetters([letter("a", 1, 1), letter("b", 2, 2)])
    await replay(letters, [plan(sink)])
    written = list(sink.written)
    report = await replay(letters, [plan(sink)])
    assert sink.written == written
    assert report.routes == {}


@asynchronous
async def test_a_replay_that_could_not_mark_its_letters_is_done_again_without_a_trace() -> None:
    sink = VersionedSink()
    letters = MemoryLetters([letter("a", 1, 1), letter("b", 2, 2)])

    def full_disk() -> None:
        raise DeadLetterError("the disk is full")

    letters.before_mark = full_disk
    with pytest.raises(DeadLetterError):
        await replay(letters, [plan(sink)])
    assert len(letters.dead()) == 2
    assert sink.closed == 1
    state = dict(sink.items)
    letters.before_mark = None
    await replay(letters, [plan(sink)])
    assert sink.items == state
    assert letters.dead() == []


@asynchronous
async def test_a_letter_that_is_still_poison_stays_dead_and_its_reason_is_told() -> None:
    sink = VersionedSink()
    sink.refuses = odd_price
    still, fixed = letter("a", 1, 1), letter("b", 2, 2)
    letters = MemoryLetters([still, fixed])
    report = await replay(letters, [plan(sink)])
    assert letters.dead() == [still]
    assert report.routes["search"].dead == {("rejected", "mapping"): 1}
    assert report.routes["search"].replayed == {"applied": 1}


@asynchronous
async def test_a_held_key_whose_first_letter_fails_again_keeps_its_later_ones_and_only_those() -> None:
    sink = VersionedSink(Semantics.EVENT)
    sink.refuses = odd_price
    held = [letter("a", 1, 1, holds=True), letter("a", 2, 2, holds=True), letter("a", 4, 4, holds=True)]
    letters = MemoryLetters([*held, letter("b", 2, 3, holds=True)])
    report = await replay(letters, [plan(sink, on_poison=OnPoison.HOLD_KEY)], options(letters_max=2))
    assert letters.dead() == held
    assert sink.written == [("b", version_of(3))]
    assert report.routes["search"].dead == {("rejected", "mapping"): 1, ("held", "key_held"): 2}


@asynchronous
async def test_a_held_key_that_was_mended_is_applied_in_its_order() -> None:
    sink = VersionedSink(Semantics.EVENT)
    letters = MemoryLetters([letter("a", at, at, holds=True) for at in range(1, 30)])
    await replay(letters, [plan(sink, on_poison=OnPoison.HOLD_KEY)])
    assert sink.written == [("a", version_of(at)) for at in range(1, 30)]
    assert letters.dead() == []


@asynchronous
async def test_letters_behind_a_held_key_are_not_sent_past_the_one_that_holds_it_though_only_they_were_asked_for() -> (
    None
):
    sink = VersionedSink(Semantics.EVENT)
    first = letter("a", 1, 1, holds=True)
    later = letter("a", 2, 2, holds=True, kind=ErrorKind.HELD, code="key_held")
    letters = MemoryLetters([first, later])
    report = await replay(letters, [plan(sink, on_poison=OnPoison.HOLD_KEY)], options(reason="held"))
    assert sink.written == []
    assert letters.dead() == [first, later]
    assert report.routes["search"].dead == {("held", "key_held"): 1}


@asynchronous
async def test_letters_that_arrive_behind_a_held_key_meanwhile_are_taken_in_the_next_round() -> None:
    sink = VersionedSink(Semantics.EVENT)
    letters = MemoryLetters([letter("a", 1, 1, holds=True)])
    arriving = [letter("a", 2, 2, holds=True)]

    def arrive() -> None:
        for late in arriving:
            letters.stored[late.id] = type(letters.stored[letters.dead()[0].id])(late)
        arriving.clear()

    letters.before_mark = arrive
    await replay(letters, [plan(sink, on_poison=OnPoison.HOLD_KEY)])
    assert sink.written == [("a", version_of(1)), ("a", version_of(2))]
    assert letters.dead() == []


@asynchronous
async def test_a_replay_ends_though_new_letters_keep_arriving() -> None:
    sink = VersionedSink()
    letters = MemoryLetters([letter("a", 0, 1)])

    def arrive() -> None:
        late = letter("a", 0, len(letters.stored) + 1)
        letters.stored[late.id] = type(letters.stored[letters.dead()[0].id])(late)

    letters.before_mark = arrive
    report = await replay(letters, [plan(sink)])
    assert len(letters.dead()) == 1
    assert report.routes["search"].replayed.total() == len(letters.stored) - 1


@asynchronous
async def test_an_older_letter_against_a_newer_item_is_stale_and_through() -> None:
    sink = VersionedSink()
    newer = (version_of(9), {"pk": "a", "price": 9})
    sink.items[key_of("a")] = newer
    old = letter("a", 2, 2)
    letters = MemoryLetters([old])
    await replay(letters, [plan(sink)])
    assert sink.items[key_of("a")] == newer
    assert letters.outcome(old) == "stale"


@asynchronous
async def test_a_change_that_the_filter_drops_now_is_through() -> None:
    sink = VersionedSink()
    old = letter("a", 1, 1)
    letters = MemoryLetters([old])
    await replay(letters, [plan(sink, sieve=lambda changes: Sifted([], changes))])
    assert sink.calls == 0
    assert letters.outcome(old) == "filtered"


@asynchronous
async def test_a_letter_goes_only_through_its_own_route() -> None:
    search, audit = VersionedSink(), VersionedSink(Semantics.EVENT)
    await replay(MemoryLetters([letter("a", 1, 1, route="audit")]), [plan(search), plan(audit, "audit")])
    assert (search.opened, search.calls) == (0, 0)
    assert audit.written == [("a", version_of(1))]


class MendedCodec:
    """Reads what has a ``?`` before it; a lone ``?`` is a record without a change."""

    name: ClassVar[str] = "mended"

    def decode(self, shard: str, records: Sequence[Record]) -> Decoded:
        decoded = Decoded([], [])
        for record in records:
            mended = Record(record.position, (record.value or b"")[1:] or None, timestamp_ms=record.timestamp_ms)
            one = DynamoDBCodec().decode(shard, [mended])
            for change in one.changes:
                change.record = record
            decoded.changes += one.changes
            decoded.undecodable += one.undecodable
            decoded.empty += one.empty
        return decoded


def broken(pk: str, price: int, at: int) -> Record:
    good = record_of(pk, price, at)
    return Record(at, b"?" + (good.value or b""), timestamp_ms=good.timestamp_ms)


@asynchronous
async def test_an_undecodable_record_goes_through_all_routes_once_its_codec_is_mended() -> None:
    search, audit = VersionedSink(), VersionedSink(Semantics.EVENT)
    undecodable = letter("a", 1, 1, route="", format="mended", record=broken("a", 1, 1))
    letters = MemoryLetters([undecodable])
    report = await replay(letters, [plan(search), plan(audit, "audit")], codec_of=codecs(mended=MendedCodec()))
    assert search.state()["a"]["price"] == 1
    assert audit.written == [("a", version_of(1))]
    assert letters.outcome(undecodable) == "applied"
    assert report.routes[""].replayed == {"applied": 1}


@asynchronous
async def test_an_undecodable_record_that_one_route_still_refuses_stays_dead() -> None:
    search, audit = VersionedSink(), VersionedSink(Semantics.EVENT)
    search.refuses = odd_price
    undecodable = letter("a", 1, 1, route="", format="mended", record=broken("a", 1, 1))
    letters = MemoryLetters([undecodable])
    report = await replay(letters, [plan(search), plan(audit, "audit")], codec_of=codecs(mended=MendedCodec()))
    assert letters.dead() == [undecodable]
    assert report.routes[""].dead == {("rejected", "mapping"): 1}


@asynchronous
async def test_a_record_that_is_still_undecodable_stays_dead_with_its_new_reason() -> None:
    undecodable = letter("a", 1, 1, route="", record=broken("a", 1, 1))
    letters = MemoryLetters([undecodable])
    report = await replay(letters, [plan(VersionedSink())])
    assert letters.dead() == [undecodable]
    ((kind, code),) = report.routes[""].dead
    assert kind == "decode"
    assert code


@asynchronous
async def test_a_record_that_a_mended_codec_finds_empty_is_through() -> None:
    undecodable = letter("a", 1, 1, route="", format="mended", record=Record(1, b"?"))
    letters = MemoryLetters([undecodable])
    await replay(letters, [plan(VersionedSink())], codec_of=codecs(mended=MendedCodec()))
    assert letters.outcome(undecodable) == "empty"


@asynchronous
async def test_a_mended_record_with_a_time_in_the_future_lifts_no_other_key_above_its_newer_item() -> None:
    sink = VersionedSink()
    newer = (version_of(50), {"pk": "b", "price": 50})
    sink.items[key_of("b")] = newer
    future = letter("a", 1, 1, route="", format="mended", record=broken("a", 1, 5000))
    older = letter("b", 2, 2, route="", format="mended", record=broken("b", 2, 2))
    letters = MemoryLetters([future, older])
    await replay(letters, [plan(sink)], codec_of=codecs(mended=MendedCodec()))
    assert sink.items[key_of("b")] == newer
    assert letters.outcome(older) == "stale"


@asynchronous
async def test_one_change_in_two_letters_is_sent_once_with_the_version_that_it_had() -> None:
    audit = VersionedSink(Semantics.EVENT)
    of_route = letter("a", 1, 1, route="audit", format="mended", record=broken("a", 1, 1))
    undecodable = letter("a", 1, 1, route="", format="mended", record=broken("a", 1, 1))
    letters = MemoryLetters([undecodable, of_route])
    await replay(letters, [plan(audit, "audit")], codec_of=codecs(mended=MendedCodec()))
    assert audit.written == [("a", version_of(1))]
    assert letters.dead() == []


@asynchronous
async def test_a_sink_that_does_not_open_ends_the_replay_with_its_letters_left() -> None:
    away, there = VersionedSink(), VersionedSink()
    away.away = True
    left, sent = letter("a", 1, 1), letter("a", 1, 1, route="cache")
    letters = MemoryLetters([left, sent])
    report = await replay(letters, [plan(away), plan(there, "cache")])
    assert report.unavailable == {"search": "nobody at home"}
    assert report.left == 1
    assert letters.dead() == [left]
    assert letters.outcome(sent) == "applied"


@asynchronous
async def test_a_sink_that_goes_away_leaves_only_what_it_has_not_answered() -> None:
    sink = VersionedSink(Semantics.EVENT)
    sink.away_after_calls = 1
    letters = MemoryLetters([letter("a", at, at) for at in range(1, 6)])
    report = await replay(letters, [plan(sink, batch_size=2)])
    assert [left.position for left in letters.dead()] == [3, 4, 5]
    assert report.left == 3
    assert report.routes["search"].replayed == {"applied": 2}
    assert report.unavailable == {"search": "gone away"}


class StubbornSink(VersionedSink):
    """Makes errors of its own out of cancellations, as some clients do."""

    async def open(self) -> None:
        if self.away:
            await self._hang()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        await self._hang()
        return await super().write(batch)

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise SinkUnavailable("cancelled inside the client") from None


@pytest.mark.parametrize("away", [True, False])
@asynchronous
async def test_a_sink_whose_client_swallows_cancellations_is_given_up_all_the_same(away: bool) -> None:
    sink = StubbornSink()
    sink.away = away
    letters = MemoryLetters([letter("a", 1, 1)])
    report = await replay(letters, [plan(sink, backoff_initial_s=0.1, backoff_max_s=0.1)])
    assert set(report.unavailable) == {"search"}
    assert len(letters.dead()) == report.left == 1


@asynchronous
async def test_letters_of_a_route_that_is_gone_stay_dead_and_are_told() -> None:
    gone = letter("a", 1, 1, route="old")
    letters = MemoryLetters([gone])
    report = await replay(letters, [plan(VersionedSink())])
    assert letters.dead() == [gone]
    assert report.routes["old"].dead == {("unknown", "route_gone"): 1}


@asynchronous
async def test_a_route_that_stops_at_poison_keeps_the_letter_dead_without_stopping_the_replay() -> None:
    sink = VersionedSink()
    sink.refuses = odd_price
    still, fixed = letter("a", 1, 1), letter("b", 2, 2)
    letters = MemoryLetters([still, fixed])
    await replay(letters, [plan(sink, on_poison=OnPoison.STOP)])
    assert letters.dead() == [still]


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({"key": key_of("a")}, [1, 3]),
        ({"route": "cache"}, [2]),
        ({"reason": "too_large"}, [3]),
        ({"limit": 2}, [1, 2]),
    ],
)
@asynchronous
async def test_only_the_letters_that_are_meant_are_sent(selection: dict[str, Any], chosen: list[int]) -> None:
    every = [letter("a", 1, 1), letter("b", 2, 2, route="cache"), letter("a", 3, 3, code="too_large")]
    letters = MemoryLetters(every)
    await replay(letters, [plan(VersionedSink()), plan(VersionedSink(), "cache")], options(**selection))
    dead = {one.position for one in letters.dead()}
    assert {1, 2, 3} - dead == set(chosen)


@asynchronous
async def test_a_rehearsal_says_what_would_be_sent_and_touches_nothing() -> None:
    sink = VersionedSink()
    letters = MemoryLetters(
        [
            letter("a", 1, 1),
            letter("b", 1, 2, route="cache"),
            letter("c", 1, 3, route="old"),
            letter("d", 1, 4, route="", record=Record(4, b"{")),
        ]
    )
    plans = [plan(sink), plan(VersionedSink(), "cache", sieve=lambda changes: Sifted([], changes))]
    rows = [row async for row in rehearse(options(), plans=plans, destination=letters, codec_of=codecs())]
    told = {(row.letter.position, row.route): row.what for row in rows}
    assert told[1, "search"] == "send"
    assert told[2, "cache"] == "filtered"
    assert told[3, "old"] == "route_gone"
    assert told[4, ""] not in {"send", "filtered", "empty", "held"}
    assert (sink.opened, sink.calls) == (0, 0)
    assert len(letters.dead()) == 4
    assert letters.marks == []
