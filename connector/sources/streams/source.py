"""A stream as a source: finds its shards, reads those that may be read, ends those that are finished."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence

import structlog

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint, CheckpointStore
from connector.errors import CheckpointError, ConfigError, SourceError
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.streams.api import NotFound, Stream, StreamApi, StreamApiError
from connector.sources.streams.backoff import Backoff
from connector.sources.streams.discovery import Discovery, Followed
from connector.sources.streams.lineage import PASSES_TO_BELIEVE
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.poller import Poller
from connector.sources.streams.positions import TRIM_HORIZON
from connector.sources.streams.reader import ShardReader
from connector.sources.streams.starts import by_stream, first_checkpoints
from connector.sources.streams.troubles import Troubles

log = structlog.get_logger(__name__)

CALL_EVERY_S = 0.2
"""Between two calls of a listing: DescribeStream may be called ten times a second by everybody in the account."""
CHILDREN_EVERY_S = 1.0
"""How soon a listing is read again while the children of a shard that has ended are not in it."""
DISCOVERY = "discovery"


class StreamSource:
    """What the pipeline calls (connector.sources.protocol.Source, but for making it).

    Shards are found in the background; whatever the pipeline must hear of is told to it inside ``read``.
    """

    positions_count = False

    def __init__(self, api: StreamApi, options: StreamOptions, context: SourceContext) -> None:
        self.retention_s = options.retention_s
        self._api = api
        self._options = options
        self._clock = context.clock
        self._chance = random.Random()  # noqa: S311 - jitter, nothing secret
        self._troubles = Troubles(context.clock)
        self._discovery = Discovery(api)
        self._poller = Poller(
            context.clock,
            self._chance,
            self._troubles,
            calls_at_once=options.calls_at_once,
            idle_every_s=options.idle_every_s,
            bytes_ahead=options.bytes_ahead,
        )
        self._discovering: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._news = True
        """Something was found or finished: look at what may begin."""
        self._failure: Exception | None = None
        self._paused = False
        self._owned: dict[ShardId, tuple[Followed, str]] = {}
        self._ending: set[ShardId] = set()
        self._saved: dict[ShardId, Checkpoint] = {}
        self._unlisted: dict[str, int] = {}
        """Streams with checkpoints that a listing of streams was without, and how often."""
        self._lost = 0
        self._clock_before = 0
        """The greatest version clock of the streams before the present one."""

    @property
    def last_error(self) -> str:
        """Why the stream cannot be read at present, or why nothing will come; empty where all is well."""
        if error := self._troubles.last_error:
            return error
        followed = self._present()
        if self._options.follows and followed is not None and followed.lineage.over and not self._owned:
            return f"the stream {followed.stream.name} is disabled and read to its end; waiting for a new one"
        return ""

    @property
    def skipped(self) -> int:
        """How often something was lost unread and skipped (``trimmed: skip``)."""
        return self._poller.skipped + self._lost

    @property
    def assigned_all(self) -> bool:
        """Whether every shard that there is was assigned (or is finished): only owned ones have more to read."""
        if len(self._discovery.followed) != 1 or self._news:
            return False
        (followed,) = self._discovery.followed.values()
        lineage = followed.lineage
        return followed.placed and not (lineage.unread or lineage.needs_pass or lineage.expects_children)

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Find the stream. Raises ConfigError where there is none; a service that does not answer is waited for."""
        self._listener = listener
        self._checkpoints = checkpoints
        await self._api.open()
        self._saved = dict(await checkpoints.all())
        try:
            await self._find_streams()
        except NotFound as error:
            raise ConfigError(str(error)) from error
        except StreamApiError as error:
            self._troubles.note(DISCOVERY, error)
        else:
            if not self._discovery.followed:
                raise ConfigError(f"{self._options.prefix!r} has no stream to read: enable one for the table")
        self._discovering = asyncio.ensure_future(self._discover())

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """What has come of any shards. None when a single stream (not a table's) is over. Raises SourceError."""
        await self._settle()
        if self._is_over():
            return None
        if self._paused:
            await self._clock.sleep(wait_s)
            return []
        batches = await self._poller.take(records_max, wait_s)
        self._ending.update(batch.shard for batch in batches if batch.next_position == SHARD_END)
        return batches

    async def pause(self) -> None:
        """Ask for no more records."""
        self._paused = True
        self._poller.pause()

    async def resume(self) -> None:
        """Go on: iterators that have expired meanwhile are made anew."""
        self._paused = False
        self._poller.resume()

    async def ends(self) -> Mapping[ShardId, Position]:
        """Of the shards that are read up to their tips, where they stand."""
        return self._poller.tips()

    async def close(self) -> None:
        """End all that is under way."""
        if self._discovering is not None:
            self._discovering.cancel()
            await asyncio.gather(self._discovering, return_exceptions=True)
        await self._poller.close()
        await self._api.close()

    def describe(self) -> str:
        """One line for people: what was found."""
        return ", ".join(self._discovery.followed) or "no stream found yet"

    # In the background: finding.

    async def _discover(self) -> None:
        """List streams and shards again and again."""
        backoff = Backoff(CALL_EVERY_S, 20.0)
        try:
            while True:
                try:
                    complete = await self._discovery.step()
                    if complete:
                        await self._find_streams()
                except StreamApiError as error:
                    failures = self._troubles.note(DISCOVERY, error)
                    await self._clock.sleep(backoff.wait_s(failures, self._chance))
                    continue
                self._troubles.passed(DISCOVERY)
                self._news = True
                await self._clock.sleep(CALL_EVERY_S)
                if complete:
                    await self._rest()
        except Exception as error:
            self._failure = error

    async def _rest(self) -> None:
        """Wait until another listing is due."""
        lineages = [followed.lineage for followed in self._discovery.followed.values()]
        if any(lineage.needs_pass for lineage in lineages) or not lineages:
            return
        soon = any(lineage.expects_children for lineage in lineages) or self._poller.missing
        wait_s = CHILDREN_EVERY_S if soon else self._options.discover_every_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        self._hurry.clear()

    async def _find_streams(self) -> None:
        """Follow streams that are new: at the very first start the latest one, then every later one."""
        new = await self._discovery.find_streams()
        saved = by_stream(self._saved, self._options.prefix)
        known = {*saved, *self._discovery.followed}
        if not known:
            if new:
                self._discovery.follow(new[-1], {}, whole=False)
            return
        first = min(known)
        for stream in new:
            if stream.name >= first:
                self._follow(stream, saved.get(stream.name, ()))
        listed = {*(stream.name for stream in new), *self._discovery.followed}
        for name in saved.keys() - listed:
            self._unlisted[name] = self._unlisted.get(name, 0) + 1

    def _follow(self, stream: Stream, ids: Sequence[str]) -> None:
        now_ms = self._clock.now_ms()
        ended = {id_: self._saved[stream.shard(id_)].position == SHARD_END for id_ in ids}
        self._discovery.follow(stream, {id_: now_ms if done else None for id_, done in ended.items()}, whole=True)
        log.info("stream found", stream=stream.name)

    # Inside read: what the pipeline must hear of.

    async def _settle(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ending:
            await self._end_shards()
        if self._poller.missing:
            self._look_for_lost_readers()
        if self._news:
            self._news = False
            try:
                await self._look()
            except CheckpointError as error:
                self._news = True
                log.warning("the checkpoint store failed, trying again", error=str(error))
                await self._clock.sleep(CALL_EVERY_S)

    async def _end_shards(self) -> None:
        for shard, checkpoint in (await self._listener.ended(self._ending)).items():
            self._ending.discard(shard)
            followed, id_ = self._owned.pop(shard)
            self._poller.remove([shard])
            self._saved[shard] = checkpoint
            followed.lineage.finish(id_, self._clock.now_ms())
            self._news = True
            self._hurry.set()

    async def _look(self) -> None:
        """Begin what may begin."""
        self._look_for_lost_streams()
        followed = self._present()
        if followed is None:
            return
        lineage = followed.lineage
        if followed.missing >= PASSES_TO_BELIEVE and not lineage.over:
            await self._give_up(
                followed, [], f"the stream {followed.stream.name} is gone before it was read to its end"
            )
        if lineage.passes and not followed.placed:
            await self._place(followed)
        if not followed.placed:
            return
        for orphan in lineage.orphans():
            self._lose(f"{followed.stream.shard(orphan)}: the shard before it is gone and was never read to its end")
            lineage.forgive(orphan)
        if gone := lineage.gone():
            names = [followed.stream.shard(id_) for id_ in gone]
            await self._give_up(followed, gone, f"{', '.join(names[:3])}: gone before it was read ({len(gone)} in all)")
        await self._begin(followed, lineage.startable())
        old = lineage.forgettable(self._clock.now_ms(), round(self.retention_s * 1000))
        if old:
            await self._checkpoints.reset([followed.stream.shard(id_) for id_ in old])
            lineage.forget(old)

    def _present(self) -> Followed | None:
        """The stream that is read now: the oldest one that is not over, or the last one."""
        while len(self._discovery.followed) > 1:
            first = next(iter(self._discovery.followed.values()))
            if not first.lineage.over:
                return first
            clocks = [each.clock for shard, each in self._saved.items() if shard.startswith(f"{first.stream.name}/")]
            self._clock_before = max(self._clock_before, *clocks, 0)
            self._discovery.drop(first)
            self._news = True
            log.info("stream is read to its end, going on with the next", stream=first.stream.name)
        return next(iter(self._discovery.followed.values()), None)

    async def _place(self, followed: Followed) -> None:
        """Settle where a stream's first shards begin. What was found of a stream that is read already is settled."""
        lineage = followed.lineage
        if not lineage.whole:
            checkpoints = first_checkpoints(followed, self._options, self._clock.now_ms())
            if checkpoints:
                await self._checkpoints.save(checkpoints)
            self._saved |= checkpoints
            ids = {shard.rpartition("/")[2]: checkpoint for shard, checkpoint in checkpoints.items()}
            lineage.remember(ids)
            for id_, checkpoint in ids.items():
                if checkpoint.position == SHARD_END:
                    lineage.finish(id_, self._clock.now_ms())
        followed.placed = True

    async def _begin(self, followed: Followed, ids: Sequence[str]) -> None:
        if not ids:
            return
        stream, lineage = followed.stream, followed.lineage
        assigned: dict[ShardId, Checkpoint] = {}
        for id_ in ids:
            shard = stream.shard(id_)
            saved = self._saved.get(shard, Checkpoint(TRIM_HORIZON))
            parents = [self._saved.get(stream.shard(parent)) for parent in lineage.parents(id_)]
            above = [parent.clock for parent in parents if parent is not None]
            assigned[shard] = Checkpoint(saved.position, max(saved.clock, *above, 0 if above else self._clock_before))
        await self._listener.assigned(assigned)
        for id_, (shard, checkpoint) in zip(ids, assigned.items(), strict=True):
            lineage.begin(id_)
            self._owned[shard] = followed, id_
            self._poller.add(
                ShardReader(
                    self._api,
                    stream,
                    id_,
                    checkpoint.position,
                    exact=lineage.whole or not lineage.is_remembered(id_),
                    trimmed=self._options.trimmed,
                    clock=self._clock,
                )
            )

    # What is lost.

    def _lose(self, what: str) -> None:
        """Something is gone unread. Raises SourceError unless that may be."""
        if self._options.trimmed == "stop":
            kept = f"the stream keeps records for {self.retention_s / 3600:g} h"
            raise SourceError(f"{what}: changes are lost ({kept}). `trimmed: skip` goes on without them")
        self._lost += 1
        log.error("changes are skipped: they were lost unread", reason=what)

    async def _give_up(self, followed: Followed, ids: Sequence[str], what: str) -> None:
        """Count these shards as finished (without any: the whole stream), if that may be."""
        self._lose(what)
        stream, lineage = followed.stream, followed.lineage
        for shard, (of, _) in self._owned.items():
            if not ids and of is followed:
                self._poller.end(shard)
        ended = {
            stream.shard(id_): Checkpoint(SHARD_END, self._saved.get(stream.shard(id_), Checkpoint(0)).clock)
            for id_ in (ids or lineage.waiting())
        }
        await self._checkpoints.save(ended)
        self._saved |= ended
        for shard in ended:
            lineage.finish(shard.rpartition("/")[2], self._clock.now_ms())
        lineage.ended |= not ids
        self._news = True

    def _look_for_lost_readers(self) -> None:
        """Shards that are being read and that the API does not know: lost, if the listing is without them, too."""
        for shard in sorted(self._poller.missing):
            followed, id_ = self._owned[shard]
            if followed.lineage.vanished(id_):
                self._lose(f"{shard}: gone before it was read to its end")
                self._poller.end(shard)

    def _look_for_lost_streams(self) -> None:
        """Streams with unfinished shards that are not there any more."""
        for name, times in list(self._unlisted.items()):
            if times < PASSES_TO_BELIEVE:
                continue
            shards = [shard for shard in self._saved if shard.rpartition("/")[0] == name]
            if any(self._saved[shard].position != SHARD_END for shard in shards):
                self._lose(f"the stream {name} is gone before it was read to its end")
            self._clock_before = max([self._clock_before, *(self._saved[shard].clock for shard in shards)])
            for shard in shards:
                del self._saved[shard]
            del self._unlisted[name]

    def _is_over(self) -> bool:
        if self._options.follows or self._owned or self._news:
            return False
        followed = self._present()
        return followed is not None and followed.lineage.over
