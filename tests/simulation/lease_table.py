"""A lease table in memory: the model of the real ones, held to the same contract (tests/contract/test_lease_stores)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from connector.change import ShardId
from connector.errors import CheckpointLost
from connector.leases.protocol import SHARD_END, Lease, Progress

Rows = dict[ShardId, Lease]


class LeaseTable:
    """A LeaseStore. Several of them share ``rows``, as several processes share a table. Each call is one moment."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    async def open(self) -> None:
        """Nothing to connect to."""

    async def all(self) -> Mapping[ShardId, Lease]:
        return dict(self.rows)

    async def create(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self.rows.setdefault(lease.key, msgspec.structs.replace(lease, owner=None, wanted_by=None))

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        row = self._seen(lease)
        if row is None or row.finished:
            return None
        return self._write(row, owner=owner, counter=row.counter + 1, epoch=row.epoch + 1, wanted_by=None)

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        held = {lease.key: self._held(lease.key, lease.owner, lease.epoch) for lease in leases}
        return {key: self._write(row, counter=row.counter + 1) for key, row in held.items() if row is not None}

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        lost = []
        for key, one in progress.items():
            row = self._held(key, owner, one.epoch)
            if row is None or row.finished:
                lost.append(key)
            else:
                self._write(row, checkpoint=one.checkpoint, clock=one.clock)
        if lost:
            raise CheckpointLost("not ours any more", shards=lost)

    async def want(self, lease: Lease, by: str) -> bool:
        row = self._held(lease.key, lease.owner, lease.epoch)
        if row is None or row.wanted_by not in (lease.wanted_by, by):
            return False
        self._write(row, wanted_by=by)
        return True

    async def release(self, lease: Lease) -> bool:
        row = self._held(lease.key, lease.owner, lease.epoch)
        if row is None:
            return False
        self._write(row, owner=None, counter=row.counter + 1)
        return True

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        row = self.rows.get(lease.key)
        if row is not None and row.finished and row.epoch == lease.epoch:
            return
        row = self._held(lease.key, lease.owner, lease.epoch)
        if row is None:
            raise CheckpointLost("not ours any more", shards=[lease.key])
        ended = {"checkpoint": SHARD_END, "clock": clock, "children": frozenset(children), "ended_ms": ended_ms}
        self._write(row, owner=None, wanted_by=None, counter=row.counter + 1, **ended)

    async def delete(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if self._seen(lease) is not None:
                del self.rows[lease.key]

    async def close(self) -> None:
        """Nothing to let go of."""

    def _seen(self, lease: Lease) -> Lease | None:
        row = self.rows.get(lease.key)
        as_seen = row is not None and (row.owner, row.counter, row.epoch) == (lease.owner, lease.counter, lease.epoch)
        return row if as_seen else None

    def _held(self, key: ShardId, owner: str | None, epoch: int) -> Lease | None:
        row = self.rows.get(key)
        ours = row is not None and row.owner is not None and (row.owner, row.epoch) == (owner, epoch)
        return row if ours else None

    def _write(self, row: Lease, **changes: object) -> Lease:
        written = self.rows[row.key] = msgspec.structs.replace(row, **changes)
        return written
