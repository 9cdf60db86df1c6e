"""The shards that a pipeline owns: a ledger each, from assignment to loss, and the saving of their watermarks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import structlog

from connector.change import Position, ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint, CheckpointStore
from connector.clock import Clock
from connector.delivery.ledger import Ledger
from connector.errors import CheckpointError, CheckpointLost
from connector.snapshot.protocol import is_snapshot_shard

log = structlog.get_logger(__name__)


class Shards:
    """The ShardListener of a pipeline (connector.sources.protocol), and its checkpointer."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        counts: int,
        drain_s: float,
        clock: Clock,
        moved: asyncio.Event,
        before_assigned: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.owned: dict[ShardId, Ledger] = {}
        self.leaving: list[Ledger] = []
        """Lost ledgers with something still in flight, which ends as abandoned."""
        self._closed = False
        self.last_saved_ms = clock.now_ms()
        self.last_error = ""
        self._store = store
        self._counts = counts
        self._drain_s = drain_s
        self._clock = clock
        self._moved = moved
        self._before_assigned = before_assigned
        self._saving = asyncio.Lock()

    async def assigned(self, shards: Mapping[ShardId, Checkpoint | None]) -> None:
        """These shards are ours from now on."""
        if self._before_assigned is not None and shards:
            await self._before_assigned()
        self._let_go([self.owned[shard] for shard in shards if shard in self.owned])
        for shard, checkpoint in shards.items():
            ledger = self.owned[shard] = Ledger(shard, checkpoint, self._counts, self._clock.now_ms())
            ledger.timed = not is_snapshot_shard(shard)
        if shards:
            log.info("shards assigned", shards=sorted(shards))

    async def revoked(self, shards: Collection[ShardId]) -> None:
        """Drain these shards for a bounded time, save what is finished, and let them go."""
        if self._closed:
            return
        ledgers = [self.owned[shard] for shard in shards if shard in self.owned]
        drained = await self.drain(ledgers, self._drain_s)
        await self.save(ledgers)
        self._let_go(ledgers)
        if ledgers:
            log.info("shards revoked", shards=sorted(shards), drained=drained)

    async def lost(self, shards: Collection[ShardId]) -> None:
        """Drop these shards: they are somebody else's already. Nothing of them is saved."""
        self._let_go([self.owned[shard] for shard in shards if shard in self.owned])
        if shards:
            log.warning("shards lost", shards=sorted(shards))

    async def ended(self, shards: Collection[ShardId]) -> Mapping[ShardId, Checkpoint]:
        """Save the end of those that are finished, and let them go. A shard that was lost is nobody's to end here."""
        done = [self.owned[shard] for shard in shards if shard in self.owned]
        done = [ledger for ledger in done if not ledger.lost and ledger.idle and ledger.finished_position == SHARD_END]
        if not done or self._closed:
            return {}
        await self.save(done)
        saved = [ledger for ledger in done if not ledger.lost and self.owned.get(ledger.shard) is ledger]
        ends = {ledger.shard: ledger.saved for ledger in saved if ledger.saved and ledger.saved.position == SHARD_END}
        self._let_go([self.owned[shard] for shard in ends])
        if ends:
            log.info("shards ended", shards=sorted(ends))
        return ends

    async def close(self) -> None:
        """Save for the last time; what a source says while it closes changes nothing any more."""
        await self.save()
        self._closed = True

    def finished_position(self, shard: ShardId) -> Position:
        """Everything of an owned shard before it is finished; SHARD_END where it is not owned (any more)."""
        ledger = self.owned.get(shard)
        return SHARD_END if ledger is None else ledger.finished_position

    def _let_go(self, ledgers: Iterable[Ledger]) -> None:
        for ledger in ledgers:
            ledger.lost = True
            del self.owned[ledger.shard]
            if not ledger.idle:
                self.leaving.append(ledger)
        self.leaving = [ledger for ledger in self.leaving if not ledger.idle]

    async def drain(self, ledgers: Collection[Ledger], wait_s: float | None) -> bool:
        """Wait until all that was read of these shards is finished, at most so long (None: without end); says whether
        it is."""
        try:
            async with asyncio.timeout(wait_s):
                while not all(ledger.idle for ledger in ledgers):
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def save(self, ledgers: Iterable[Ledger] | None = None) -> None:
        """Save the watermarks that moved. Failures are remembered, for health, and tried again at the next turn."""
        async with self._saving:
            due = list(self.owned.values()) if ledgers is None else list(ledgers)
            checkpoints = {ledger.shard: mark for ledger in due if (mark := ledger.unsaved) is not None}
            try:
                if checkpoints:
                    await self._store.save(checkpoints)
            except CheckpointLost as error:
                self._remember(error)
                for ledger in due:
                    # It stays here, dropping what is read of it, until the source hears of its loss too.
                    ledger.lost |= ledger.shard in error.shards
                return
            except CheckpointError as error:
                self._remember(error)
                return
            for ledger in due:
                if (mark := checkpoints.get(ledger.shard)) is not None:
                    ledger.saved = mark
            self.last_saved_ms = self._clock.now_ms()
            self.last_error = ""

    def _remember(self, error: CheckpointError) -> None:
        if not self.last_error:
            log.warning("checkpoints cannot be saved", error=str(error))
        self.last_error = str(error)
