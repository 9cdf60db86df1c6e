"""What stands between a process and the lease table: slow, failing and lost calls, freezes; and the table's own books.

A process' call goes through ``Wire`` (which may delay it, lose it or lose its answer) to ``Books`` (which see what the
table really did, in order) and so to a table: the model, or a real one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from connector.change import ShardId
from connector.clock import Clock
from connector.errors import CheckpointError, CheckpointLost
from connector.leases.protocol import Lease, LeaseStore, Progress

T = TypeVar("T")


class Machine:
    """The machine of one process: its clock, and whether the process runs at this moment."""

    def __init__(self, clock: Clock, offset_s: float) -> None:
        self._clock = clock
        self._offset_s = offset_s
        self._running = asyncio.Event()
        self._running.set()

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._offset_s

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self.runs()

    async def runs(self) -> None:
        """Wait while the process is frozen."""
        while not self._running.is_set():
            await self._running.wait()

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()


class Books:
    """What the table did, as it happened: who owns what under which epoch, and that nobody else saves.

    The promise is asserted at every write that the table took: its writer is the last who took the shard, its
    position is not before the one that is there, and a child begins only when its parents are finished.
    """

    def __init__(self, inner: LeaseStore) -> None:
        self.inner = inner
        self.owners: dict[ShardId, tuple[str, int]] = {}
        self.epochs: dict[ShardId, int] = {}
        self.positions: dict[ShardId, int] = {}
        self.finished: set[ShardId] = set()
        self.saves = 0
        self.refusals = 0
        self.takes = 0

    def create(self, leases: Sequence[Lease]) -> Coroutine[Any, Any, None]:
        return self.inner.create(leases)

    def all(self) -> Coroutine[Any, Any, Mapping[ShardId, Lease]]:
        return self.inner.all()

    def renew(self, leases: Sequence[Lease]) -> Coroutine[Any, Any, Mapping[ShardId, Lease]]:
        return self.inner.renew(leases)

    def want(self, lease: Lease, by: str) -> Coroutine[Any, Any, bool]:
        return self.inner.want(lease, by)

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        taken = await self.inner.take(lease, owner)
        if taken is not None:
            self.takes += 1
            assert taken.epoch == self.epochs.get(lease.key, 0) + 1, "the epoch grows by one at every take"
            assert taken.key not in self.finished, "a finished shard is nobody's"
            assert taken.parents <= self.finished, "a child begins when its parents are finished"
            self.epochs[lease.key] = taken.epoch
            self.owners[lease.key] = (owner, taken.epoch)
        return taken

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        try:
            await self.inner.save(owner, progress)
        except CheckpointLost as error:
            self.refusals += 1
            self._note_saved(owner, {key: one for key, one in progress.items() if key not in error.shards})
            raise
        self._note_saved(owner, progress)

    def _note_saved(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        for key, one in progress.items():
            self.saves += 1
            assert self.owners.get(key) == (owner, one.epoch), f"{owner} saved {key}, which is not its own"
            assert int(one.checkpoint) >= self.positions.get(key, 0), f"{key} went back"
            self.positions[key] = int(one.checkpoint)

    async def release(self, lease: Lease) -> bool:
        released = await self.inner.release(lease)
        if released:
            assert self.owners.pop(lease.key) == (lease.owner, lease.epoch)
        return released

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        await self.inner.finish(lease, clock=clock, children=children, ended_ms=ended_ms)
        if lease.key not in self.finished:
            assert self.owners.pop(lease.key) == (lease.owner, lease.epoch), f"{lease.key} was finished by a zombie"
            self.finished.add(lease.key)


class Trouble:
    """How bad the wire is at this moment; all quiet by default."""

    lost_part = 0.0
    """Of the calls: those that never arrive, and as many whose answers never do."""
    slow_part = 0.0
    slow_s = 0.0
    zombie_part = 0.0
    """Of the saves: those before which the process freezes, when it has made sure that it owns what it saves."""
    zombie_s = 0.0


class Wire:
    """One process' LeaseStore: the books' table, over a wire in trouble."""

    def __init__(self, books: Books, machine: Machine, trouble: Trouble, chance: random.Random) -> None:
        self._books = books
        self._machine = machine
        self._trouble = trouble
        self._chance = chance
        self.cut = False

    async def open(self) -> None:
        """The table is there."""

    async def close(self) -> None:
        """Others use it."""

    async def all(self) -> Mapping[ShardId, Lease]:
        return await self._call(self._books.all)

    async def create(self, leases: Sequence[Lease]) -> None:
        await self._call(lambda: self._books.create(leases))

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        return await self._call(lambda: self._books.take(lease, owner))

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        renewed = await self._call(lambda: self._books.renew(leases))
        if renewed and self._chance.random() < self._trouble.lost_part:
            # Of one row nothing is known, though the others were renewed.
            unknown = self._chance.choice(leases)
            return {**renewed, unknown.key: unknown}
        return renewed

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        if self._chance.random() < self._trouble.zombie_part:
            self._machine.freeze()
            asyncio.get_running_loop().call_later(self._trouble.zombie_s, self._machine.thaw)
        await self._call(lambda: self._books.save(owner, progress))

    async def want(self, lease: Lease, by: str) -> bool:
        return await self._call(lambda: self._books.want(lease, by))

    async def release(self, lease: Lease) -> bool:
        return await self._call(lambda: self._books.release(lease))

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        await self._call(lambda: self._books.finish(lease, clock=clock, children=children, ended_ms=ended_ms))

    async def delete(self, leases: Sequence[Lease]) -> None:
        raise AssertionError("nothing is deleted in these histories")

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        """To the table and back. The process may freeze before and after, and the table answers meanwhile."""
        await self._machine.runs()
        await self._wait()
        lost = self._chance.random()
        if self.cut or lost < self._trouble.lost_part:
            raise CheckpointError("the call never arrived")
        answer = await call()
        await self._wait()
        await self._machine.runs()
        if self.cut or lost > 1 - self._trouble.lost_part:
            raise CheckpointError("the answer never came")
        return answer

    async def _wait(self) -> None:
        slow = self._chance.random() < self._trouble.slow_part
        await asyncio.sleep(self._chance.uniform(0, self._trouble.slow_s if slow else 0.05))
