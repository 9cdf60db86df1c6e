"""Dead letters as messages of a queue or topic: packed into calls within its limits, in order where it keeps one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from connector.deadletter.envelope import DeadLetter
from connector.deadletter.failure_record import failure_record
from connector.errors import DeadLetterError

MESSAGES_AT_ONCE = 10
"""The limit of one call, of SQS and SNS alike."""

TooLarge = Literal["wait", "omit_record"]


class Message(msgspec.Struct, frozen=True):
    """One letter on its way."""

    id: str
    """The letter's: what a queue that keeps order tells repetitions by."""
    group: str
    """The same for all letters of one key: what such a queue keeps in order."""
    body: str


def messages_of(letters: Sequence[DeadLetter], *, bytes_max: int, too_large: TooLarge, what: str) -> list[Message]:
    """Letters as messages. Raises DeadLetterError for one that is too large, unless its record may be left out."""
    return [_message(letter, bytes_max, too_large, what) for letter in letters]


def packed(messages: Sequence[Message], bytes_max: int) -> Iterator[list[Message]]:
    """The messages in calls: each within the limits on number and bytes (one at least)."""
    call: list[Message] = []
    size = 0
    for message in messages:
        length = len(message.body.encode())
        if call and (len(call) == MESSAGES_AT_ONCE or size + length > bytes_max):
            yield call
            call, size = [], 0
        call.append(message)
        size += length
    if call:
        yield call


def _message(letter: DeadLetter, bytes_max: int, too_large: TooLarge, what: str) -> Message:
    body = _without_nonmembers(failure_record(letter))
    if len(body) > bytes_max and too_large == "omit_record":
        body = _without_nonmembers(failure_record(letter, with_record=False))
    if len(body) > bytes_max:
        raise DeadLetterError(
            f"the letter of {letter.shard}:{letter.position} has {len(body)} bytes, and {what} takes {bytes_max}: "
            "raise bytes_max as far as its own limit, put a fallback behind it, or say too_large: omit_record"
        )
    of_key = "\x00".join((letter.pipeline, letter.route, letter.key or letter.shard))
    group = blake2b(of_key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Message(letter.id, group, body.decode())


def _without_nonmembers(text: bytes) -> bytes:
    """Queues take what XML 1.0 takes: JSON has escaped control characters already, here U+FFFE and U+FFFF are."""
    return text.replace(b"\xef\xbf\xbe", b"\\ufffe").replace(b"\xef\xbf\xbf", b"\\uffff")
