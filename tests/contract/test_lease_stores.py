"""What every lease store promises, held against each of ours and against the simulation's model of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from connector.errors import CheckpointLost
from connector.leases.protocol import LATEST, SHARD_END, TRIM_HORIZON, Lease, LeaseStore, Progress
from tests.contract.lease_stores import MakeStore, on_real_servers, store_maker
from tests.coroutines import asynchronous

ONE = "shardId-00000001700000000000-0a1b2c3d"
TWO = "shardId-00000001700000014400-ü\r\n"
NEW = [
    Lease(key=ONE, checkpoint=TRIM_HORIZON),
    Lease(key=TWO, checkpoint=LATEST, clock=2**63 - 1, parents=frozenset({ONE, "shardId-gone"})),
]
SEQUENCE = "4" * 40


@pytest.fixture(params=on_real_servers())
def make(request: pytest.FixtureRequest) -> MakeStore:
    return store_maker(request, request.param)


@contextlib.asynccontextmanager
async def two_processes(make: MakeStore) -> AsyncIterator[tuple[LeaseStore, LeaseStore]]:
    """The stores of two processes that share the leases of one pipeline, where NEW is there already."""
    async with opened(make) as one, opened(make) as other:
        await one.create(NEW)
        yield one, other


@contextlib.asynccontextmanager
async def opened(make: MakeStore, pipeline: str = "orders") -> AsyncIterator[LeaseStore]:
    store = make(pipeline)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def taken(store: LeaseStore, key: str, owner: str) -> Lease:
    lease = await store.take((await store.all())[key], owner)
    assert lease is not None
    return lease


@asynchronous
async def test_a_new_table_is_empty_and_what_is_created_comes_back_exactly(make: MakeStore) -> None:
    async with opened(make) as store:
        assert await store.all() == {}
        await store.create([])
        await store.create(NEW)
        assert await store.all() == {lease.key: lease for lease in NEW}
    async with opened(make) as after_a_restart:
        assert await after_a_restart.all() == {lease.key: lease for lease in NEW}


@asynchronous
async def test_create_never_overwrites(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        lease = await taken(store, ONE, "a")
        await store.save("a", {ONE: Progress(lease.epoch, SEQUENCE, 7)})
        before = await store.all()
        await other.create([Lease(key=ONE, checkpoint=LATEST, parents=frozenset({"x"})), *NEW])
        assert await store.all() == before
        assert before[ONE].checkpoint == SEQUENCE


@asynchronous
async def test_pipelines_do_not_share_leases(make: MakeStore) -> None:
    async with opened(make, "orders") as orders, opened(make, "customers") as customers:
        await orders.create(NEW)
        assert await customers.all() == {}
        await customers.create(NEW[:1])
        await taken(customers, ONE, "a")
        assert (await orders.all())[ONE].owner is None


@asynchronous
async def test_a_take_names_the_owner_and_moves_counter_and_epoch(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        assert await store.take(NEW[1], "a") == (await other.all())[TWO]
        lease = (await other.all())[TWO]
        assert (lease.owner, lease.counter, lease.epoch, lease.wanted_by) == ("a", 1, 1, None)
        assert (lease.checkpoint, lease.clock, lease.parents) == (NEW[1].checkpoint, NEW[1].clock, NEW[1].parents)


@asynchronous
async def test_of_many_who_take_at_once_exactly_one_wins(make: MakeStore) -> None:
    async with two_processes(make) as (one, other):
        for turn in range(5):
            seen = (await one.all())[ONE]
            names = [f"worker-{number}" for number in range(6)]
            takes = [(other if number % 2 else one).take(seen, name) for number, name in enumerate(names)]
            answers = await asyncio.gather(*takes)
            winners = [name for name, lease in zip(names, answers, strict=True) if lease is not None]
            row = (await other.all())[ONE]
            assert [row.owner] == winners
            assert row.epoch == turn + 1


@asynchronous
async def test_a_lease_that_was_renewed_since_it_was_seen_cannot_be_taken(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        lease = await taken(store, ONE, "a")
        seen = (await other.all())[ONE]
        assert (await store.renew([lease]))[ONE].counter > seen.counter
        assert await other.take(seen, "b") is None
        assert (await other.all())[ONE].owner == "a"
        assert await other.take((await other.all())[ONE], "b") is not None


@asynchronous
async def test_a_lease_that_is_gone_cannot_be_taken_or_renewed(make: MakeStore) -> None:
    async with two_processes(make) as (store, _):
        assert await store.take(Lease(key="shardId-never", checkpoint=LATEST), "a") is None
        assert await store.renew([Lease(key="shardId-never", owner="a", epoch=1, checkpoint=LATEST)]) == {}
        assert await store.renew([]) == {}


@asynchronous
async def test_renewing_leaves_out_what_is_lost(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        first, second = await taken(store, ONE, "a"), await taken(store, TWO, "a")
        await taken(other, TWO, "b")
        renewed = await store.renew([first, second])
        assert renewed == {ONE: (await other.all())[ONE]}
        assert renewed[ONE].counter == first.counter + 1
        # An answer may be lost: what was renewed is renewed again with the older view of it.
        assert (await store.renew([first]))[ONE].counter == first.counter + 2


@asynchronous
async def test_an_owner_who_took_again_has_nothing_left_of_its_earlier_time(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        before = await taken(store, ONE, "a")
        again = await taken(other, ONE, "a")
        assert again.epoch == before.epoch + 1
        assert await store.renew([before]) == {}
        assert not await store.release(before)
        with pytest.raises(CheckpointLost):
            await store.save("a", {ONE: Progress(before.epoch, "1", 1)})
        assert (await other.all())[ONE] == again


@asynchronous
async def test_a_save_keeps_every_digit_and_the_clock(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        lease = await taken(store, ONE, "a")
        await store.save("a", {})
        await store.save("a", {ONE: Progress(lease.epoch, SEQUENCE, 2**63 - 1)})
        await store.save("a", {ONE: Progress(lease.epoch, SEQUENCE, 2**63 - 1)})
        row = (await other.all())[ONE]
        assert (row.checkpoint, row.clock) == (SEQUENCE, 2**63 - 1)
        assert (row.owner, row.epoch) == ("a", lease.epoch)


@asynchronous
async def test_a_zombies_save_is_refused_and_the_others_of_the_same_call_are_saved(make: MakeStore) -> None:
    async with two_processes(make) as (zombie, other):
        first, second = await taken(zombie, ONE, "a"), await taken(zombie, TWO, "a")
        stolen = await taken(other, ONE, "b")
        await other.save("b", {ONE: Progress(stolen.epoch, "500", 50)})
        with pytest.raises(CheckpointLost) as caught:
            await zombie.save(
                "a",
                {
                    ONE: Progress(first.epoch, "100", 10),
                    TWO: Progress(second.epoch, "200", 20),
                    "shardId-never": Progress(1, "1", 1),
                },
            )
        assert caught.value.shards == {ONE, "shardId-never"}
        rows = await other.all()
        assert (rows[ONE].checkpoint, rows[ONE].clock, rows[ONE].owner) == ("500", 50, "b")
        assert (rows[TWO].checkpoint, rows[TWO].clock) == ("200", 20)


@asynchronous
async def test_a_graceful_hand_over_is_asked_for_once_and_ends_with_the_take(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        unowned = NEW[0]
        assert not await other.want(unowned, "b")
        lease = await taken(store, ONE, "a")
        assert await other.want(lease, "b")
        assert await other.want(lease, "b"), "asked again by the same: its answer may have been lost"
        assert not await other.want(lease, "c"), "somebody else asked since it was seen"
        row = (await store.renew([lease]))[ONE]
        assert (row.owner, row.wanted_by) == ("a", "b")
        assert await store.release(row)
        free = (await other.all())[ONE]
        assert (free.owner, free.wanted_by, free.epoch) == (None, "b", lease.epoch)
        assert free.counter > row.counter
        assert (await taken(other, ONE, "b")).wanted_by is None


@asynchronous
async def test_a_new_wish_replaces_one_that_was_seen(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        lease = await taken(store, ONE, "a")
        assert await other.want(lease, "b")
        assert await other.want((await other.all())[ONE], "c")
        assert (await store.all())[ONE].wanted_by == "c"


@asynchronous
async def test_only_the_owner_releases(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        before = await taken(store, ONE, "a")
        lease = await taken(other, ONE, "b")
        assert not await store.release(before)
        assert (await store.all())[ONE] == lease
        assert await other.release(lease)
        assert not await other.release(lease)
        with pytest.raises(CheckpointLost):
            await other.save("b", {ONE: Progress(lease.epoch, "1", 1)})


@asynchronous
async def test_a_finished_shard_is_nobodys_and_stays_finished(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        lease = await taken(store, ONE, "a")
        assert await other.want(lease, "b")
        for _ in range(2):  # the answer to the first call may have been lost
            await store.finish(lease, clock=9, children=[TWO, "shardId-3"], ended_ms=1_700_000_000_000)
        row = (await other.all())[ONE]
        assert row.finished
        assert (row.owner, row.wanted_by, row.clock, row.checkpoint) == (None, None, 9, SHARD_END)
        assert row.children == {TWO, "shardId-3"}
        assert row.ended_ms == 1_700_000_000_000
        assert await other.take(row, "b") is None
        with pytest.raises(CheckpointLost):
            await store.save("a", {ONE: Progress(lease.epoch, "1", 1)})
        assert (await other.all())[ONE] == row


@asynchronous
async def test_a_zombie_cannot_finish_a_shard(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        before = await taken(store, ONE, "a")
        lease = await taken(other, ONE, "b")
        with pytest.raises(CheckpointLost):
            await store.finish(before, clock=1, children=[], ended_ms=1)
        assert (await other.all())[ONE] == lease
        await other.finish(lease, clock=2, children=[], ended_ms=2)
        with pytest.raises(CheckpointLost):
            await store.finish(before, clock=1, children=[], ended_ms=1)
        assert (await other.all())[ONE].clock == 2


@asynchronous
async def test_only_what_is_as_it_was_seen_is_deleted(make: MakeStore) -> None:
    async with two_processes(make) as (store, other):
        await store.delete([])
        seen = await other.all()
        lease = await taken(store, ONE, "a")
        await other.delete(list(seen.values()))
        assert await other.all() == {ONE: lease}
        await other.delete([lease])
        assert await store.all() == {}


@asynchronous
async def test_many_rows_are_created_read_renewed_and_saved(make: MakeStore) -> None:
    async with opened(make) as store:
        leases = [Lease(key=f"shardId-{number:04}", checkpoint=TRIM_HORIZON) for number in range(80)]
        await store.create(leases)
        rows = await store.all()
        assert len(rows) == 80
        held = await asyncio.gather(*(store.take(lease, "a") for lease in rows.values()))
        ours = [lease for lease in held if lease is not None]
        assert len(await store.renew(ours)) == 80
        await store.save("a", {lease.key: Progress(lease.epoch, "12", 3) for lease in ours})
        assert {(row.checkpoint, row.counter, row.epoch) for row in (await store.all()).values()} == {("12", 2, 1)}
