"""Polling: pace, throttling, what is read ahead, troubles told apart from losses."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from connector.checkpoints.protocol import SHARD_END
from connector.errors import SourceError
from connector.sources.streams.api import DataTrimmed, Denied, NotFound, Throttled, Unavailable
from connector.sources.streams.poller import Poller
from connector.sources.streams.troubles import Troubles
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import simulated
from tests.unit.sources.streams.told import SHARD, ToldApi, a_reader, page


def a_poller(clock: SimulatedClock, *, calls_at_once: int = 4, bytes_ahead: int = 10_000) -> Poller:
    return Poller(
        clock,
        random.Random(1),
        Troubles(clock),
        calls_at_once=calls_at_once,
        idle_every_s=2.0,
        bytes_ahead=bytes_ahead,
    )


async def taken(poller: Poller, seconds: float, records_max: int = 1000) -> list[int]:
    """The positions that come within so much time."""
    until = asyncio.get_running_loop().time() + seconds
    found: list[int] = []
    while asyncio.get_running_loop().time() < until:
        for batch in await poller.take(records_max, 0.05):
            found += [record.position for record in batch.records]
    return found


@simulated
async def test_a_busy_shard_is_asked_five_times_a_second_and_no_more(clock: SimulatedClock) -> None:
    api = ToldApi(*(page(n) for n in range(1, 100)))
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    found = await taken(poller, 4.0)
    assert 19 <= len(found) <= 21
    assert min(later - before for before, later in itertools.pairwise(api.asked_s)) >= 0.2 - 1e-9
    await poller.close()


@simulated
async def test_an_idle_shard_is_asked_ever_less_often_until_it_has_records_again(clock: SimulatedClock) -> None:
    api = ToldApi(*[page()] * 12, page(1), page(2))
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    await taken(poller, 30.0)
    gaps = [later - before for before, later in itertools.pairwise(api.asked_s)]
    assert gaps[0] < gaps[3] < gaps[5]
    assert max(gaps) <= 2.0 + 1e-9
    assert gaps[12] == pytest.approx(0.2)
    await poller.close()


@simulated
async def test_nothing_is_asked_while_enough_waits_to_be_taken(clock: SimulatedClock) -> None:
    api = ToldApi(*(page(n) for n in range(1, 100)))
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    await asyncio.sleep(10)
    assert len(api.asked_s) == 2, "two pages ahead of one shard"
    assert (await taken(poller, 1.0))[:4] == [1, 2, 3, 4]
    await poller.close()


@simulated
async def test_the_bytes_ahead_are_bounded_over_all_shards(clock: SimulatedClock) -> None:
    apis = [ToldApi(*(page(n) for n in range(1, 100))) for _ in range(10)]
    poller = a_poller(clock, calls_at_once=1, bytes_ahead=30)
    for number, api in enumerate(apis):
        poller.add(a_reader(api, clock, id_=f"s{number}"))
    await asyncio.sleep(5)
    assert sum(len(api.asked_s) for api in apis) == 3
    await poller.close()


@simulated
async def test_a_pause_stops_the_calls_and_nothing_is_lost_or_twice(clock: SimulatedClock) -> None:
    api = ToldApi(*(page(n) for n in range(1, 50)))
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    found = await taken(poller, 1.0)
    poller.pause()
    await asyncio.sleep(1)
    calls = len(api.asked_s)
    await asyncio.sleep(100)
    assert len(api.asked_s) == calls
    poller.resume()
    found += await taken(poller, 20.0)
    assert found == list(range(1, 50))
    await poller.close()


@simulated
async def test_a_page_is_handed_out_in_pieces_but_one_position_never(clock: SimulatedClock) -> None:
    poller = a_poller(clock)
    poller.add(a_reader(ToldApi(page(1, 2, 3, 3, 4, end=True)), clock))
    sizes, ends = [], []
    for _ in range(6):
        for batch in await poller.take(3, 0.5):
            sizes.append([record.position for record in batch.records])
            ends.append(batch.next_position)
    assert sizes == [[1, 2, 3, 3], [4]]
    assert ends == [4, SHARD_END]
    await poller.close()


@simulated
async def test_throttling_lets_fewer_calls_go_at_once(clock: SimulatedClock) -> None:
    apis = [ToldApi() for _ in range(8)]
    for api in apis:
        api.takes_s = 1.0
    poller = a_poller(clock, calls_at_once=8)
    for number, api in enumerate(apis):
        poller.add(a_reader(api, clock, id_=f"s{number}"))
    await asyncio.sleep(0.5)
    assert sum(api.at_once for api in apis) == 8
    for api in apis:
        api.answers = [Throttled("slower")]
    await asyncio.sleep(5)
    assert sum(api.at_once for api in apis) <= 1
    await poller.close()


@simulated
async def test_errors_are_waited_out_with_growing_waits_and_told(clock: SimulatedClock) -> None:
    api = ToldApi(*[Unavailable("500")] * 6, page(1))
    troubles = Troubles(clock)
    poller = Poller(clock, random.Random(1), troubles, calls_at_once=4, idle_every_s=2.0, bytes_ahead=1000)
    poller.add(a_reader(api, clock))
    await asyncio.sleep(2.5)
    assert troubles.last_error == f"{SHARD}: 500"
    assert await taken(poller, 60.0) == [1]
    assert troubles.last_error == ""
    gaps = [later - before for before, later in itertools.pairwise(api.asked_s)]
    assert gaps[4] > gaps[0] * 3
    await poller.close()


@simulated
async def test_one_failure_is_nothing_to_speak_of_but_a_refusal_is(clock: SimulatedClock) -> None:
    troubles = Troubles(clock)
    troubles.note("a", Unavailable("500"))
    assert troubles.last_error == ""
    troubles.note("b", Denied("AccessDenied"))
    assert troubles.last_error == "b: AccessDenied"
    troubles.passed("b")
    assert troubles.last_error == ""


@simulated
async def test_an_unknown_shard_is_named_and_asked_for_again(clock: SimulatedClock) -> None:
    api = ToldApi(page(1))
    api.iterator_errors = [NotFound("no such shard")] * 2
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    await asyncio.sleep(0.1)
    assert poller.missing == {SHARD}
    assert await taken(poller, 10.0) == [1]
    assert poller.missing == set()
    await poller.close()


@simulated
async def test_a_loss_ends_the_reading_with_its_words(clock: SimulatedClock) -> None:
    poller = a_poller(clock)
    poller.add(a_reader(ToldApi(DataTrimmed("gone")), clock, 5))
    with pytest.raises(SourceError, match="`trimmed: skip`"):
        await taken(poller, 1.0)
    await poller.close()


@simulated
async def test_a_shard_that_was_removed_gives_nothing_any_more(clock: SimulatedClock) -> None:
    api = ToldApi(*(page(n) for n in range(1, 50)))
    api.takes_s = 0.3
    poller = a_poller(clock)
    poller.add(a_reader(api, clock))
    await asyncio.sleep(0.7)
    poller.remove([SHARD])
    assert await taken(poller, 5.0) == []
    poller.add(a_reader(ToldApi(page(9)), clock))
    assert await taken(poller, 1.0) == [9]
    await poller.close()


@simulated
async def test_a_shard_that_is_ended_from_outside_ends_behind_what_waits_of_it(clock: SimulatedClock) -> None:
    poller = a_poller(clock)
    poller.add(a_reader(ToldApi(page(1)), clock))
    await asyncio.sleep(0.1)
    poller.end(SHARD)
    batches = await poller.take(1000, 0.1)
    assert [(len(batch.records), batch.next_position) for batch in batches] == [(1, 2), (0, SHARD_END)]
    assert poller.tips() == {}
    await poller.close()
