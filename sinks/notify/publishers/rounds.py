"""Messages of one key one after another, those of different keys at once: for places that take several in one call.

Such a call may take one message and refuse the next (SQS says so of FIFO queues too). So a call never holds two
messages of one key: the first of each key go in the first round, the second ones in the next, and so on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from sinks.notify.publishers.protocol import Message

Send = Callable[[list[int]], Awaitable[None]]
"""Sends the messages at these places in one call."""


async def send_in_rounds(
    messages: Sequence[Message], sizes: Sequence[int], send: Send, *, count_max: int, bytes_max: int, at_once: int
) -> None:
    """Send each message whose size (bytes) is not negative. A round in which a call raises is the last one.

    Its other calls are let finish, for what they sent is known then; after that the first failure is raised.
    """
    limit = asyncio.Semaphore(at_once)

    async def one(chunk: list[int]) -> None:
        async with limit:
            await send(chunk)

    for places in _rounds(messages, sizes):
        chunks = list(_chunks(places, sizes, count_max, bytes_max))
        failures = await asyncio.gather(*(one(chunk) for chunk in chunks), return_exceptions=True)
        for failure in failures:
            if failure is not None:
                raise failure


def _rounds(messages: Sequence[Message], sizes: Sequence[int]) -> Iterator[list[int]]:
    rounds: list[list[int]] = []
    seen: dict[str, int] = {}
    for at, message in enumerate(messages):
        if sizes[at] < 0:
            continue
        number = seen.get(message.key, 0)
        seen[message.key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(at)
    yield from rounds


def _chunks(places: Sequence[int], sizes: Sequence[int], count_max: int, bytes_max: int) -> Iterator[list[int]]:
    chunk: list[int] = []
    held = 0
    for at in places:
        if chunk and (len(chunk) == count_max or held + sizes[at] > bytes_max):
            yield chunk
            chunk, held = [], 0
        chunk.append(at)
        held += sizes[at]
    if chunk:
        yield chunk
