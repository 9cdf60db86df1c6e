"""Finding in the background: the table's streams, the present stream's shards, again and again, at a bearable pace."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping

import structlog

from connector.change import ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.clock import Clock
from connector.sources.streams.api import Stream, StreamApi, StreamApiError
from connector.sources.streams.backoff import Backoff
from connector.sources.streams.discovery import Discovery, Followed
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.starts import by_stream
from connector.sources.streams.troubles import Troubles

log = structlog.get_logger(__name__)

CALL_EVERY_S = 0.2
"""Between two calls of a listing: DescribeStream may be called ten times a second by everybody in the account."""
SOON_S = 1.0
"""How soon a listing is read again while it owes an answer: the children of a shard that has ended, or whether one that
cannot be read is still there."""
DISCOVERY = "discovery"


class Finder:
    """``news`` is set whenever something was found; ``hurry`` asks for a listing now."""

    def __init__(
        self, api: StreamApi, options: StreamOptions, clock: Clock, chance: random.Random, troubles: Troubles
    ) -> None:
        self.discovery = Discovery(api)
        self.news = True
        self.failure: Exception | None = None
        self.unlisted: dict[str, int] = {}
        """Streams with checkpoints that a listing of streams was without, and how often."""
        self._options = options
        self._clock = clock
        self._chance = chance
        self._troubles = troubles
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, rows: Callable[[], Mapping[ShardId, Checkpoint]], owes_answer: Callable[[], bool]) -> None:
        """Begin. ``rows``: every checkpoint; ``owes_answer``: whether somebody waits for what the listing says."""
        self._task = asyncio.ensure_future(self._find_for_ever(rows, owes_answer))

    def hurry(self) -> None:
        """List again now."""
        self._hurry.set()

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def present(self) -> Followed | None:
        """The stream that is read now: the oldest one that is not over, or the last one."""
        followed = self.discovery.followed
        while len(followed) > 1 and (first := next(iter(followed.values()))).lineage.over:
            self.discovery.drop(first)
            self.news = True
            log.info("stream is read to its end, going on with the next", stream=first.stream.name)
        return next(iter(followed.values()), None)

    async def find_streams(self, rows: Mapping[ShardId, Checkpoint]) -> None:
        """Follow streams that are new: at the very first start all (``latest``: the last), then every later one."""
        new = await self.discovery.find_streams()
        saved = by_stream(rows, self._options.prefix)
        known = {*saved, *self.discovery.followed}
        if not known:
            # What is left of the streams before the present one is a part of what is there.
            for stream in new if self._options.start != "latest" else new[-1:]:
                self.discovery.follow(stream, {}, whole=False)
            return
        first = min(known)
        for stream in new:
            if stream.name >= first:
                self._follow(stream, {id_: rows[stream.shard(id_)] for id_ in saved.get(stream.name, ())})
        for name in saved.keys() - self.discovery.listed - self.discovery.followed.keys():
            self.unlisted[name] = self.unlisted.get(name, 0) + 1

    def _follow(self, stream: Stream, saved: Mapping[str, Checkpoint]) -> None:
        now_ms = self._clock.now_ms()
        finished = {id_: now_ms if one.position == SHARD_END else None for id_, one in saved.items()}
        self.discovery.follow(stream, finished, whole=True)
        log.info("stream found", stream=stream.name)

    async def _find_for_ever(
        self, rows: Callable[[], Mapping[ShardId, Checkpoint]], owes_answer: Callable[[], bool]
    ) -> None:
        backoff = Backoff(CALL_EVERY_S, 20.0)
        try:
            while True:
                try:
                    complete = await self.discovery.step()
                    if complete:
                        await self.find_streams(rows())
                except StreamApiError as error:
                    failures = self._troubles.note(DISCOVERY, error)
                    await self._clock.sleep(backoff.wait_s(failures, self._chance))
                    continue
                self._troubles.passed(DISCOVERY)
                self.news = True
                await self._clock.sleep(CALL_EVERY_S)
                if complete:
                    await self._rest(owes_answer())
        except Exception as error:  # told to the pipeline at its next read
            self.failure = error

    async def _rest(self, owes_answer: bool) -> None:
        """Wait until another listing is due."""
        followed = self.present
        if followed is None or (followed.missing and not followed.lineage.over) or followed.lineage.needs_pass:
            return
        soon = owes_answer or followed.lineage.expects_children
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON_S if soon else self._options.discover_every_s):
                await self._hurry.wait()
        self._hurry.clear()
