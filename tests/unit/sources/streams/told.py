"""A stream API that answers as it is told, for tests of the reader and the poller."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from connector.change import Record
from connector.sources.streams.api import RecordPage, ShardPage, Stream, StreamApiError
from connector.sources.streams.positions import Place
from connector.sources.streams.reader import ShardReader
from tests.simulation.loop import SimulatedClock

STREAM = Stream("arn", "orders/label")
SHARD = "orders/label/s"


def page(*positions: int, end: bool = False, behind_ms: int | None = None, written_ms: int = 0) -> RecordPage:
    records = [Record(position, b"x" * 10, timestamp_ms=written_ms) for position in positions]
    return RecordPage(records, None if end else "next", behind_ms)


class ToldApi:
    """Pages and errors come in the order in which they were told; then empty pages."""

    def __init__(self, *answers: RecordPage | StreamApiError, timestamps: bool = False) -> None:
        self.has_timestamps = timestamps
        self.answers = list(answers)
        self.iterator_errors: list[StreamApiError] = []
        self.places: list[Place] = []
        self.asked_s: list[float] = []
        self.at_once = 0
        self.most_at_once = 0
        self.takes_s = 0.0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def streams(self) -> Sequence[Stream]:
        return [STREAM]

    async def describe(self, stream: Stream, after: str | None) -> ShardPage:
        raise NotImplementedError

    async def iterator(self, stream: Stream, shard: str, place: Place) -> str:
        self.places.append(place)
        if self.iterator_errors:
            raise self.iterator_errors.pop(0)
        return "first"

    async def records(self, iterator: str, limit: int) -> RecordPage:
        self.asked_s.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        answer = self.answers.pop(0) if self.answers else page()
        if isinstance(answer, StreamApiError):
            raise answer
        return answer


def a_reader(
    api: ToldApi,
    clock: SimulatedClock,
    position: int = 0,
    *,
    id_: str = "s",
    exact: bool = True,
    exactly_since: bool = False,
    skip: bool = False,
) -> ShardReader:
    return ShardReader(
        api,
        STREAM,
        id_,
        position,
        exact=exact,
        exactly_since=exactly_since,
        trimmed="skip" if skip else "stop",
        clock=clock,
    )
