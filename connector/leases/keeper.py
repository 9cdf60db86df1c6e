"""The keeper of a process' leases: heartbeats, taking, handing over, and knowing at any moment what is ours.

Two rules make a frozen or cut-off process harmless. It measures each renewal from *before* the request left, so its own
right ends before anybody else's patience does; and ``owns`` asks the monotonic clock anew at every call, so a process
that wakes after a freeze knows, before it does anything else, that it owns nothing. Where even this fails (a virtual
machine that was suspended with its clock), the store's conditions refuse what it saves.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from connector.change import ShardId
from connector.clock import Clock
from connector.errors import CheckpointError, CheckpointLost
from connector.leases.balance import Sightings, make_plan
from connector.leases.protocol import Lease, LeaseListener, LeaseStore, Progress

log = structlog.get_logger(__name__)

T = TypeVar("T")

BEATS = 3
"""Heartbeats in a fail-over time: two may fail."""

Eligible = Callable[[Mapping[ShardId, Lease]], Collection[ShardId]]
"""Which shards' turn has come, of the rows that are there (lineage: connector.leases.balance.parents_finished)."""


class _Held:
    __slots__ = ("asked", "lease", "leaving", "until_s")

    def __init__(self, lease: Lease, until_s: float) -> None:
        self.lease = lease
        self.until_s = until_s
        """Ours before this moment of the monotonic clock."""
        self.asked = False
        """A hand-over has begun."""
        self.leaving = False
        """It is being finished: that the table says so already does not mean that it is lost."""


class Keeper:
    """One for each process and pipeline. ``store`` is open; whoever made the keeper closes it.

    Life: ``run`` as a task until it is cancelled, then ``close``. The store's failures are remembered
    (``last_error``) and tried again; what the listener raises ends ``run``.
    """

    def __init__(
        self,
        store: LeaseStore,
        owner: str,
        listener: LeaseListener,
        *,
        eligible: Eligible,
        clock: Clock,
        chance: random.Random,
        duration_s: float,
        handover_s: float,
        steal: bool = True,
    ) -> None:
        self.owner = owner
        self.rows: Mapping[ShardId, Lease] = {}
        """The whole table as of the last look."""
        self._store = store
        self._listener = listener
        self._eligible = eligible
        self._clock = clock
        self._chance = chance
        self._duration_s = duration_s
        self._handover_s = handover_s
        self._steal = steal
        self._held: dict[ShardId, _Held] = {}
        self._sightings = Sightings()
        self._looking = asyncio.Lock()
        self._told: dict[ShardId, asyncio.Event] = {}
        """The last word to the listener on each shard that it has not taken in yet."""
        self._tasks: asyncio.TaskGroup | None = None
        self._errors: dict[str, str] = {}
        """By kind of call, where the last one of that kind failed."""

    def owns(self, key: ShardId) -> bool:
        """Whether the shard is ours at this very moment. Ask before every use: reading, writing, saving."""
        held = self._held.get(key)
        return held is not None and self._clock.monotonic() < held.until_s

    def lease(self, key: ShardId) -> Lease | None:
        """The lease, while the shard is ours: its epoch is what a sink may check."""
        return self._held[key].lease if self.owns(key) else None

    @property
    def last_error(self) -> str:
        """Why the store cannot be used at present, or nothing."""
        return next(iter(self._errors.values()), "")

    @property
    def held(self) -> list[Lease]:
        """The leases that are ours at this moment."""
        return [held.lease for key, held in self._held.items() if self.owns(key)]

    async def run(self) -> None:
        """Keep what is ours, take our share, hand over what others ask for; until cancelled.

        The listener is told of nothing that happens before or after it.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._beat_for_ever())
            tasks.create_task(self._look_for_ever())
            try:
                await self._watch_for_ever()
            finally:
                self._tasks = None

    async def look(self) -> None:
        """Look at the table and act on it, now: after shards were added or finished. ``run``, which does this all the
        time, must be running."""
        async with self._looking:
            asked_s = self._clock.monotonic()
            rows = await self._tried("all", self._store.all())
            if rows is None:
                return
            self.rows = rows
            # What failed after the last look either fails again now or is of no matter any more.
            self._errors = {kind: error for kind, error in self._errors.items() if kind == "renew"}
            self._sightings.look(rows, self._clock.monotonic())
            self._compare(rows)
            plan = make_plan(
                rows,
                owner=self.owner,
                held=self._held.keys(),
                # What the listener still hears about is not taken again: it might save what it read before.
                busy=self._told.keys() - self._held.keys(),
                eligible=self._eligible(rows),
                still_s={key: self._sightings.still_s(key, asked_s) for key in rows},
                duration_s=self._duration_s,
                steal=self._steal,
                chance=self._chance,
            )
            await asyncio.gather(*(self._tried("release", self._store.release(lease)) for lease in plan.release))
            await self._take(plan.take)
            await asyncio.gather(*(self._tried("want", self._store.want(lease, self.owner)) for lease in plan.want))

    async def save(self, checkpoints: Mapping[ShardId, tuple[str, int]]) -> None:
        """Save (checkpoint, version clock) of shards. Raises CheckpointLost naming those that are not ours any more,
        when the others are saved; CheckpointError when some are not saved and may be tried again."""
        held = {key: self._held[key] for key in checkpoints if self.owns(key)}
        lost = checkpoints.keys() - held.keys()
        progress = {key: Progress(one.lease.epoch, *checkpoints[key]) for key, one in held.items()}
        if progress:
            try:
                await self._store.save(self.owner, progress)
            except CheckpointLost as error:
                self._lose({key: held[key] for key in error.shards})
                lost |= error.shards
        if lost:
            raise CheckpointLost(f"{', '.join(sorted(lost))} are not ours any more", shards=lost)

    async def finish(self, key: ShardId, *, clock: int, children: Collection[ShardId] = ()) -> None:
        """Everything of a closed shard is done: it is nobody's from now on, and its children may begin (``look``).

        Raises CheckpointLost where it is not ours any more, CheckpointError where it may be tried again.
        """
        if not self.owns(key):
            raise CheckpointLost(f"{key} is not ours any more", shards=[key])
        held = self._held[key]
        held.leaving = True
        try:
            await self._store.finish(held.lease, clock=clock, children=children, ended_ms=self._clock.now_ms())
        except BaseException as error:  # also where the caller is cancelled: what is held is not missed for ever
            held.leaving = False
            if isinstance(error, CheckpointLost):
                self._lose({key: held})
            raise
        self._forget(key, held)

    async def close(self) -> None:
        """Give everything up, so that others need not wait for its expiry. After ``run`` was cancelled, and after
        the work was drained and saved. What cannot be given up expires."""
        leases = self.held
        self._held.clear()
        await asyncio.gather(*(self._tried("release", self._store.release(lease)) for lease in leases))

    async def _beat_for_ever(self) -> None:
        period_s = self._duration_s / BEATS
        while True:
            soon = await self._beat()
            await self._clock.sleep(period_s / BEATS if soon else period_s * self._chance.uniform(0.8, 1.0))

    async def _beat(self) -> bool:
        """Renew everything; says whether something has to be tried again soon."""
        self._give_up_expired()
        due = dict(self._held)
        if not due:
            self._errors.pop("renew", None)
            return False
        sent_s = self._clock.monotonic()
        renewed = await self._tried("renew", self._store.renew([held.lease for held in due.values()]))
        if renewed is None:
            return True
        soon = False
        for key, held in due.items():
            row = renewed.get(key)
            if row is None or self._held.get(key) is not held:
                continue
            if row.counter > held.lease.counter:
                held.lease, held.until_s = row, sent_s + self._duration_s
            else:
                soon = True
        self._lose({key: held for key, held in due.items() if key not in renewed})
        return soon

    async def _look_for_ever(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(self._duration_s / BEATS * self._chance.uniform(0.8, 1.0))

    async def _watch_for_ever(self) -> None:
        """Give up what could not be renewed at the moment when it ends, whatever heartbeats wait for."""
        while True:
            self._give_up_expired()
            wait_s = min((held.until_s for held in self._held.values()), default=float("inf")) - self._clock.monotonic()
            await self._clock.sleep(min(max(wait_s, 0.001), self._duration_s / BEATS))

    async def _take(self, leases: Sequence[Lease]) -> None:
        until_s = self._clock.monotonic() + self._duration_s
        answers = await asyncio.gather(*(self._tried("take", self._store.take(lease, self.owner)) for lease in leases))
        if self._clock.monotonic() >= until_s:
            return  # answers so late are worth nothing: the next look finds the rows in our name
        gained = [lease for lease in answers if lease is not None]
        self._held |= {lease.key: _Held(lease, until_s) for lease in gained}
        if gained:
            log.info("leases taken", shards=sorted(lease.key for lease in gained))
            self._tell(lambda: self._listener.gained(gained), [lease.key for lease in gained])

    def _compare(self, rows: Mapping[ShardId, Lease]) -> None:
        """What somebody else has by now is lost; what somebody asks for is handed over."""
        gone: dict[ShardId, _Held] = {}
        for key, held in self._held.items():
            row = rows.get(key)
            if row is None or (row.owner, row.epoch) != (self.owner, held.lease.epoch):
                gone[key] = held
            elif row.wanted_by not in (None, self.owner) and not held.asked and not held.leaving:
                held.asked = True
                self._start(self._hand_over(key, held))
        self._lose(gone)

    async def _hand_over(self, key: ShardId, held: _Held) -> None:
        log.info("lease asked for", shard=key)
        asked = self._tell(lambda: self._listener.asked_to_release([key]), [key])
        try:
            async with asyncio.timeout(self._handover_s):
                await asked
        except TimeoutError:
            log.warning("lease not drained in time", shard=key, handover_s=self._handover_s)
            self._lose({key: held})
        if self._held.get(key) is held:
            self._forget(key, held)
        # Ours or not by now, the condition decides. Where the call fails, the next look releases it.
        await self._tried("release", self._store.release(held.lease))

    def _give_up_expired(self) -> None:
        now_s = self._clock.monotonic()
        self._lose({key: held for key, held in self._held.items() if now_s >= held.until_s})

    def _lose(self, lost: Mapping[ShardId, _Held]) -> None:
        keys = [key for key, held in lost.items() if self._held.get(key) is held and not held.leaving]
        for key in keys:
            del self._held[key]
        if keys:
            log.warning("leases lost", shards=sorted(keys))
        if keys and self._tasks is not None:
            self._tell(lambda: self._listener.lost(keys), keys)

    def _forget(self, key: ShardId, held: _Held) -> None:
        if self._held.get(key) is held:
            del self._held[key]

    def _tell(self, call: Callable[[], Awaitable[None]], keys: Sequence[ShardId]) -> asyncio.Task[None]:
        """Call the listener beside everything else, after what it was told of the same shards before."""
        heard = asyncio.Event()
        before = {id(event): event for key in keys if (event := self._told.get(key)) is not None}
        self._told.update(dict.fromkeys(keys, heard))

        async def tell() -> None:
            try:
                for event in before.values():
                    await event.wait()
                await call()
            finally:
                heard.set()
                for key in keys:
                    if self._told.get(key) is heard:
                        del self._told[key]

        return self._start(tell())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None, "run() comes first"
        return self._tasks.create_task(work)

    async def _tried(self, kind: str, call: Awaitable[T]) -> T | None:
        """The answer of the store, or None where it failed: the next turn is the retry."""
        try:
            answer = await call
        except CheckpointError as error:
            if kind not in self._errors:
                log.warning("leases cannot be kept", call=kind, error=str(error))
            self._errors[kind] = str(error)
            return None
        self._errors.pop(kind, None)
        return answer
