"""One shard's reading: positions, iterators, losses, the end and the tip."""

from __future__ import annotations

import pytest

from connector.checkpoints.protocol import SHARD_END
from connector.errors import SourceError
from connector.sources.streams.api import DataTrimmed, IteratorExpired, NotFound, StreamApiError, Throttled, Unavailable
from connector.sources.streams.positions import After, AtTimestamp, Latest, TrimHorizon, since
from tests.simulation.loop import EPOCH_MS, SimulatedClock
from tests.unit.delivery.builders import simulated
from tests.unit.sources.streams.told import ToldApi, a_reader, page


@simulated
async def test_reading_goes_on_behind_the_last_sequence_number(clock: SimulatedClock) -> None:
    api = ToldApi(page(7, 9))
    reader = a_reader(api, clock, 6)
    batch = await reader.turn(1000)
    assert batch is not None
    assert [record.position for record in batch.records] == [7, 9]
    assert batch.next_position == reader.position == 10
    assert api.places == [After(5)]


@simulated
async def test_an_expired_iterator_is_replaced_from_the_last_position(clock: SimulatedClock) -> None:
    api = ToldApi(page(7), IteratorExpired("old"), page(8))
    reader = a_reader(api, clock)
    await reader.turn(1000)
    batch = await reader.turn(1000)
    assert batch is not None
    assert batch.records[0].position == 8
    assert api.places == [TrimHorizon(), After(7)]


@simulated
async def test_iterators_that_expire_at_once_are_no_endless_loop(clock: SimulatedClock) -> None:
    reader = a_reader(ToldApi(*[IteratorExpired("old")] * 10), clock)
    with pytest.raises(Unavailable):
        await reader.turn(1000)


@simulated
async def test_only_a_page_without_a_next_iterator_ends_the_shard(clock: SimulatedClock) -> None:
    api = ToldApi(page(), Throttled("no"), NotFound("no"), Unavailable("no"), page(3, end=True))
    reader = a_reader(api, clock)
    assert await reader.turn(1000) is None
    for error in (Throttled, NotFound, Unavailable):
        with pytest.raises(error):
            await reader.turn(1000)
        assert not reader.ended
    batch = await reader.turn(1000)
    assert batch is not None
    assert batch.next_position == SHARD_END
    assert len(batch.records) == 1
    assert reader.ended


@simulated
async def test_an_empty_last_page_ends_the_shard_too(clock: SimulatedClock) -> None:
    batch = await a_reader(ToldApi(page(end=True)), clock).turn(1000)
    assert batch is not None
    assert (batch.records, batch.next_position) == ([], SHARD_END)


@simulated
async def test_trimmed_records_stop_the_source_in_words(clock: SimulatedClock) -> None:
    api = ToldApi()
    api.iterator_errors = [DataTrimmed("beyond the trim horizon")]
    with pytest.raises(SourceError, match=r"after the sequence number 0{18}122.*`trimmed: skip` goes on"):
        await a_reader(api, clock, 123).turn(1000)


@simulated
async def test_trimmed_records_are_skipped_and_counted_where_that_is_wished(clock: SimulatedClock) -> None:
    api = ToldApi(page(200))
    api.iterator_errors = [DataTrimmed("gone")]
    reader = a_reader(api, clock, 123, skip=True)
    batch = await reader.turn(1000)
    assert batch is not None
    assert batch.records[0].position == 200
    assert reader.skipped == 1
    assert api.places == [After(122), TrimHorizon()]


@simulated
async def test_a_shard_found_later_misses_its_first_records_but_one_that_was_there_at_first_does_not(
    clock: SimulatedClock,
) -> None:
    with pytest.raises(SourceError, match="at its first record"):
        await a_reader(ToldApi(DataTrimmed("gone")), clock).turn(1000)
    reader = a_reader(ToldApi(DataTrimmed("gone"), page(5)), clock, exact=False)
    assert (await reader.turn(1000)) is not None
    assert reader.skipped == 0


@simulated
async def test_what_was_begun_anywhere_is_missed_from_then_on(clock: SimulatedClock) -> None:
    reader = a_reader(ToldApi(page(5), DataTrimmed("gone")), clock, exact=False)
    await reader.turn(1000)
    with pytest.raises(SourceError, match="are gone"):
        await reader.turn(1000)


@simulated
async def test_records_that_were_read_already_are_left_out(clock: SimulatedClock) -> None:
    batch = await a_reader(ToldApi(page(4, 5, 6)), clock, 6).turn(1000)
    assert batch is not None
    assert [record.position for record in batch.records] == [6]


@simulated
async def test_a_start_of_just_now_is_the_end_of_the_shard(clock: SimulatedClock) -> None:
    api = ToldApi()
    await a_reader(api, clock, since(clock.now_ms())).turn(1000)
    assert api.places == [Latest()]


@simulated
async def test_the_end_of_the_shard_is_taken_once_only(clock: SimulatedClock) -> None:
    api = ToldApi(page(), IteratorExpired("old"))
    reader = a_reader(api, clock, since(clock.now_ms()))
    await reader.turn(1000)
    await reader.turn(1000)
    assert api.places == [Latest(), TrimHorizon()]


@simulated
async def test_an_older_start_in_time_is_found_by_reading_where_the_api_has_no_timestamps(
    clock: SimulatedClock,
) -> None:
    start_ms = EPOCH_MS - 3_600_000
    api = ToldApi(page(1, 2, written_ms=start_ms - 3_000_000), page(3, written_ms=start_ms), page(4))
    reader = a_reader(api, clock, since(start_ms))
    assert await reader.turn(1000) is None
    later = [await reader.turn(1000), await reader.turn(1000)]
    assert [record.position for batch in later if batch for record in batch.records] == [3, 4]
    assert api.places == [TrimHorizon()]


@simulated
async def test_a_start_that_must_lose_nothing_is_read_for_from_the_first_record(clock: SimulatedClock) -> None:
    api = ToldApi()
    await a_reader(api, clock, since(clock.now_ms()), exactly_since=True).turn(1000)
    assert api.places == [TrimHorizon()]


@simulated
async def test_an_api_with_timestamps_is_asked_for_the_time(clock: SimulatedClock) -> None:
    api = ToldApi(timestamps=True)
    await a_reader(api, clock, since(EPOCH_MS)).turn(1000)
    assert api.places == [AtTimestamp(EPOCH_MS)]


@simulated
async def test_several_empty_pages_in_a_row_are_the_tip_and_one_is_not(clock: SimulatedClock) -> None:
    reader = a_reader(ToldApi(page(1), page(), page(), page(), page(), page(2)), clock)
    seen = []
    for _ in range(6):
        await reader.turn(1000)
        seen.append(reader.at_tip)
    assert seen == [False, False, False, False, True, False]


@simulated
async def test_an_api_that_says_how_far_behind_it_is_is_believed(clock: SimulatedClock) -> None:
    reader = a_reader(ToldApi(page(behind_ms=500), page(behind_ms=0)), clock)
    await reader.turn(1000)
    assert not reader.at_tip
    await reader.turn(1000)
    assert reader.at_tip


def test_every_error_of_the_api_has_a_meaning_of_its_own() -> None:
    assert {each.__name__ for each in StreamApiError.__subclasses__()} == {
        "Unavailable",
        "Throttled",
        "Denied",
        "IteratorExpired",
        "DataTrimmed",
        "NotFound",
    }
