"""Shards: from assignment to loss, and what is saved of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from connector.change import ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.delivery.ledger import Ledger, Segment
from connector.errors import CheckpointError, CheckpointLost
from connector.shards import Shards
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import simulated


class ToldStore:
    """A checkpoint store that fails as it is told to, one failure a call."""

    def __init__(self) -> None:
        self.saved: dict[ShardId, Checkpoint] = {}
        self.calls = 0
        self.failures: list[CheckpointError] = []
        self.takes_s = 0.0

    async def open(self) -> None:
        """Nothing to open."""

    async def load(self, shards: Sequence[ShardId]) -> Mapping[ShardId, Checkpoint]:
        return {shard: self.saved[shard] for shard in shards if shard in self.saved}

    async def save(self, checkpoints: Mapping[ShardId, Checkpoint]) -> None:
        self.calls += 1
        await asyncio.sleep(self.takes_s)
        if self.failures:
            raise self.failures.pop(0)
        self.saved.update(checkpoints)

    async def all(self) -> Mapping[ShardId, Checkpoint]:
        return self.saved

    async def reset(self, shards: Sequence[ShardId]) -> None:
        for shard in shards:
            del self.saved[shard]

    async def close(self) -> None:
        """Nothing to close."""


class Desk:
    """Shards with a told store; ``read`` and ``finish`` play the pipeline."""

    def __init__(
        self,
        clock: SimulatedClock,
        *,
        drain_s: float = 10.0,
        before_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.store = ToldStore()
        self.moved = asyncio.Event()
        self.clock = clock
        self.shards = Shards(
            self.store, counts=2, drain_s=drain_s, clock=clock, moved=self.moved, before_assigned=before_assigned
        )

    async def assign(self, *shards: ShardId) -> list[Ledger]:
        await self.shards.assigned(dict.fromkeys(shards, Checkpoint(0)))
        return [self.shards.owned[shard] for shard in shards]

    def read(self, book: Ledger, next_position: int, *, finished: bool = False) -> Segment:
        segment = book.open_segment(next_position, 1, 0)
        book.seal(segment, next_position)
        segment.pending += not finished
        book.release(segment, 0)
        return segment

    def finish(self, segment: Segment) -> None:
        segment.pending -= 1
        segment.ledger.advance(self.clock.now_ms())
        self.moved.set()


@simulated
async def test_only_what_moved_is_saved_and_only_once(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    first, _ = await desk.assign("log/0", "log/1")
    desk.read(first, 10, finished=True)
    await desk.shards.save()
    await desk.shards.save()
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}
    assert desk.store.calls == 1


@simulated
async def test_a_revoked_shard_is_drained_saved_and_let_go(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    segment = desk.read(book, 10)
    revoking = asyncio.ensure_future(desk.shards.revoked(["log/0"]))
    await asyncio.sleep(1)
    assert not revoking.done()
    desk.finish(segment)
    await revoking
    assert clock.monotonic() < 2
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}
    assert book.lost
    assert not desk.shards.owned
    assert not desk.shards.leaving


@simulated
async def test_a_drain_is_bounded_and_what_is_not_finished_by_then_is_not_saved(clock: SimulatedClock) -> None:
    desk = Desk(clock, drain_s=10.0)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    stuck = desk.read(book, 20)
    await desk.shards.revoked(["log/0"])
    assert clock.monotonic() == pytest.approx(10.0)
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}
    assert desk.shards.leaving == [book]
    desk.finish(stuck)
    await desk.shards.save()
    await desk.shards.save([book])
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}, "what is let go is never saved again"


@simulated
async def test_a_shard_that_was_read_to_its_end_is_ended_when_all_of_it_is_finished_and_not_before(
    clock: SimulatedClock,
) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    segment = desk.read(book, 10)
    desk.read(book, SHARD_END, finished=True)
    assert await desk.shards.ended(["log/0"]) == {}
    assert list(desk.shards.owned) == ["log/0"]
    assert desk.store.saved == {}
    desk.finish(segment)
    assert await desk.shards.ended(["log/0", "log/7"]) == {"log/0": book.watermark}
    assert desk.store.saved["log/0"].position == SHARD_END
    assert not desk.shards.owned


@simulated
async def test_an_end_that_cannot_be_saved_is_none(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, SHARD_END, finished=True)
    desk.store.failures = [CheckpointError("down")]
    assert await desk.shards.ended(["log/0"]) == {}
    assert list(desk.shards.owned) == ["log/0"]
    desk.store.failures = [CheckpointLost("theirs", shards=["log/0"])]
    assert await desk.shards.ended(["log/0"]) == {}
    assert await desk.shards.ended(["log/0"]) == {}, "a lost shard is nobody's to end here"


@simulated
async def test_a_shard_that_was_not_read_to_its_end_is_not_ended(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    assert await desk.shards.ended(["log/0"]) == {}
    assert desk.store.saved == {}


@simulated
async def test_other_shards_do_not_hold_up_a_revoked_one(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    first, second = await desk.assign("log/0", "log/1")
    desk.read(second, 10)
    desk.read(first, 10, finished=True)
    await desk.shards.revoked(["log/0"])
    assert clock.monotonic() == 0
    assert list(desk.shards.owned) == ["log/1"]


@simulated
async def test_a_lost_shard_is_dropped_and_nothing_of_it_is_saved(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    await desk.shards.lost(["log/0"])
    await desk.shards.save()
    await desk.shards.save([book])
    assert desk.store.calls == 0
    assert book.lost


@simulated
async def test_a_lost_ledger_leaves_when_its_last_change_has_ended(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    segment = desk.read(book, 10)
    await desk.shards.lost(["log/0"])
    assert desk.shards.leaving == [book]
    desk.finish(segment)
    await desk.shards.lost([])
    assert desk.shards.leaving == []


@simulated
async def test_what_is_not_owned_can_be_neither_revoked_nor_lost(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    await desk.shards.revoked(["log/9"])
    await desk.shards.lost(["log/9"])
    assert desk.store.calls == 0


@simulated
async def test_a_shard_that_comes_back_has_a_new_ledger_and_the_old_one_is_lost(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (old,) = await desk.assign("log/0")
    desk.read(old, 10)
    (new,) = await desk.assign("log/0")
    assert old.lost
    assert not new.lost
    assert desk.shards.leaving == [old]


@simulated
async def test_a_checkpoint_that_is_lost_marks_its_shard_alone(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    first, second = await desk.assign("log/0", "log/1")
    desk.read(first, 10, finished=True)
    desk.read(second, 10, finished=True)
    desk.store.failures = [CheckpointLost("fenced", shards=["log/0"])]
    await desk.shards.save()
    assert (first.lost, second.lost) == (True, False)
    assert list(desk.shards.owned) == ["log/0", "log/1"], "it stays until the source hears of it"
    await desk.shards.save()
    assert desk.store.saved == {"log/1": Checkpoint(10, 10)}


@simulated
async def test_a_failure_to_save_is_remembered_and_forgotten_when_it_has_passed(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    before_ms = desk.shards.last_saved_ms
    desk.store.failures = [CheckpointError("the disk is full")]
    await asyncio.sleep(1)
    await desk.shards.save()
    assert desk.shards.last_error == "the disk is full"
    assert desk.shards.last_saved_ms == before_ms
    assert book.unsaved == Checkpoint(10, 10)
    await desk.shards.save()
    assert desk.shards.last_error == ""
    assert desk.shards.last_saved_ms == before_ms + 1000
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}


@simulated
async def test_a_save_that_fails_at_the_end_still_lets_the_shard_go(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    desk.store.failures = [CheckpointError("down")]
    await desk.shards.revoked(["log/0"])
    assert book.lost
    assert not desk.shards.owned


@simulated
async def test_what_moves_while_it_is_saved_is_saved_at_the_next_turn(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    desk.store.takes_s = 1.0
    saving = asyncio.ensure_future(desk.shards.save())
    await asyncio.sleep(0.5)
    desk.read(book, 20, finished=True)
    await saving
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}
    await desk.shards.save()
    assert desk.store.saved == {"log/0": Checkpoint(20, 20)}


@simulated
async def test_two_saves_never_overtake_each_other(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    desk.store.takes_s = 1.0
    first = asyncio.ensure_future(desk.shards.save())
    await asyncio.sleep(0.1)
    desk.read(book, 20, finished=True)
    desk.store.takes_s = 0.0
    await asyncio.gather(first, desk.shards.save())
    assert desk.store.saved == {"log/0": Checkpoint(20, 20)}


@simulated
async def test_after_closing_the_source_may_say_what_it_likes(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    (book,) = await desk.assign("log/0")
    desk.read(book, 10, finished=True)
    desk.read(book, 20)
    await desk.shards.close()
    await desk.shards.revoked(["log/0"])
    assert clock.monotonic() == 0
    assert desk.store.calls == 1
    assert desk.store.saved == {"log/0": Checkpoint(10, 10)}


@simulated
async def test_held_keys_are_learned_before_anything_is_assigned(clock: SimulatedClock) -> None:
    owned: list[int] = []

    async def learn() -> None:
        owned.append(len(desk.shards.owned))

    desk = Desk(clock, before_assigned=learn)
    await desk.assign("log/0")
    await desk.shards.assigned({})
    assert owned == [0]


@simulated
async def test_a_ledger_starts_from_its_checkpoint_and_its_clock(clock: SimulatedClock) -> None:
    desk = Desk(clock)
    await desk.shards.assigned({"log/0": Checkpoint(7, 99), "log/1": None})
    assert desk.shards.owned["log/0"].clock == 99
    assert desk.shards.owned["log/0"].watermark == Checkpoint(7, 99)
    assert desk.shards.owned["log/1"].watermark is None
    await desk.shards.save()
    assert desk.store.calls == 0
