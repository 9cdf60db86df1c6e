"""Several destinations in order: when the next is used, when the first again, and what is read from all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from connector.config.specs import PluginSpec
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.fallback import FallbackDeadLetters, FallbackDeadLettersConfig
from connector.deadletter.protocol import LetterState, StoredLetter
from connector.errors import ConfigError, DeadLetterError
from tests.simulation.loop import SimulatedClock
from tests.unit.deadletter.letters import letter, positions, stored
from tests.unit.delivery.builders import simulated


class TableConfig(BaseModel):
    """A name."""

    model_config = ConfigDict(extra="forbid")

    name: str


class Table:
    """A destination in memory that can be down, hang, or be unreadable."""

    config_model: ClassVar[type[BaseModel]] = TableConfig
    made: ClassVar[dict[str, Table]] = {}

    def __init__(self, config: TableConfig, pipeline: str) -> None:
        self.name = config.name
        self.down = False
        self.hangs = False
        self.readable = True
        self.opened = 0
        self.tried = 0
        self.rows: dict[str, StoredLetter] = {}
        Table.made[config.name] = self

    async def open(self) -> None:
        self._check()
        self.opened += 1

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        self.tried += 1
        if self.hangs:
            await asyncio.sleep(1e9)
        self._check()
        for each in letters:
            self.rows.setdefault(each.id, StoredLetter(each))

    async def letters(self, *, include_done: bool = False) -> AsyncIterator[StoredLetter]:
        self._check()
        for row in list(self.rows.values()):
            if include_done or row.state is LetterState.DEAD:
                yield row

    async def mark(self, ids: Sequence[str], state: LetterState, outcome: str = "") -> None:
        self._check()
        for each in ids:
            if each in self.rows:
                self.rows[each] = StoredLetter(self.rows[each].letter, state, outcome)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.down:
            raise DeadLetterError(f"{self.name} is down")


def several(clock: SimulatedClock, **options: Any) -> tuple[FallbackDeadLetters, Table, Table]:
    specs = [PluginSpec("table", Table, TableConfig(name=name)) for name in ("first", "second")]
    config = FallbackDeadLettersConfig.model_construct(
        destinations=specs, **{"after": 30.0, "timeout": 60.0, **options}
    )
    made = FallbackDeadLetters(config, "orders", clock=clock)
    return made, Table.made["first"], Table.made["second"]


async def persist(destination: FallbackDeadLetters, position: int) -> int:
    """Append as the office does: again and again; says how often."""
    for count in range(1, 1000):
        try:
            await destination.append([letter(position)])
        except DeadLetterError:
            await asyncio.sleep(5)
        else:
            return count
    raise AssertionError("never")


@simulated
async def test_the_first_is_used_while_it_works(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    await both.open()
    assert await persist(both, 1) == 1
    assert (len(first.rows), second.tried) == (1, 0)


@simulated
async def test_the_next_is_used_when_the_first_has_failed_for_a_while_and_not_before(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    await both.open()
    first.down = True
    began = clock.monotonic()
    await persist(both, 1)
    assert clock.monotonic() - began == pytest.approx(30)
    assert (len(first.rows), len(second.rows)) == (0, 1)
    tried = first.tried
    assert await persist(both, 2) == 1, "now that it is known, the first is not waited for"
    assert first.tried == tried


@simulated
async def test_a_failure_that_passes_sends_nothing_elsewhere(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    await both.open()
    for _ in range(10):
        first.down = True
        with pytest.raises(DeadLetterError, match=r"destination 1 \(table\): first is down"):
            await both.append([letter(1)])
        await asyncio.sleep(20)
        first.down = False
        await both.append([letter(1)])
        await asyncio.sleep(20)
    assert second.tried == 0


@simulated
async def test_the_first_is_tried_again_now_and_then_and_used_when_it_works(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    await both.open()
    first.down = True
    await persist(both, 1)
    first.down = False
    await persist(both, 2)
    assert len(second.rows) == 2, "it is not due yet"
    await asyncio.sleep(31)
    await persist(both, 3)
    assert [row.letter.position for row in first.rows.values()] == [3]


@simulated
async def test_one_that_hangs_has_failed(clock: SimulatedClock) -> None:
    both, first, second = several(clock, after=30.0, timeout=10.0)
    await both.open()
    first.hangs = True
    assert await persist(both, 1) == 3
    assert len(second.rows) == 1


@simulated
async def test_where_none_works_that_is_said_of_each(clock: SimulatedClock) -> None:
    both, first, second = several(clock, after=0.0)
    await both.open()
    first.down = second.down = True
    with pytest.raises(DeadLetterError, match=r"1 \(table\): first is down; destination 2 \(table\): second is down"):
        await both.append([letter(1)])
    second.down = False
    await both.append([letter(1)])
    assert len(second.rows) == 1


@simulated
async def test_one_that_is_down_at_the_start_is_opened_later(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    first.down = True
    await both.open()
    await asyncio.sleep(31)
    await persist(both, 1)
    assert len(second.rows) == 1
    first.down = False
    await asyncio.sleep(31)
    await persist(both, 2)
    assert (first.opened, len(first.rows)) == (1, 1)
    second.down = True
    first.down = True
    again, first, second = several(clock)
    first.down = second.down = True
    with pytest.raises(DeadLetterError, match="first is down; second is down"):
        await again.open()


@simulated
async def test_letters_are_read_from_all_each_once_and_marked_wherever_they_are(clock: SimulatedClock) -> None:
    both, first, second = several(clock)
    await both.open()
    await first.append([letter(1), letter(2)])
    await second.append([letter(2), letter(3)])
    assert await positions(both) == [1, 2, 3]
    await both.mark([letter(2).id, letter(3).id], LetterState.REPLAYED, "applied")
    assert await positions(both) == [1]
    states = {row.letter.position: row.state for row in await stored(both, include_done=True)}
    assert states == {1: LetterState.DEAD, 2: LetterState.REPLAYED, 3: LetterState.REPLAYED}


@simulated
async def test_one_that_cannot_be_read_hides_no_letters_in_silence(clock: SimulatedClock) -> None:
    both, _, second = several(clock)
    await both.open()
    assert both.readable
    second.down = True
    with pytest.raises(DeadLetterError, match="second is down"):
        await positions(both)
    second.readable = False
    assert not both.readable


def test_options_of_a_destination_that_do_not_fit_are_told_in_their_place() -> None:
    class Picky(Table):
        """Refuses."""

        def __init__(self, config: TableConfig, pipeline: str) -> None:
            raise ConfigError("no such name", path=("name",))

    specs = [PluginSpec("table", table, TableConfig(name="x")) for table in (Table, Picky)]
    config = FallbackDeadLettersConfig.model_construct(destinations=specs, after=1.0, timeout=1.0)
    with pytest.raises(ConfigError) as caught:
        FallbackDeadLetters(config, "orders")
    assert caught.value.path == ("destinations", 1, "name")
