"""Dead letters in SQS and SNS: what arrives there, in which order, and what they cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from connector.change import Record
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.failure_record import letter_of
from connector.deadletter.protocol import DeadLetters, LetterState, LettersUnreadable, is_readable
from connector.deadletter.sns import SNSDeadLetters, SNSDeadLettersConfig
from connector.deadletter.sqs import SQSDeadLetters, SQSDeadLettersConfig
from connector.errors import ConfigError, DeadLetterError
from tests.contract.moto_places import a_queue, a_topic, in_moto, received
from tests.coroutines import asynchronous
from tests.servers.moto import MotoServer
from tests.unit.deadletter.letters import letter

pytestmark = pytest.mark.servers

NOWHERE = "http://127.0.0.1:1"


class Post:
    """A destination with a queue behind it."""

    def __init__(self, destination: Callable[..., DeadLetters], server: MotoServer, queue_url: str) -> None:
        self.make = destination
        self._server = server
        self._queue_url = queue_url

    async def send(self, letters: list[DeadLetter], **options: Any) -> None:
        destination = self.make(**options)
        await destination.open()
        await destination.append(letters)
        await destination.close()

    def bodies(self) -> list[bytes]:
        return [message["Body"].encode() for message in received(self._server, self._queue_url)]


@pytest.fixture(params=["sqs", "sqs by url", "sns"])
def post(request: pytest.FixtureRequest, moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Post:
    in_moto(moto_server, monkeypatch)
    url, arn = a_queue(moto_server)
    place: dict[str, Any] = {"region": moto_server.region, "endpoint": moto_server.endpoint}
    if request.param == "sns":
        place["topic"] = a_topic(moto_server, arn)
        return Post(
            lambda **more: SNSDeadLetters(SNSDeadLettersConfig.model_validate(place | more), "orders"), moto_server, url
        )
    place["queue"] = arn if request.param == "sqs" else url
    return Post(
        lambda **more: SQSDeadLetters(SQSDeadLettersConfig.model_validate(place | more), "orders"), moto_server, url
    )


@asynchronous
async def test_every_letter_arrives_whole_beside_what_lambda_says_of_a_discarded_record(post: Post) -> None:
    letters = [
        *(letter(position) for position in range(1, 24)),
        letter(24, key='{"pk":"\udc80 \u202e\x1b[31m\r\n\x00"}', message="lone \ud800 \uffff surrogate"),
        letter(25, record=Record(25, bytes(range(256)), b"\xff\x00", 5, (("h", b"\xfe"), ("h", None)))),
        letter(int("4" * 56), record=Record(int("4" * 56), None)),
    ]
    await post.send(letters)
    found = post.bodies()
    assert sorted(letter_of(body).id for body in found) == sorted(each.id for each in letters)
    assert {each.id: each for each in map(letter_of, found)} == {each.id: each for each in letters}
    first = next(json.loads(body) for body in found if letter_of(body) == letters[0])
    assert first["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert first["DDBStreamBatchInfo"]["startSequenceNumber"] == "1"


@asynchronous
async def test_a_letter_that_is_too_large_waits_unless_it_may_go_without_its_record(post: Post) -> None:
    large = letter(1, record=Record(1, b"x" * 300_000))
    with pytest.raises(DeadLetterError, match=r"the letter of orders.changes/3:1 has \d+ bytes"):
        await post.send([letter(2), large])
    assert not post.bodies(), "one that waits holds up those that come with it"
    await post.send([letter(2), large], too_large="omit_record")
    found = {each.position: each for each in map(letter_of, post.bodies())}
    assert found[2] == letter(2)
    assert found[1].record.value is None
    assert found[1].key == large.key


@asynchronous
async def test_letters_are_packed_into_calls_that_are_not_too_large(post: Post) -> None:
    letters = [letter(position, record=Record(position, b"x" * 60_000)) for position in range(12)]
    await post.send(letters)
    assert len(post.bodies()) == 12


@asynchronous
async def test_nothing_can_be_read_again_and_that_is_said(post: Post) -> None:
    destination = post.make()
    await destination.open()
    assert not is_readable(destination)
    with pytest.raises(LettersUnreadable, match="cannot be listed or replayed here"):
        async for _ in destination.letters():
            pass
    with pytest.raises(LettersUnreadable):
        await destination.mark(["x"], LetterState.REPLAYED)
    await destination.append([])
    await destination.close()


@asynchronous
async def test_a_place_that_is_not_there_is_a_person_s_and_one_that_is_down_may_pass(post: Post) -> None:
    gone = post.make(
        **{"queue": "arn:aws:sqs:eu-central-1:123456789012:gone"}
        if isinstance(post.make(), SQSDeadLetters)
        else {"topic": "arn:aws:sns:eu-central-1:123456789012:gone"}
    )
    with pytest.raises(ConfigError, match="gone"):
        await gone.open()
    await gone.close()
    down = post.make(endpoint=NOWHERE)
    with pytest.raises(DeadLetterError, match="cannot go to the S"):
        await down.open()
    await down.close()


@asynchronous
async def test_a_fifo_queue_keeps_the_letters_of_a_key_in_order_and_drops_repetitions(
    moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_moto(moto_server, monkeypatch)
    url, arn = a_queue(moto_server, fifo=True)
    place = {"queue": arn, "endpoint": moto_server.endpoint}
    destination = SQSDeadLetters(SQSDeadLettersConfig.model_validate(place), "orders")
    await destination.open()
    letters = [letter(position, key=f'{{"pk":"{position % 3}"}}') for position in range(30)]
    await destination.append(letters)
    await destination.append(letters[:5])
    await destination.close()
    messages = received(moto_server, url)
    assert len(messages) == 30
    by_group: dict[str, list[int]] = {}
    for message in messages:
        position = letter_of(message["Body"].encode()).position
        by_group.setdefault(message["Attributes"]["MessageGroupId"], []).append(position)
    assert sorted(by_group.values()) == [list(range(first, 30, 3)) for first in range(3)]
