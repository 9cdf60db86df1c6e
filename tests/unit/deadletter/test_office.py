"""The office: letters become durable whatever it takes, and keys are held and let go at the right time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import pytest
from pydantic import BaseModel

from connector.deadletter.envelope import DeadLetter, ErrorKind, letter_for_change
from connector.deadletter.office import LEARN_FAILURES_MAX, DeadLetterOffice
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import DeadLetterError
from tests.simulation.loop import SimulatedClock
from tests.simulation.parts import NoConfig
from tests.unit.delivery.builders import change, simulated


class ToldLetters:
    """A destination in memory that fails so many times, and takes its time to be read."""

    config_model: ClassVar[type[BaseModel]] = NoConfig

    def __init__(self) -> None:
        self.kept: dict[str, DeadLetter] = {}
        self.done: set[str] = set()
        self.append_failures = 0
        self.read_failures = 0
        self.read_takes_s = 0.0
        self.append_takes_s = 0.0
        self.closed = False

    async def open(self) -> None:
        """Nothing to open."""

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        await asyncio.sleep(self.append_takes_s)
        if self.append_failures:
            self.append_failures -= 1
            raise DeadLetterError("the broker is away")
        for letter in letters:
            self.kept.setdefault(letter.id, letter)

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        if self.read_failures:
            self.read_failures -= 1
            raise DeadLetterError("the broker is away")
        seen = [letter for letter in self.kept.values() if include_done or letter.id not in self.done]
        await asyncio.sleep(self.read_takes_s)
        for letter in seen:
            yield StoredLetter(letter)

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        self.done |= set(ids)

    async def close(self) -> None:
        self.closed = True


def letter(key: str = "a", version: int = 1, *, holds_key: bool = True, route: str = "search") -> DeadLetter:
    return letter_for_change(
        change(key, version),
        pipeline="orders",
        route=route,
        kind=ErrorKind.REJECTED,
        code="no",
        message="",
        attempts=1,
        first_failed_ms=0,
        last_failed_ms=0,
        format="model",
        holds_key=holds_key,
    )


def office(clock: SimulatedClock) -> tuple[DeadLetterOffice, ToldLetters]:
    destination = ToldLetters()
    return DeadLetterOffice(destination, clock, random.Random(0)), destination


async def bury_and_hold(desk: DeadLetterOffice, one: DeadLetter) -> None:
    """As the courier does it: the key is held when the letter is durable."""
    await desk.bury([one])
    assert one.key is not None
    held = desk.held(one.route)
    held[one.key] = min(one.version, held.get(one.key, one.version))


@simulated
async def test_a_destination_that_is_down_for_a_while_is_tried_until_it_takes_the_letters(
    clock: SimulatedClock,
) -> None:
    desk, destination = office(clock)
    destination.append_failures = 20
    burying = asyncio.ensure_future(desk.bury([letter("a"), letter("b", 2)]))
    await asyncio.sleep(1)
    assert desk.last_error == "the broker is away"
    assert not burying.done()
    await burying
    assert desk.last_error == ""
    assert len(destination.kept) == 2
    assert clock.monotonic() < 20 * 30


@simulated
async def test_waits_between_attempts_grow_but_stay_bounded(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    destination.append_failures = 1000
    burying = asyncio.ensure_future(desk.bury([letter()]))
    await asyncio.sleep(3600)
    tried = 1000 - destination.append_failures
    assert 3600 / 30 <= tried <= 3600 / 15 + 20
    burying.cancel()


@simulated
async def test_letters_are_buried_in_the_order_in_which_they_were_brought(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    destination.append_failures = 3
    await asyncio.gather(*(desk.bury([letter("a", version)]) for version in (1, 2, 3)))
    assert [each.version for each in destination.kept.values()] == [1, 2, 3]


@simulated
async def test_held_keys_are_learned_from_the_letters_each_with_its_first(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await destination.append(
        [letter("a", 7), letter("a", 5), letter("a", 9), letter("b", 1, holds_key=False), letter("c", 3)]
    )
    await destination.mark([letter("c", 3).id], LetterState.REPLAYED)
    await desk.learn_held_keys()
    assert desk.held("search") == {"a": 5}
    assert desk.held("cache") == {}


@simulated
async def test_learning_waits_for_a_destination_that_is_down(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await destination.append([letter("a", 7)])
    destination.read_failures = 5
    learning = asyncio.ensure_future(desk.learn_held_keys())
    await asyncio.sleep(0.5)
    assert desk.last_error == "the broker is away"
    await learning
    assert desk.held("search") == {"a": 7}
    assert desk.last_error == ""


@simulated
async def test_learning_gives_up_in_the_end_since_nothing_may_be_delivered_without_it(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    destination.read_failures = LEARN_FAILURES_MAX
    with pytest.raises(DeadLetterError):
        await desk.learn_held_keys()
    assert 60 < clock.monotonic() < 300


@simulated
async def test_a_key_is_released_when_all_of_its_letters_are_replayed(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    first, second = letter("a", 1), letter("a", 2)
    await bury_and_hold(desk, first)
    await bury_and_hold(desk, second)
    await destination.mark([first.id], LetterState.REPLAYED)
    assert await desk.release() == 0
    assert desk.held("search") == {"a": 1}
    await destination.mark([second.id], LetterState.PURGED)
    assert await desk.release() == 1
    assert desk.held("search") == {}


@simulated
async def test_a_key_of_another_route_is_released_by_its_own_letters(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await bury_and_hold(desk, letter("a", 1, route="search"))
    await bury_and_hold(desk, letter("a", 1, route="cache"))
    await destination.mark([letter("a", 1, route="cache").id], LetterState.REPLAYED)
    assert await desk.release() == 1
    assert (desk.held("search"), desk.held("cache")) == ({"a": 1}, {})


@simulated
async def test_a_key_whose_letter_came_while_the_letters_were_read_stays_held(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await bury_and_hold(desk, letter("a", 1))
    await destination.mark([letter("a", 1).id], LetterState.REPLAYED)
    destination.read_takes_s = 5.0
    releasing = asyncio.ensure_future(desk.release())
    await asyncio.sleep(1)
    await bury_and_hold(desk, letter("a", 2))
    assert await releasing == 0
    assert "a" in desk.held("search")
    assert await desk.release() == 0
    await destination.mark([letter("a", 2).id], LetterState.REPLAYED)
    assert await desk.release() == 1


@simulated
async def test_a_key_whose_letter_is_being_written_stays_held(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await bury_and_hold(desk, letter("a", 1))
    await destination.mark([letter("a", 1).id], LetterState.REPLAYED)
    destination.append_takes_s = 60.0
    burying = asyncio.ensure_future(bury_and_hold(desk, letter("a", 2)))
    await asyncio.sleep(1)
    assert await desk.release() == 0
    assert "a" in desk.held("search")
    await burying


@simulated
async def test_a_key_that_was_learned_while_the_letters_were_read_stays_held(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    desk.held("search")["z"] = 1  # so that there is something to look for
    destination.read_takes_s = 5.0
    releasing = asyncio.ensure_future(desk.release())
    await asyncio.sleep(1)
    destination.read_takes_s = 0.0
    await destination.append([letter("a", 7)])  # by the shard's last owner, another process
    await desk.learn_held_keys()
    assert await releasing == 1
    assert desk.held("search") == {"a": 7}


@simulated
async def test_nothing_is_read_where_nothing_is_held(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    destination.read_failures = 1
    assert await desk.release() == 0


@simulated
async def test_closing_closes_the_destination(clock: SimulatedClock) -> None:
    desk, destination = office(clock)
    await desk.open()
    await desk.close()
    assert destination.closed
