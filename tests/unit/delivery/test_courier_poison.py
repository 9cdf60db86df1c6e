"""What follows a poison change: its key's later changes, and the earlier ones that it superseded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from connector.change import Change
from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.delivery.counts import Ending
from connector.delivery.courier import StoppedByPoison
from connector.delivery.lane import Refusal
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.delivery.route import Sifted
from connector.sink import APPLIED, Outcome, Rejected, Retry, Semantics
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Answer, Bench, ToldSink, change, ledger, simulated

QUICK = RoutePolicy(retry_attempts=1, backoff_initial_s=0.01, backoff_max_s=0.1)
HOLD = RoutePolicy(retry_attempts=1, backoff_initial_s=0.01, backoff_max_s=0.1, on_poison=OnPoison.HOLD_KEY)
STOP = RoutePolicy(retry_attempts=1, backoff_initial_s=0.01, backoff_max_s=0.1, on_poison=OnPoison.STOP)


def rejecting(*poison: int) -> Answer:
    return lambda batch: [Rejected("no") if each.version in poison else APPLIED for each in batch]


def refusing(*refused: int) -> object:
    def sieve(changes: Sequence[Change]) -> Sifted:
        return Sifted(
            [each for each in changes if each.version not in refused],
            [],
            [Refusal(each, "image_missing", "no image") for each in changes if each.version in refused],
        )

    return sieve


def kinds(bench: Bench) -> dict[int, ErrorKind]:
    return {letter.version: letter.kind for letter in bench.letters}


@simulated
async def test_continue_lets_later_changes_of_the_key_go_on(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(1)), QUICK)
    await bench.send([change("a", 1), change("a", 2)])
    assert bench.ends() == {1: Ending.DEAD_LETTERED, 2: Ending.APPLIED}
    assert not bench.letters[0].holds_key


@simulated
async def test_a_superseded_predecessor_stands_in_for_a_last_change_that_is_poison(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(4, 3), semantics=Semantics.STATE), QUICK)
    await bench.send([change("a", 1), change("a", 2), change("a", 3), change("b", 9), change("a", 4)])
    assert bench.sink.calls == [[4, 9], [3], [2]]
    assert bench.ends() == {
        1: Ending.SUPERSEDED,
        2: Ending.APPLIED,
        3: Ending.DEAD_LETTERED,
        4: Ending.DEAD_LETTERED,
        9: Ending.APPLIED,
    }
    assert bench.ledger.idle


@simulated
async def test_hold_key_sends_later_changes_of_the_key_behind_the_letter(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(2)), HOLD)
    await bench.send([change("a", 1), change("a", 2), change("b", 3), change("a", 4)])
    await bench.send([change("a", 5), change("b", 6)])
    assert kinds(bench) == {2: ErrorKind.REJECTED, 4: ErrorKind.HELD, 5: ErrorKind.HELD}
    assert bench.ends()[6] is Ending.APPLIED
    assert all(letter.holds_key for letter in bench.letters)
    assert [letter.version for letter in bench.letters] == [2, 4, 5]
    assert bench.route.held == {"a": 2}


@simulated
async def test_hold_key_holds_what_a_held_change_had_superseded_but_not_what_is_older_than_the_letter(
    clock: SimulatedClock,
) -> None:
    bench = Bench(clock, ToldSink(semantics=Semantics.STATE), HOLD)
    bench.route.held["a"] = 3  # its letter is of version 3
    await bench.send([change("a", version) for version in (1, 2, 4, 5)])
    assert kinds(bench) == {4: ErrorKind.HELD, 5: ErrorKind.HELD}
    assert [letter.version for letter in bench.letters] == [4, 5]
    assert bench.sink.calls == [[2]]
    assert bench.ends() == {
        1: Ending.SUPERSEDED,
        2: Ending.APPLIED,
        4: Ending.DEAD_LETTERED,
        5: Ending.DEAD_LETTERED,
    }


@simulated
async def test_a_replay_of_the_letter_itself_is_not_held_behind_itself(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), HOLD)
    bench.route.held["a"] = 3
    await bench.send([change("a", 3)])
    assert bench.ends() == {3: Ending.APPLIED}


@pytest.mark.parametrize("semantics", list(Semantics))
def test_a_refusal_holds_the_keys_later_changes_and_lets_earlier_ones_pass(semantics: Semantics) -> None:
    @simulated
    async def check(clock: SimulatedClock) -> None:
        bench = Bench(clock, ToldSink(semantics=semantics), HOLD, sieve=refusing(2))  # type: ignore[arg-type]
        await bench.send([change("a", 1), change("a", 2), change("a", 3), change("b", 4)])
        assert kinds(bench) == {2: ErrorKind.FILTER, 3: ErrorKind.HELD}
        assert bench.ends() == {
            1: Ending.APPLIED,
            2: Ending.DEAD_LETTERED,
            3: Ending.DEAD_LETTERED,
            4: Ending.APPLIED,
        }
        assert (bench.letters[0].code, bench.letters[0].attempts) == ("image_missing", 0)

    check()


@simulated
async def test_a_refusal_under_continue_is_a_letter_and_nothing_more(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), QUICK, sieve=refusing(1))  # type: ignore[arg-type]
    await bench.send([change("a", 1), change("a", 2)])
    assert kinds(bench) == {1: ErrorKind.FILTER}
    assert bench.ends()[2] is Ending.APPLIED


@simulated
async def test_stop_leaves_the_poison_change_unfinished_and_says_where_it_is(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(rejecting(2)), STOP)
    with pytest.raises(StoppedByPoison, match=r"log/0:2 is poison \(rejected, no\)"):
        await bench.send([change("secret", 1), change("secret", 2), change("secret", 3)])
    assert bench.ends() == {1: Ending.APPLIED}
    assert not bench.letters
    assert [3] not in bench.sink.calls
    assert bench.ledger.watermark is None
    assert bench.ledger.counts[0].in_flight == 2
    assert "secret" not in bench.route.tally.stopped_reason, "a key is made of attribute values"
    assert "log/0:2" in bench.route.tally.stopped_reason


@simulated
async def test_stop_tries_again_what_may_pass_before_it_stops(clock: SimulatedClock) -> None:
    answers: Iterator[Outcome] = iter([Retry("busy"), APPLIED])

    def answer(batch: Sequence[Change]) -> Sequence[Outcome]:
        return [next(answers) for _ in batch]

    bench = Bench(clock, ToldSink(answer), STOP)
    await bench.send([change("a", 1)])
    assert bench.ends() == {1: Ending.APPLIED}


@simulated
async def test_stop_applies_to_what_a_filter_cannot_judge(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), STOP, sieve=refusing(1))  # type: ignore[arg-type]
    with pytest.raises(StoppedByPoison, match="filter, image_missing"):
        await bench.send([change("a", 1)])


@simulated
async def test_what_belongs_to_a_lost_shard_ends_as_abandoned_and_is_written_no_more(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(semantics=Semantics.STATE), RoutePolicy())
    ours = ledger("log/1")
    bench.accept([change("a", 1), change("a", 2), change("b", 3)])
    bench.accept([change("c", 4, shard="log/1")], into=ours)
    bench.ledger.lost = True
    bench.start()
    await bench.settle()
    assert bench.sink.calls == [[4]]
    assert bench.ends() == {1: Ending.ABANDONED, 2: Ending.ABANDONED, 3: Ending.ABANDONED, 4: Ending.APPLIED}
    assert bench.ledger.unsaved is None
    assert ours.idle


@simulated
async def test_a_shard_that_is_lost_while_its_change_is_retried_is_let_go_of(clock: SimulatedClock) -> None:
    policy = RoutePolicy(retry_attempts=1000, backoff_initial_s=1.0, backoff_max_s=1.0)
    sink = ToldSink(lambda batch: [Retry("busy") for _ in batch], semantics=Semantics.STATE)
    bench = Bench(clock, sink, policy)
    bench.accept([change("a", 1), change("a", 2)])
    bench.start()
    await asyncio.sleep(10)
    bench.ledger.lost = True
    await bench.settle()
    assert bench.ends() == {1: Ending.ABANDONED, 2: Ending.ABANDONED}
    assert clock.monotonic() < 13


@simulated
async def test_a_lost_shards_changes_stand_for_nothing_of_another_shard(clock: SimulatedClock) -> None:
    sink = ToldSink(semantics=Semantics.STATE)
    bench = Bench(clock, sink, QUICK)
    ours = ledger("log/1")
    bench.accept([change("a", 1, shard="log/1"), change("a", 2, shard="log/1")], into=ours)
    bench.accept([change("a", 7)])
    bench.ledger.lost = True
    bench.start()
    await bench.settle()
    assert bench.ends() == {1: Ending.SUPERSEDED, 2: Ending.APPLIED, 7: Ending.ABANDONED}


@simulated
async def test_a_refusal_of_a_lost_shard_becomes_no_letter(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(), QUICK, sieve=refusing(1))  # type: ignore[arg-type]
    bench.accept([change("a", 1)])
    bench.ledger.lost = True
    bench.start()
    await bench.settle()
    assert bench.ends() == {1: Ending.ABANDONED}
    assert not bench.letters


@simulated
async def test_a_key_is_held_only_when_its_letter_is_durable(clock: SimulatedClock) -> None:
    durable = asyncio.Event()

    async def bury(letters: Sequence[DeadLetter]) -> None:
        await durable.wait()

    bench = Bench(clock, ToldSink(rejecting(1)), HOLD, bury=bury)
    bench.accept([change("a", 1), change("a", 2)])
    bench.start()
    await asyncio.sleep(5)
    assert not bench.route.held
    assert bench.sink.calls == [[1]], "what comes behind waits for the letter"
    durable.set()
    await bench.settle()
    assert bench.route.held == {"a": 1}
    assert bench.ends() == {1: Ending.DEAD_LETTERED, 2: Ending.DEAD_LETTERED}


@simulated
async def test_changes_of_one_record_have_letters_of_their_own(clock: SimulatedClock) -> None:
    bench = Bench(clock, ToldSink(lambda batch: [Rejected("no")] * len(batch)), QUICK)
    bench.accept([change("a", 5, index=index) for index in range(3)])
    bench.start()
    await bench.settle()
    assert len({letter.id for letter in bench.letters}) == 3
    assert [(letter.position, letter.index) for letter in bench.letters] == [(5, 0), (5, 1), (5, 2)]
