"""A stream as a source: reads the shards whose turn has come, ends those that are finished, and misses what is lost."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

import structlog

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint, CheckpointStore
from connector.errors import CheckpointError, ConfigError, SourceError
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.streams.api import NotFound, StreamApi, StreamApiError
from connector.sources.streams.discovery import Followed
from connector.sources.streams.finder import CALL_EVERY_S, DISCOVERY, Finder
from connector.sources.streams.lineage import PASSES_TO_BELIEVE
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.ownership import Ownership, SoleOwner
from connector.sources.streams.poller import Poller
from connector.sources.streams.positions import TRIM_HORIZON
from connector.sources.streams.reader import ShardReader
from connector.sources.streams.starts import first_checkpoints
from connector.sources.streams.troubles import Troubles

log = structlog.get_logger(__name__)


class StreamSource:
    """What the pipeline calls (connector.sources.protocol.Source, but for making it), and the reading of shards as
    whoever decides whose they are sees it (connector.sources.streams.ownership.Reading).

    Without ``owner`` all shards are read here, with the pipeline's checkpoint store.
    """

    positions_count = False

    def __init__(
        self,
        api: StreamApi,
        options: StreamOptions,
        context: SourceContext,
        chance: random.Random,
        owner: Ownership | None = None,
    ) -> None:
        self.retention_s = options.retention_s
        self._api = api
        self._options = options
        self._clock = context.clock
        self._troubles = Troubles(context.clock)
        self._finder = Finder(api, options, context.clock, chance, self._troubles)
        self._poller = Poller(
            context.clock,
            chance,
            self._troubles,
            calls_at_once=options.calls_at_once,
            idle_every_s=options.idle_every_s,
            bytes_ahead=options.bytes_ahead,
        )
        self._leased = owner is not None
        self._exactly = owner is not None
        """Whether a start at the end of the stream must lose nothing that comes after the moment when it was saved."""
        self._owner: Ownership | None = owner
        self._paused = False
        self._owned: dict[ShardId, tuple[Followed, str]] = {}
        self._ending: set[ShardId] = set()
        self._too_early: dict[ShardId, Checkpoint] = {}
        """Ours, but of a stream that is not found yet."""
        self._rows_seen: Mapping[ShardId, Checkpoint] | None = None
        self._lost = 0
        self._clock_before = 0
        """The greatest version clock of the streams whose checkpoints were deleted."""

    @property
    def last_error(self) -> str:
        """Why the stream cannot be read at present, or why nothing will come; empty where all is well."""
        if error := self._troubles.last_error or (self._owner.last_error if self._owner is not None else ""):
            return error
        followed = self._finder.present
        if self._options.follows and followed is not None and followed.lineage.over and not self._owned:
            return f"the stream {followed.stream.name} is disabled and read to its end; waiting for a new one"
        return ""

    @property
    def skipped(self) -> int:
        """How often something was lost unread and skipped (``trimmed: skip``)."""
        return self._poller.skipped + self._lost

    @property
    def assigned_all(self) -> bool:
        """Whether every shard that there is was assigned (or is finished, or another replica's)."""
        if len(self._finder.discovery.followed) != 1 or self._finder.news:
            return False
        (followed,) = self._finder.discovery.followed.values()
        lineage = followed.lineage
        theirs = {shard.rpartition("/")[2] for shard in self._opened.foreign}
        unread = [id_ for id_ in lineage.unread() if id_ not in theirs]
        return followed.placed and not (unread or lineage.needs_pass or lineage.expects_children)

    def pin_exactly(self) -> None:
        """Before ``open``: what comes after the first positions must not be lost, also with ``start: latest``."""
        self._exactly = True

    @property
    def pinned(self) -> bool:
        """Whether the position of every shard that there is was taken and saved."""
        followed = self._finder.present
        return followed is not None and followed.placed

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Find the stream. Raises ConfigError where there is none; a service that does not answer is waited for."""
        self._listener = listener
        if self._owner is None:
            self._owner = SoleOwner(checkpoints)
        await self._api.open()
        await self._owner.open(self)
        try:
            await self._finder.find_streams(self._owner.rows)
        except NotFound as error:
            raise ConfigError(str(error)) from error
        except StreamApiError as error:
            self._troubles.note(DISCOVERY, error)
        else:
            if not self._finder.discovery.followed:
                raise ConfigError(f"{self._options.prefix!r} has no stream to read: enable one for the table")
        self._finder.start(lambda: self._opened.rows, lambda: bool(self._poller.missing))

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """What has come of any shards. None when a single stream (not a table's) is over. Raises SourceError."""
        await self._settle()
        if self._is_over():
            return None
        if self._paused:
            await self._clock.sleep(wait_s)
            return []
        batches = await self._poller.take(records_max, wait_s)
        if self._leased:
            batches = [batch for batch in batches if batch.shard in self._owned and self._opened.owns(batch.shard)]
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
        await self._finder.stop()
        await self._poller.close()
        if self._owner is not None:
            await self._owner.close()
        await self._api.close()

    def describe(self) -> str:
        """One line for people: what was found."""
        return ", ".join(self._finder.discovery.followed) or "no stream found yet"

    # Reading, as whoever owns the shards says.

    async def begin(self, shards: Mapping[ShardId, Checkpoint]) -> None:
        """Read these shards, from these checkpoints on."""
        found = self._finder.discovery.followed
        # Another replica may have found a stream before us, and its shards been handed to us.
        self._too_early |= {shard: one for shard, one in shards.items() if shard.rpartition("/")[0] not in found}
        shards = {shard: one for shard, one in shards.items() if shard not in self._too_early}
        if not shards:
            return
        rows = self._opened.rows
        readers, assigned = [], {}
        for shard, saved in shards.items():
            name, _, id_ = shard.rpartition("/")
            followed = found[name]
            parents = [rows.get(f"{name}/{parent}") for parent in followed.lineage.parents(id_)]
            above = [parent.clock for parent in parents if parent is not None]
            # A key's versions grow from the parent to the child, and from one stream of the table to the next.
            before = max((one.clock for other, one in rows.items() if other.rpartition("/")[0] < name), default=0)
            clock = max(saved.clock, *above, before, self._clock_before)
            # A start in time is only for what has nothing before it here.
            position = TRIM_HORIZON if saved.position < 0 and any(above) else saved.position
            assigned[shard] = Checkpoint(position, clock)
            readers.append(
                ShardReader(
                    self._api,
                    followed.stream,
                    id_,
                    position,
                    exact=followed.lineage.whole or not followed.lineage.is_remembered(id_),
                    # Where it was placed by an earlier process, what came since then is not to be lost.
                    exactly_since=self._exactly or followed.lineage.whole,
                    trimmed=self._options.trimmed,
                    clock=self._clock,
                )
            )
            followed.lineage.begin(id_)
            self._owned[shard] = followed, id_
        await self._listener.assigned(assigned)
        for reader in readers:
            if reader.shard in self._owned:
                self._poller.add(reader)

    async def give_up(self, shards: Collection[ShardId]) -> None:
        """Read these no more, drain them and save."""
        ours = self._stop(shards)
        await self._listener.revoked(ours)

    async def lose(self, shards: Collection[ShardId]) -> None:
        """Read these no more, and drop what is in flight."""
        ours = self._stop(shards)
        await self._listener.lost(ours)

    def children(self, shard: ShardId) -> list[ShardId]:
        """The shards that go on from this one."""
        name, _, id_ = shard.rpartition("/")
        followed = self._finder.discovery.followed.get(name)
        return [followed.stream.shard(child) for child in followed.lineage.children(id_)] if followed else []

    def _stop(self, shards: Collection[ShardId]) -> list[ShardId]:
        ours = [shard for shard in shards if shard in self._owned]
        self._poller.remove(ours)
        for shard in shards:
            self._too_early.pop(shard, None)
        for shard in ours:
            followed, id_ = self._owned.pop(shard)
            followed.lineage.unbegin(id_)
            self._ending.discard(shard)
        return ours

    # Inside read: what has changed.

    @property
    def _opened(self) -> Ownership:
        assert self._owner is not None, "open() comes first"
        return self._owner

    async def _settle(self) -> None:
        if self._finder.failure is not None:
            raise self._finder.failure
        if self._ending:
            await self._end_shards()
        if self._poller.missing:
            self._look_for_lost_shards()
        rows = self._opened.rows
        if self._finder.news or rows is not self._rows_seen:
            self._finder.news, self._rows_seen = False, rows
            try:
                await self._look()
            except CheckpointError as error:
                self._finder.news = True
                log.warning("the checkpoint store failed, trying again", error=str(error))
                await self._clock.sleep(CALL_EVERY_S)

    async def _end_shards(self) -> None:
        for shard, checkpoint in (await self._listener.ended(self._ending)).items():
            self._ending.discard(shard)
            followed, id_ = self._owned.pop(shard)
            self._poller.remove([shard])
            self._opened.finished(shard, checkpoint)
            followed.lineage.finish(id_, self._clock.now_ms())
            self._finder.news = True
            self._finder.hurry()

    async def _look(self) -> None:
        """Offer what may begin."""
        await self._look_for_lost_streams()
        followed = self._finder.present
        if followed is None:
            return
        owner, lineage, stream = self._opened, followed.lineage, followed.stream
        for shard, one in owner.rows.items():
            name, _, id_ = shard.rpartition("/")
            if name == stream.name:
                lineage.know(id_)
                if one.position == SHARD_END:
                    lineage.finish(id_, self._clock.now_ms())  # perhaps by another replica
        if followed.gone:
            lineage.close()
        if not followed.placed and (followed.gone or lineage.passes >= PASSES_TO_BELIEVE):
            await self._place(followed)
        if not followed.placed:
            return
        for orphan in lineage.orphans():
            self._lose(f"{stream.shard(orphan)}: the shard before it is gone and was never read to its end")
            lineage.forgive(orphan)
        if self._too_early:
            early, self._too_early = self._too_early, {}
            await self.begin(early)
        await owner.offer([stream.shard(id_) for id_ in lineage.startable()], self._parents)
        if old := lineage.forgettable(self._clock.now_ms(), round(self.retention_s * 1000)):
            await owner.forget([stream.shard(id_) for id_ in old])
            lineage.forget(old)

    async def _place(self, followed: Followed) -> None:
        """Settle where a stream's first shards begin. What was found of a stream that is read already is settled."""
        lineage = followed.lineage
        if not lineage.whole:
            first = first_checkpoints(followed, self._options, self._clock.now_ms())
            await self._opened.place(first, self._parents)
            lineage.settle([shard.rpartition("/")[2] for shard in first])
            self._finder.news = True  # to see what is finished by that
        followed.placed = True

    def _parents(self, shard: ShardId) -> list[ShardId]:
        name, _, id_ = shard.rpartition("/")
        followed = self._finder.discovery.followed[name]
        return [followed.stream.shard(parent) for parent in followed.lineage.parents(id_)]

    # What is lost.

    def _lose(self, what: str) -> None:
        """Something is gone unread. Raises SourceError unless that may be."""
        if self._options.trimmed == "stop":
            kept = f"the stream keeps records for {self.retention_s / 3600:g} h"
            raise SourceError(f"{what}: changes are lost ({kept}). `trimmed: skip` goes on without them")
        self._lost += 1
        log.error("changes are skipped: they were lost unread", reason=what)

    def _look_for_lost_shards(self) -> None:
        """Shards that the API does not know when they are read: lost, if the listing is without them, too."""
        for shard in sorted(self._poller.missing):
            followed, id_ = self._owned[shard]
            if followed.gone or followed.lineage.vanished(id_):
                what = "the stream" if followed.gone else "it"
                self._lose(f"{shard}: {what} is gone before it was read to its end")
                self._poller.end(shard)

    async def _look_for_lost_streams(self) -> None:
        """Streams that are not there any more: their checkpoints can go; if one is not at its end, it is a loss."""
        unlisted, rows = self._finder.unlisted, self._opened.rows
        for name in [name for name, times in unlisted.items() if times >= PASSES_TO_BELIEVE]:
            shards = [shard for shard in rows if shard.rpartition("/")[0] == name]
            if any(rows[shard].position != SHARD_END for shard in shards):
                self._lose(f"the stream {name} is gone before it was read to its end")
            self._clock_before = max([self._clock_before, *(rows[shard].clock for shard in shards)])
            await self._opened.forget(shards)
            del unlisted[name]

    def _is_over(self) -> bool:
        if self._options.follows or self._owned or self._finder.news:
            return False
        followed = self._finder.present
        return followed is not None and followed.lineage.over
