"""Shards shared with other replicas by leases (connector.leases): our share, and its checkpoints in the rows."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Collection, Mapping, Sequence

from connector.change import ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.clock import Clock
from connector.errors import CheckpointError, CheckpointLost, SourceError
from connector.leases.config import LeaseTerms
from connector.leases.keeper import Keeper
from connector.leases.protocol import Lease, LeaseStore
from connector.sources.streams.ownership import Reading
from connector.sources.streams.positions import TRIM_HORIZON, from_words, to_words

TRY_AGAIN_S = 0.5
TRIES_AT_START = 120


class LeasedCheckpoints:
    """The rows of the leases as a checkpoint store. Saving needs the lease: ``keeper`` is there while we read."""

    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self.store = store
        self.keeper: Keeper | None = None
        self.children: Callable[[ShardId], list[ShardId]] = lambda shard: []
        self._clock = clock
        self._ended: set[ShardId] = set()
        """Finished by this process: finishing them again is no loss."""

    async def open(self) -> None:
        """Connect; create the table if it is missing."""
        await self.store.open()

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """The rows of these shards."""
        saved = await self.all()
        return {shard: saved[shard] for shard in shards if shard in saved}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        """Save under our leases; a shard's end gives its lease up. Raises CheckpointLost, CheckpointError."""
        assert self.keeper is not None, "only the source that reads saves"
        lost: set[ShardId] = set()
        going_on = {
            shard: (to_words(one.position), one.clock)
            for shard, one in checkpoints.items()
            if one.position != SHARD_END
        }
        try:
            if going_on:
                await self.keeper.save(going_on)
        except CheckpointLost as error:
            lost |= error.shards
        for shard, one in checkpoints.items():
            if one.position != SHARD_END or shard in self._ended:
                continue
            try:
                await self.keeper.finish(shard, clock=one.clock, children=self.children(shard))
            except CheckpointLost:
                lost.add(shard)
            else:
                self._ended.add(shard)
        if lost:
            raise CheckpointLost(f"{', '.join(sorted(lost))} are not ours any more", shards=lost)

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        """Every row."""
        return checkpoints_of(await self.store.all(), self._clock)

    async def reset(self, shards: Sequence[ShardId]) -> None:
        """Delete the rows, as long as nobody touches them."""
        rows = await self.store.all()
        await self.store.delete([rows[shard] for shard in shards if shard in rows])

    async def close(self) -> None:
        """Let go of connections."""
        await self.store.close()


def share(
    terms: LeaseTerms, store: LeaseStore, clock: Clock, chance: random.Random
) -> tuple[LeasedCheckpoints, LeasedOwner]:
    """Our share by these leases, and the checkpoint store that goes with it (the source's own one)."""
    checkpoints = LeasedCheckpoints(store, clock)
    owner = LeasedOwner(
        checkpoints,
        clock,
        chance,
        duration_s=terms.duration,
        handover_s=terms.handover,
        steal=terms.steal,
    )
    return checkpoints, owner


class LeasedOwner:
    """The share of one process. It is the keeper's listener (connector.leases.protocol.LeaseListener)."""

    def __init__(
        self,
        checkpoints: LeasedCheckpoints,
        clock: Clock,
        chance: random.Random,
        *,
        duration_s: float,
        handover_s: float,
        steal: bool,
    ) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._offered: set[ShardId] = set()
        self._keeper = Keeper(
            checkpoints.store,
            f"{socket.gethostname()}/{chance.getrandbits(64):016x}",
            self,
            eligible=lambda rows: [key for key in rows if key in self._offered],
            clock=clock,
            chance=chance,
            duration_s=duration_s,
            handover_s=handover_s,
            steal=steal,
        )
        self._seen: Mapping[ShardId, Lease] | None = None
        self._rows: Mapping[ShardId, Checkpoint] = {}
        self._keeping: asyncio.Task[None] | None = None

    @property
    def last_error(self) -> str:
        """Why the leases cannot be kept at present; empty while they can. Raises what ended the keeper."""
        if self._keeping is not None and self._keeping.done() and not self._keeping.cancelled():
            self._keeping.result()
        return self._keeper.last_error

    @property
    def rows(self) -> Mapping[ShardId, Checkpoint]:
        """The table as the keeper last saw it."""
        if self._keeper.rows is not self._seen:
            self._seen = self._keeper.rows
            self._rows = checkpoints_of(self._seen, self._clock)
        return self._rows

    @property
    def foreign(self) -> Collection[ShardId]:
        """Shards that others have, by the last look."""
        return [key for key, row in self._keeper.rows.items() if row.owner not in (None, self._keeper.owner)]

    async def open(self, reading: Reading) -> None:
        """Begin with heartbeats and looks."""
        self._reading = reading
        self._checkpoints.keeper = self._keeper
        self._checkpoints.children = reading.children
        for tries_left in reversed(range(TRIES_AT_START)):
            try:
                self._rows = await self._checkpoints.all()
                break
            except CheckpointError as error:
                if not tries_left:
                    raise SourceError(f"the leases cannot be read: {error}") from error
            await self._clock.sleep(TRY_AGAIN_S)
        self._seen = self._keeper.rows  # what was read just now is newer
        self._keeping = asyncio.ensure_future(self._keeper.run())
        await asyncio.sleep(0)  # lets it begin

    async def place(self, shards: Mapping[ShardId, Checkpoint], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """Rows for these, where there are none."""
        now_ms = self._clock.now_ms()
        await self._checkpoints.store.create(
            [
                Lease(
                    key=shard,
                    checkpoint=to_words(one.position),
                    clock=one.clock,
                    parents=frozenset(parents(shard)),
                    ended_ms=now_ms if one.position == SHARD_END else None,
                )
                for shard, one in shards.items()
            ]
        )
        await self._keeper.look()

    async def offer(self, shards: Collection[ShardId], parents: Callable[[ShardId], list[ShardId]]) -> None:
        """Rows for these, and from now on any replica may take them; we do as far as our share goes."""
        new = set(shards) - self._offered
        missing = [shard for shard in new if shard not in self._keeper.rows]
        if missing:
            await self._checkpoints.store.create(
                [
                    Lease(key=shard, checkpoint=to_words(TRIM_HORIZON), parents=frozenset(parents(shard)))
                    for shard in missing
                ]
            )
        self._offered |= new
        if new:
            await self._keeper.look()

    def owns(self, shard: ShardId) -> bool:
        """By the keeper's clock, at this very moment."""
        return self._keeper.owns(shard)

    def finished(self, shard: ShardId, checkpoint: Checkpoint) -> None:
        """It is nobody's any more."""
        self._offered.discard(shard)
        self._rows = {**self.rows, shard: checkpoint}

    async def forget(self, shards: Collection[ShardId]) -> None:
        """Delete their rows."""
        await self._checkpoints.reset(list(shards))

    async def close(self) -> None:
        """Give up what we hold, so that others need not wait."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
            await self._keeper.close()

    # What the keeper tells.

    async def gained(self, leases: Sequence[Lease]) -> None:
        """Read these. A child's clock begins with its parents' last word, which a look of just before may lack."""
        while ours := [lease for lease in leases if self._keeper.owns(lease.key)]:
            try:
                self._rows = rows = await self._checkpoints.all()
            except CheckpointError:
                await self._clock.sleep(TRY_AGAIN_S)
                continue
            now_ms = self._clock.now_ms()
            clocks = {
                lease.key: max(lease.clock, *(rows[parent].clock for parent in lease.parents if parent in rows), 0)
                for lease in ours
            }
            await self._reading.begin(
                {lease.key: Checkpoint(from_words(lease.checkpoint, now_ms), clocks[lease.key]) for lease in ours}
            )
            return

    async def lost(self, keys: Collection[ShardId]) -> None:
        """Stop at once."""
        await self._reading.lose(keys)

    async def asked_to_release(self, keys: Collection[ShardId]) -> None:
        """Drain and save."""
        await self._reading.give_up(keys)


def checkpoints_of(rows: Mapping[ShardId, Lease], clock: Clock) -> dict[ShardId, Checkpoint]:
    """Rows as checkpoints."""
    now_ms = clock.now_ms()
    return {key: Checkpoint(from_words(row.checkpoint, now_ms), row.clock) for key, row in rows.items()}
