"""The promises, one class each (see the package's own description)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from decimal import Decimal

import pytest

from connector.change import Change, EventName
from connector.errors import SinkUnavailable
from connector.sink import Applied, Outcome, Rejected, Semantics, Sink, Stale
from sinks.testing.building import BASE_VERSION, Item, change, insert, modify, remove

MakeSink = Callable[[], Sink]
ReadState = Callable[[], Awaitable[Mapping[str, Item]]]
ReadEvents = Callable[[], Awaitable[Sequence[str]]]


@contextlib.asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Sink]:
    """The sink between its ``open`` and its ``close``."""
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def write(make_sink: MakeSink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    """Write batches through one opened sink; the outcomes of each."""
    async with opened(make_sink()) as sink:
        return [await sink.write(batch) for batch in batches]


def succeeded(outcomes: Sequence[Outcome]) -> bool:
    """Whether every outcome is a success (applied, or stale: something newer is there)."""
    return all(isinstance(outcome, Applied | Stale) for outcome in outcomes)


class SinkContract:
    """What every sink promises."""

    @pytest.fixture
    def make_sink(self) -> MakeSink:
        """A function that makes the sink under test, always at the same place, which is empty when a test begins."""
        raise NotImplementedError("override the fixture make_sink")

    def test_it_says_what_it_is(self, make_sink: MakeSink) -> None:
        sink = make_sink()
        assert isinstance(sink.semantics, Semantics)
        assert isinstance(sink.place_attributes, frozenset)
        assert type(sink).lanes_default >= 1
        assert type(sink).batch_size_default >= 1
        assert isinstance(type(sink).config_model.model_json_schema(), dict)

    def test_there_is_one_outcome_a_change(self, make_sink: MakeSink) -> None:
        batch = [insert(f"k{n}", {"n": n}, version=n + 1) for n in range(7)]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert len(outcomes) == len(batch)
        assert all(isinstance(outcome, Applied) for outcome in outcomes)

    def test_an_empty_batch_has_no_outcomes(self, make_sink: MakeSink) -> None:
        (outcomes,) = asyncio.run(write(make_sink, []))
        assert list(outcomes) == []

    def test_a_large_batch_is_taken_whole(self, make_sink: MakeSink) -> None:
        batch = [insert(f"k{n}", {"text": "x" * 500}, version=n + 1) for n in range(2500)]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert len(outcomes) == 2500
        assert succeeded(outcomes)

    def test_removing_an_item_that_is_not_there_is_fine(self, make_sink: MakeSink) -> None:
        (outcomes,) = asyncio.run(write(make_sink, [remove("nowhere", old={"n": 1})]))
        assert succeeded(outcomes)

    def test_lanes_write_at_once(self, make_sink: MakeSink) -> None:
        async def lanes() -> list[Sequence[Outcome]]:
            async with opened(make_sink()) as sink:
                return await asyncio.gather(*(sink.write(batch) for batch in batches))

        batches = [
            [insert(f"lane{lane}-{n}", {"n": n}, version=lane * 100 + n + 1) for n in range(50)] for lane in range(8)
        ]
        outcomes = asyncio.run(lanes())
        assert [len(answer) for answer in outcomes] == [50] * 8
        assert all(succeeded(answer) for answer in outcomes)

    def test_it_is_opened_again_after_a_restart(self, make_sink: MakeSink) -> None:
        async def twice() -> list[Sequence[Outcome]]:
            first = await write(make_sink, [insert("a", {"n": 1}, version=1)])
            return first + await write(make_sink, [modify("a", {"n": 2}, old={"n": 1}, version=2)])

        assert all(succeeded(outcomes) for outcomes in asyncio.run(twice()))

    def test_it_may_be_closed_without_having_been_opened(self, make_sink: MakeSink) -> None:
        asyncio.run(make_sink().close())

    def test_it_may_be_closed_twice(self, make_sink: MakeSink) -> None:
        async def close_twice() -> None:
            sink = make_sink()
            await sink.open()
            await sink.close()
            await sink.close()

        asyncio.run(close_twice())


class StateContract(SinkContract):
    """The sink holds each item's last state."""

    @pytest.fixture
    def read_state(self) -> ReadState:
        """A coroutine function: what the place holds now, as value of the key attribute ``pk`` → document."""
        raise NotImplementedError("override the fixture read_state")

    def test_it_holds_the_last_state(self, make_sink: MakeSink, read_state: ReadState) -> None:
        batches = [
            [insert("a", {"name": "Ann"}, version=1), insert("b", {"name": "Bob"}, version=2)],
            [modify("a", {"name": "Ann Lee"}, old={"name": "Ann"}, version=3), remove("b", version=4)],
            [insert("c", {"name": "Cid"}, version=5)],
        ]
        state = self._state_after(make_sink, read_state, *batches)
        assert state == {"a": {"pk": "a", "name": "Ann Lee"}, "c": {"pk": "c", "name": "Cid"}}

    def test_the_changes_of_a_key_in_one_batch_end_in_its_last_state(
        self, make_sink: MakeSink, read_state: ReadState
    ) -> None:
        batch = [
            insert("a", {"n": 1}, version=1),
            insert("b", {"n": 1}, version=2),
            modify("a", {"n": 2}, old={"n": 1}, version=3),
            remove("b", old={"n": 1}, version=4),
            remove("a", old={"n": 2}, version=5),
            insert("a", {"n": 3}, version=6),
        ]
        assert self._state_after(make_sink, read_state, batch) == {"a": {"pk": "a", "n": 3}}

    def test_a_replay_leaves_no_trace(self, make_sink: MakeSink, read_state: ReadState) -> None:
        batch = [
            insert("a", {"n": 1}, version=1),
            insert("b", {"n": 1}, version=2),
            modify("a", {"n": 2}, old={"n": 1}, version=3),
            remove("b", old={"n": 1}, version=4),
        ]
        assert self._state_after(make_sink, read_state, batch, batch, batch[1:]) == {"a": {"pk": "a", "n": 2}}

    def test_any_text_may_be_a_key(self, make_sink: MakeSink, read_state: ReadState) -> None:
        keys = ["ключ", "a b", "{x}", "*?[]", "'; drop table x; --", '"quoted"', "a\r\nb", "emoji 🌊", "%s", "a/b|c"]
        batch = [insert(key, {"n": n}, version=n + 1) for n, key in enumerate(keys)]
        state = self._state_after(make_sink, read_state, batch)
        assert state == {key: {"pk": key, "n": n} for n, key in enumerate(keys)}

    def test_values_of_every_type_arrive(self, make_sink: MakeSink, read_state: ReadState) -> None:
        item = {
            "text": "Grüße 🌊",
            "whole": 2**53 + 1,
            "fraction": Decimal("0.1"),
            "yes": True,
            "nothing": None,
            "nested": {"list": ["one", "two"], "map": {"three": 3}},
            "bytes": b"\x00\xff",
            "tags": frozenset({"x", "y"}),
        }
        state = self._state_after(make_sink, read_state, [insert("a", item)])
        document = dict(state["a"])
        assert document.pop("fraction") in (Decimal("0.1"), 0.1)
        assert document == {
            "pk": "a",
            "text": "Grüße 🌊",
            "whole": 2**53 + 1,
            "yes": True,
            "nothing": None,
            "nested": {"list": ["one", "two"], "map": {"three": 3}},
            "bytes": "AP8=",
            "tags": ["x", "y"],
        }

    @staticmethod
    def _state_after(make_sink: MakeSink, read_state: ReadState, *batches: Sequence[Change]) -> Mapping[str, Item]:
        async def run() -> Mapping[str, Item]:
            outcomes = await write(make_sink, *batches)
            assert all(succeeded(answer) for answer in outcomes), outcomes
            assert [len(answer) for answer in outcomes] == [len(batch) for batch in batches]
            return await read_state()

        return asyncio.run(run())


class VersionedContract(StateContract):
    """An older version never wins against a newer one, however late it comes."""

    def test_an_older_change_that_comes_late_loses(self, make_sink: MakeSink, read_state: ReadState) -> None:
        newer, older = insert("a", {"n": 2}, version=2), insert("a", {"n": 1}, version=1)
        outcomes, state = self._outcomes_and_state(make_sink, read_state, [newer], [older])
        assert isinstance(outcomes[1][0], Stale)
        assert state == {"a": {"pk": "a", "n": 2}}

    def test_an_older_change_that_comes_after_the_removal_does_not_bring_the_item_back(
        self, make_sink: MakeSink, read_state: ReadState
    ) -> None:
        outcomes, state = self._outcomes_and_state(
            make_sink,
            read_state,
            [insert("a", {"n": 1}, version=1)],
            [remove("a", version=3)],
            [modify("a", version=2)],
        )
        assert isinstance(outcomes[2][0], Stale)
        assert state == {}

    def test_a_removal_that_comes_before_the_item_wins(self, make_sink: MakeSink, read_state: ReadState) -> None:
        _, state = self._outcomes_and_state(make_sink, read_state, [remove("a", version=3)], [insert("a", version=1)])
        assert state == {}

    def test_an_older_removal_that_comes_late_loses(self, make_sink: MakeSink, read_state: ReadState) -> None:
        outcomes, state = self._outcomes_and_state(
            make_sink, read_state, [insert("a", {"n": 5}, version=5)], [remove("a", version=4)]
        )
        assert isinstance(outcomes[1][0], Stale)
        assert state == {"a": {"pk": "a", "n": 5}}

    def test_an_item_comes_back_with_a_newer_version(self, make_sink: MakeSink, read_state: ReadState) -> None:
        _, state = self._outcomes_and_state(
            make_sink,
            read_state,
            [insert("a", version=1)],
            [remove("a", version=2)],
            [insert("a", {"n": 3}, version=3)],
        )
        assert state == {"a": {"pk": "a", "n": 3}}

    def test_versions_that_doubles_cannot_tell_apart_are_told_apart(
        self, make_sink: MakeSink, read_state: ReadState
    ) -> None:
        largest = 2**63 - 1 - BASE_VERSION
        batches = [[insert("a", {"n": n}, version=largest - 3 + n)] for n in (1, 3, 2)]
        outcomes, state = self._outcomes_and_state(make_sink, read_state, *batches)
        assert isinstance(outcomes[2][0], Stale)
        assert state == {"a": {"pk": "a", "n": 3}}

    def test_a_stale_change_of_a_batch_does_not_hold_up_the_others(
        self, make_sink: MakeSink, read_state: ReadState
    ) -> None:
        outcomes, state = self._outcomes_and_state(
            make_sink,
            read_state,
            [insert("a", {"n": 9}, version=9)],
            [insert("b", {"n": 1}, version=1), insert("a", {"n": 2}, version=2), insert("c", {"n": 3}, version=3)],
        )
        assert [type(outcome) for outcome in outcomes[1]] == [Applied, Stale, Applied]
        assert state == {"a": {"pk": "a", "n": 9}, "b": {"pk": "b", "n": 1}, "c": {"pk": "c", "n": 3}}

    @staticmethod
    def _outcomes_and_state(
        make_sink: MakeSink, read_state: ReadState, *batches: Sequence[Change]
    ) -> tuple[list[Sequence[Outcome]], Mapping[str, Item]]:
        async def run() -> tuple[list[Sequence[Outcome]], Mapping[str, Item]]:
            outcomes = await write(make_sink, *batches)
            assert all(succeeded(answer) for answer in outcomes), outcomes
            return outcomes, await read_state()

        return asyncio.run(run())


class EventContract(SinkContract):
    """The sink holds each change, in the order of its key."""

    @pytest.fixture
    def read_events(self) -> ReadEvents:
        """A coroutine function: the event ids that the place holds now, in the order in which they were written."""
        raise NotImplementedError("override the fixture read_events")

    def test_it_holds_every_change_in_order(self, make_sink: MakeSink, read_events: ReadEvents) -> None:
        first = [insert("a", {"n": 1}, version=1), insert("b", {"n": 1}, version=2)]
        second = [modify("a", {"n": 2}, old={"n": 1}, version=3), remove("b", old={"n": 1}, version=4)]

        async def run() -> Sequence[str]:
            await write(make_sink, first, second)
            return await read_events()

        assert list(asyncio.run(run())) == [one.event_id for one in (*first, *second)]


class UniqueEventContract(EventContract):
    """A change that is written again is there once."""

    def test_a_replay_leaves_no_trace(self, make_sink: MakeSink, read_events: ReadEvents) -> None:
        batch = [
            insert("a", {"n": 1}, version=1),
            modify("a", {"n": 2}, old={"n": 1}, version=2),
            remove("a", version=3),
        ]

        async def run() -> Sequence[str]:
            outcomes = await write(make_sink, batch[:2], batch, batch)
            assert all(succeeded(answer) for answer in outcomes)
            return await read_events()

        assert list(asyncio.run(run())) == [one.event_id for one in batch]


class ImageContract(SinkContract):
    """A change without the new image that the sink needs is rejected alone."""

    def test_a_change_without_its_image_is_rejected_alone(self, make_sink: MakeSink) -> None:
        batch = [insert("a"), change(EventName.MODIFY, "b", version=2), insert("c", version=3)]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert [type(outcome) for outcome in outcomes] == [Applied, Rejected, Applied]
        assert isinstance(outcomes[1], Rejected)
        assert outcomes[1].reason == "image_missing"


class PoisonContract(SinkContract):
    """A poison change is rejected alone, and the others of its batch are applied."""

    @pytest.fixture
    def poison(self) -> Change:
        """A change that the sink will never accept."""
        raise NotImplementedError("override the fixture poison")

    def test_a_poison_change_is_rejected_alone(self, make_sink: MakeSink, poison: Change) -> None:
        batch = [insert("a", version=1), poison, insert("c", version=2)]
        (outcomes,) = asyncio.run(write(make_sink, batch))
        assert [type(outcome) for outcome in outcomes] == [Applied, Rejected, Applied]

    def test_the_reason_of_a_rejection_is_a_short_word(self, make_sink: MakeSink, poison: Change) -> None:
        ((outcome,),) = asyncio.run(write(make_sink, [poison]))
        assert isinstance(outcome, Rejected)
        assert outcome.reason
        assert outcome.reason == outcome.reason.strip()
        assert len(outcome.reason) <= 64
        assert " " not in outcome.reason


class UnavailableContract(SinkContract):
    """A server that is down is nobody's fault."""

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        """A sink whose server is not there."""
        raise NotImplementedError("override the fixture unreachable_sink")

    def test_a_server_that_is_down_makes_the_sink_unavailable(self, unreachable_sink: Sink) -> None:
        async def run() -> None:
            try:
                with pytest.raises(SinkUnavailable):
                    await unreachable_sink.open()
            finally:
                await unreachable_sink.close()

        asyncio.run(run())
