"""What a lease is: one process' right to a shard for a short time, and the row in which it and the checkpoint are kept.

Kafka's group decides who reads which partition; stream shards have no such group. So each shard has a row in a table
that all replicas share. The design is the one that users of the Kinesis Client Library (KCL) know: an owner moves the
row's counter again and again; a row whose counter stands still is anybody's. No two machines' clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from connector.change import ShardId

TRIM_HORIZON: Final = "TRIM_HORIZON"
"""From the oldest record that the shard still has."""
LATEST: Final = "LATEST"
"""From the first record that is written after reading begins."""
SHARD_END: Final = "SHARD_END"
"""Every record of the closed shard is finished."""
AT_TIMESTAMP: Final = "AT_TIMESTAMP:"
"""With epoch milliseconds behind it: from the first record that was written at or after that time."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's row, as it was when it was read. What it says may be old: only conditional writes are sure of it."""

    key: ShardId
    """The shard's id. One table is one pipeline's, or its rows are namespaced by the store."""
    owner: str | None = None
    """Whose it is: a name that no other process has, and that a process does not have again after its restart."""
    counter: int = 0
    """The heartbeat. Moves at every take, renewal and release; standing still for the fail-over time is expiry."""
    epoch: int = 0
    """The fencing number: grows by one at every take, also by the same owner, and never falls. Of two owners of a
    shard the later one has the greater epoch, so a sink that keeps the greatest that it saw can refuse a zombie.
    (KCL's ``ownerSwitchesSinceCheckpoint`` is set back to 0 at each checkpoint and cannot be used for this.)"""
    wanted_by: str | None = None
    """Who asked the owner for a graceful hand-over. While the row has no owner it is kept for this one, until its
    counter has stood still for the fail-over time."""
    checkpoint: str
    """Where reading goes on: after the record of this sequence number (decimal text), or TRIM_HORIZON, LATEST,
    ``AT_TIMESTAMP:<epoch ms>`` for a shard of which nothing is finished yet, or SHARD_END."""
    clock: int = 0
    """The version clock's last stamp at the checkpoint (connector.delivery.versions). A child starts from its
    parents' greatest."""
    parents: frozenset[ShardId] = frozenset()
    """The shards that have to be finished before this one: one after a split or rollover, two after a merge."""
    children: frozenset[ShardId] = frozenset()
    """The shards that follow this one, as far as known when it was finished."""
    ended_ms: int | None = None
    """When the shard was finished (epoch milliseconds by the clock of whoever finished it): for deleting old rows."""

    @property
    def finished(self) -> bool:
        """Whether nothing of the shard is left to do."""
        return self.checkpoint == SHARD_END


class Progress(msgspec.Struct, frozen=True):
    """What an owner saves of a shard, and under which epoch it owned it."""

    epoch: int
    checkpoint: str
    clock: int


class LeaseStore(Protocol):
    """The table of leases. Every write is conditional on the row being what its writer believes; none overwrites.

    Called by several tasks at once. Errors: ConfigError from ``open`` for what only a person can mend;
    CheckpointError for everything that may pass (throttling, 5xx, a lost connection): the write may then have
    happened or not, and each may be called again. CheckpointLost only as said below.
    """

    async def open(self) -> None:
        """Connect; create what is missing."""

    async def all(self) -> Mapping[ShardId, Lease]:
        """Every row, as consistent as the store reads (each row as of some moment during the call)."""

    async def create(self, leases: Sequence[Lease]) -> None:
        """Write the rows that are not there yet, without owner; those that are there stay exactly as they are."""

    async def take(self, lease: Lease, owner: str) -> Lease | None:
        """Make it ``owner``'s: epoch and counter grow by one, ``wanted_by`` is cleared. The row's new state, with the
        checkpoint that is there now. None where owner, counter or epoch are not those of ``lease`` any more (somebody
        was faster, or its owner is alive), or the row is finished or gone."""

    async def renew(self, leases: Sequence[Lease]) -> Mapping[ShardId, Lease]:
        """Move the counters of rows that still have these leases' owner and epoch; the rows' new states.

        A lease that is somebody else's now is absent from the answer. One of which nothing is known (its write
        failed, the others' did not) comes back with its counter unmoved. Raises CheckpointError when all failed.
        """

    async def save(self, owner: str, progress: Mapping[ShardId, Progress]) -> None:
        """Save checkpoints durably, each on the condition that the row has this owner and epoch and is not finished.

        Raises CheckpointLost naming the shards that are not the owner's any more, when the others are saved.
        Raises CheckpointError when some are not saved and may be tried again.
        """

    async def want(self, lease: Lease, by: str) -> bool:
        """Ask for a graceful hand-over: set ``wanted_by``, where owner and epoch are those of ``lease`` and nobody
        else has asked in the meantime (``wanted_by`` is that of ``lease``). Says whether it is set."""

    async def release(self, lease: Lease) -> bool:
        """Give it up: no owner, the counter moves, ``wanted_by`` stays. Where owner and epoch are those of ``lease``;
        says whether they were."""

    async def finish(self, lease: Lease, *, clock: int, children: Collection[ShardId], ended_ms: int) -> None:
        """SHARD_END, without owner, on the condition that owner and epoch are those of ``lease``. Raises CheckpointLost
        where they are not; finishing again what this very epoch finished already is no error (an answer was lost)."""

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Delete the rows whose owner, counter and epoch are those of these leases; others stay."""

    async def close(self) -> None:
        """Let go of connections."""


class LeaseListener(Protocol):
    """Who works on the shards (a stream source), as the keeper of the leases (connector.leases.keeper) sees it.

    All are called by the keeper's own tasks and may take their time: heartbeats go on beside them. Calls that concern
    the same shard never overlap and come in the order of events: gained, then one of lost or asked_to_release.
    """

    async def gained(self, leases: Sequence[Lease]) -> None:
        """These are ours from now on. Each lease's checkpoint is the one that was there when it was taken."""

    async def lost(self, keys: Collection[ShardId]) -> None:
        """These are somebody else's, or may be: stop at once, save nothing."""

    async def asked_to_release(self, keys: Collection[ShardId]) -> None:
        """Another replica shall have these: drain for a bounded time and save (``Keeper.save``). After it returns
        nothing of them is in flight, and the keeper releases them. They are ours until then."""
