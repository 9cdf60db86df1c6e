"""A batch on its way: the rate, what went through before a failure, what waits behind a retry, and rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from connector.change import Change
from connector.errors import SinkUnavailable
from connector.sink import APPLIED, Applied, Outcome, Rejected, Retry
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.rounds import send_in_rounds
from sinks.notify.publishers.sending import BEHIND, Sender, TokenBucket
from sinks.notify.publishers.tokens import AWS_CHARS_MAX, hashed_token, plain_token
from sinks.testing import insert


class JumpingClock:
    """Waits by jumping."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now_ms(self) -> int:
        return round(self.at * 1000)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Recorder:
    """A place that takes everything, but for what ``judge`` says."""

    def __init__(self, judge: Callable[[Message], Outcome] = lambda message: APPLIED) -> None:
        self.judge = judge
        self.sent: list[str] = []
        self.calls: list[int] = []

    async def open(self) -> None: ...

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        self.calls.append(len(messages))
        for at, message in enumerate(messages):
            answers[at] = self.judge(message)
            self.sent.append(message.id)

    async def close(self) -> None: ...

    def describe(self) -> str:
        return "a recorder"


def message(name: str, key: str = "") -> Message:
    return Message(id=name, key=key or name, to="", type="t", body=b"{}")


def changes(count: int) -> list[Change]:
    return [insert(f"k{n}", version=n + 1) for n in range(count)]


def send(sender: Sender, names: Sequence[str], keys: Sequence[str] = ()) -> list[Outcome]:
    made = [message(name, keys[at] if keys else "") for at, name in enumerate(names)]
    return asyncio.run(sender.send(changes(len(names)), made))


def test_a_rate_is_kept_however_many_messages_come() -> None:
    clock, place = JumpingClock(), Recorder()
    sender = Sender(place, clock, 100.0)
    began = clock.at
    send(sender, [str(n) for n in range(1010)])
    assert clock.at - began == pytest.approx(10.0, abs=0.02)  # ten of them were in the bucket already
    assert len(place.sent) == 1010
    assert max(place.calls) == 10


def test_a_slow_rate_sends_one_at_a_time() -> None:
    clock, place = JumpingClock(), Recorder()
    began = clock.at
    send(Sender(place, clock, 1 / 60), ["a", "b", "c"])
    assert clock.at - began == pytest.approx(120.0)
    assert place.calls == [1, 1, 1]


def test_a_pause_does_not_save_up_a_thud() -> None:
    clock = JumpingClock()
    bucket = TokenBucket(100.0, clock)
    clock.at += 3600
    assert asyncio.run(bucket.take(1000)) == 10


def test_without_a_rate_a_batch_goes_at_once() -> None:
    place = Recorder()
    send(Sender(place, JumpingClock(), None), ["a", "b", "c"])
    assert place.calls == [3]


def test_what_went_through_before_a_failure_is_not_sent_again() -> None:
    down = True

    def judge(message: Message) -> Outcome:
        if message.id == "c" and down:
            raise SinkUnavailable("down")
        return APPLIED

    place = Recorder(judge)
    sender = Sender(place, JumpingClock(), None)
    with pytest.raises(SinkUnavailable):
        send(sender, ["a", "b", "c", "d"])
    down = False
    assert send(sender, ["a", "b", "c", "d"]) == [APPLIED] * 4
    assert place.sent == ["a", "b", "c", "d"]


def test_the_memory_of_what_went_through_ends_with_the_batch() -> None:
    """The same changes may come again long after, from a checkpoint: nothing says then that they were sent."""
    down = True

    def judge(message: Message) -> Outcome:
        if message.id == "b" and down:
            raise SinkUnavailable("down")
        return APPLIED

    place = Recorder(judge)
    sender = Sender(place, JumpingClock(), None)
    with pytest.raises(SinkUnavailable):
        send(sender, ["a", "b"])
    down = False
    send(sender, ["a", "b"])
    send(sender, ["a", "b"])
    assert place.sent == ["a", "b", "a", "b"]


def test_a_key_waits_behind_its_retry_across_the_slices_of_a_rate() -> None:
    place = Recorder(lambda message: Retry("later") if message.id == "a1" else APPLIED)
    outcomes = send(Sender(place, JumpingClock(), 1.0), ["a1", "b1", "a2"], ["a", "b", "a"])
    assert outcomes == [Retry("later"), APPLIED, BEHIND]
    assert place.sent == ["a1", "b1"]


def test_what_has_its_outcome_is_not_sent() -> None:
    place = Recorder()
    made: list[Message | Outcome] = [message("a"), Rejected("bad"), message("c")]
    outcomes = asyncio.run(Sender(place, JumpingClock(), None).send(changes(3), made))
    assert [type(outcome) for outcome in outcomes] == [Applied, Rejected, Applied]
    assert place.sent == ["a", "c"]


# Rounds


def in_rounds(keys: str, sizes: Sequence[int] | None = None, **limits: int) -> list[list[int]]:
    calls: list[list[int]] = []

    async def call(places: list[int]) -> None:
        calls.append(places)

    made = [message(f"{key}{at}", key) for at, key in enumerate(keys)]
    bounds = {"count_max": 10, "bytes_max": 1000, "at_once": 1} | limits
    asyncio.run(send_in_rounds(made, sizes or [1] * len(keys), call, **bounds))
    return calls


def test_a_call_holds_a_key_once() -> None:
    assert in_rounds("abacab") == [[0, 1, 3], [2, 5], [4]]


def test_a_call_holds_so_many_messages_and_bytes() -> None:
    assert in_rounds("abcde", count_max=2) == [[0, 1], [2, 3], [4]]
    assert in_rounds("abcde", [400, 400, 400, 1500, 10]) == [[0, 1], [2], [3], [4]]


def test_what_is_answered_already_is_left_out() -> None:
    assert in_rounds("aab", [-1, 1, 1]) == [[1, 2]]


def test_no_round_follows_one_that_failed_and_its_other_calls_end_first() -> None:
    ended: list[list[int]] = []

    async def call(places: list[int]) -> None:
        if places == [0]:
            raise SinkUnavailable("down")
        await asyncio.sleep(0)
        ended.append(places)

    async def run() -> None:
        made = [message("a1", "a"), message("b1", "b"), message("a2", "a")]
        await send_in_rounds(made, [1, 1, 1], call, count_max=1, bytes_max=10, at_once=2)

    with pytest.raises(SinkUnavailable):
        asyncio.run(run())
    assert ended == [[1]]


# Tokens


def test_an_id_that_is_plain_stays_as_it_is() -> None:
    assert plain_token("orders.changes/3:123:0") == "orders.changes/3:123:0"


@pytest.mark.parametrize("text", ["a b", "ключ", "x" * (AWS_CHARS_MAX + 1), "a\nb", "", "\ud800"])
def test_an_id_that_is_not_plain_becomes_one(text: str) -> None:
    assert plain_token(text) == hashed_token(text)
    assert len(plain_token(text)) == 64
