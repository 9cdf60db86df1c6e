"""The keeper of one process' leases, step by step in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec
import pytest

from connector.errors import CheckpointError, CheckpointLost
from connector.leases.protocol import SHARD_END, TRIM_HORIZON, Lease
from tests.unit.leases.processes import DURATION_S, Process, simulated, table, until


@simulated
async def test_a_lone_process_takes_everything_and_keeps_it() -> None:
    rows = table("a", "b", "c")
    process = Process(rows, "one")
    await until({"one": 3}, rows, within_s=DURATION_S)
    await asyncio.sleep(20 * DURATION_S)
    assert process.owned == {"a", "b", "c"}
    assert {row.epoch for row in rows.values()} == {1}
    assert {word for word, _ in process.told} == {"gained"}


@simulated
async def test_a_silent_owners_leases_are_taken_when_the_fail_over_time_has_passed_and_not_before() -> None:
    rows = table("a", "b", owner="silent")
    process = Process(rows, "one")
    await asyncio.sleep(DURATION_S - 0.1)
    assert process.owned == set()
    await until({"one": 2}, rows, within_s=DURATION_S)
    assert {row.epoch for row in rows.values()} == {2}


@simulated
async def test_a_living_owners_leases_are_not_taken_but_asked_for() -> None:
    rows = table("a", "b", "c", "d", "e")
    one = Process(rows, "one")
    await until({"one": 5}, rows, within_s=DURATION_S)
    Process(rows, "two")
    await until({"one": 3, "two": 2}, rows, within_s=6 * DURATION_S)
    assert [word for word, _ in one.told if word != "gained"] == ["asked", "asked"]


@simulated
async def test_without_stealing_nobody_is_asked() -> None:
    rows = table("a", "b", "c", "d")
    one = Process(rows, "one")
    await until({"one": 4}, rows, within_s=DURATION_S)
    two = Process(rows, "two", steal=False)
    await asyncio.sleep(10 * DURATION_S)
    assert (len(one.owned), two.owned) == (4, set())


@simulated
async def test_a_child_is_taken_when_its_parents_are_finished_or_forgotten() -> None:
    rows = table("parent")
    rows["child"] = Lease(key="child", checkpoint=TRIM_HORIZON, parents=frozenset({"parent"}))
    rows["orphan"] = Lease(key="orphan", checkpoint=TRIM_HORIZON, parents=frozenset({"gone"}))
    process = Process(rows, "one")
    await asyncio.sleep(3 * DURATION_S)
    assert process.owned == {"parent", "orphan"}
    await process.keeper.finish("parent", clock=7, children=["child"])
    await process.keeper.look()
    assert process.owned == {"child", "orphan"}
    assert (rows["parent"].checkpoint, rows["parent"].clock, rows["parent"].owner) == (SHARD_END, 7, None)
    await asyncio.sleep(3 * DURATION_S)
    assert [word for word, _ in process.told if word != "gained"] == [], "who finishes a shard does not lose it"


@simulated
async def test_a_process_that_wakes_from_a_freeze_owns_nothing_until_it_has_taken_again() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.machine.freeze()
    await asyncio.sleep(DURATION_S + 0.1)
    assert not process.keeper.owns("a")
    assert process.keeper.lease("a") is None
    with pytest.raises(CheckpointLost):
        await process.keeper.save({"a": ("17", 1)})
    with pytest.raises(CheckpointLost):
        await process.keeper.finish("a", clock=1)
    assert rows["a"].checkpoint == TRIM_HORIZON
    process.machine.thaw()
    await asyncio.sleep(DURATION_S)
    assert process.told == [("gained", ["a"]), ("lost", ["a"]), ("gained", ["a"])]
    assert rows["a"].epoch == 2


@simulated
async def test_a_right_ends_on_time_though_the_store_is_silent() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.line.there_s = dict.fromkeys(["renew", "all"], 1e6)
    renewals, at_s = rows["a"].counter, process.loop.time()
    await asyncio.sleep(2 * DURATION_S)
    assert process.told[-1] == ("lost", ["a"])
    assert at_s < process.told_at_s[-1] <= at_s + DURATION_S
    assert rows["a"].counter == renewals


@simulated
async def test_a_renewal_counts_from_before_it_was_sent() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    counter = rows["a"].counter
    process.line.back_s["renew"] = 6.0
    while rows["a"].counter == counter:
        await asyncio.sleep(0.01)
    moved_s = process.loop.time()
    process.line.failing = {"renew", "all"}
    await asyncio.sleep(DURATION_S - 0.1)
    assert process.keeper.owns("a"), "it is its own for the time that others wait"
    await asyncio.sleep(0.1)
    assert not process.keeper.owns("a")
    assert process.loop.time() <= moved_s + DURATION_S + 0.01


@simulated
async def test_an_answer_that_comes_too_late_is_not_believed_and_the_lease_is_found_again() -> None:
    rows = table("a")
    process = Process(rows, "one")
    process.line.back_s["take"] = DURATION_S + 1
    await asyncio.sleep(DURATION_S + 2)
    assert rows["a"].owner == "one"
    assert process.told == []
    assert not process.keeper.owns("a")
    process.line.back_s.clear()
    await asyncio.sleep(DURATION_S + 2)
    assert process.told == [("gained", ["a"])]
    assert rows["a"].epoch > 1


@simulated
async def test_a_take_whose_answer_was_lost_is_taken_again() -> None:
    rows = table("a")
    process = Process(rows, "one")
    process.line.losing_answers = {"take"}
    await asyncio.sleep(1)
    assert (rows["a"].owner, process.owned, process.keeper.last_error) == ("one", set(), "connection reset")
    process.line.losing_answers = set()
    await asyncio.sleep(DURATION_S)
    assert process.owned == {"a"}
    assert process.keeper.last_error == ""


@simulated
async def test_a_row_of_which_nothing_is_known_is_not_extended() -> None:
    rows = table("a", "b")
    process = Process(rows, "one")
    await until({"one": 2}, rows, within_s=DURATION_S)
    untouched = process.keeper.lease("b")
    assert untouched is not None

    class OneRowThrottled:
        async def renew(self, _: list[Lease]) -> dict[str, Lease | None]:
            rows["a"] = msgspec.structs.replace(rows["a"], counter=rows["a"].counter + 1)
            return {"a": rows["a"], "b": untouched}

    process.line._table.renew = OneRowThrottled().renew  # type: ignore[assignment]
    await asyncio.sleep(DURATION_S + 0.1)
    assert process.told[-1] == ("lost", ["b"])
    assert process.keeper.owns("a")


@simulated
async def test_a_shard_that_is_asked_for_is_drained_saved_and_released_while_its_heart_beats() -> None:
    rows = table("a", "b", "c")
    one = Process(rows, "one")
    await until({"one": 3}, rows, within_s=DURATION_S)
    owned_while_draining: list[bool] = []

    async def drain(keys: Collection[str]) -> None:
        await asyncio.sleep(2 * DURATION_S)
        owned_while_draining.extend(one.keeper.owns(key) for key in keys)
        await one.keeper.save(dict.fromkeys(keys, ("42", 4)))

    one.drained = drain
    two = Process(rows, "two")
    await until({"one": 2, "two": 1}, rows, within_s=6 * DURATION_S)
    (moved,) = two.owned
    assert owned_while_draining == [True]
    assert (rows[moved].checkpoint, rows[moved].clock, rows[moved].wanted_by) == ("42", 4, None)
    with pytest.raises(CheckpointLost):
        await one.keeper.save({moved: ("43", 5)})


@simulated
async def test_who_does_not_drain_in_time_loses_the_shard_and_it_is_handed_over_all_the_same() -> None:
    rows = table("a", "b")
    one = Process(rows, "one", handover_s=5.0)
    one.hearing_s["asked"] = 1e6
    await until({"one": 2}, rows, within_s=DURATION_S)
    two = Process(rows, "two")
    await until({"one": 1, "two": 1}, rows, within_s=3 * DURATION_S)
    (moved,) = two.owned
    assert one.told[1:] == [("asked", [moved]), ("lost", [moved])]


@simulated
async def test_a_lease_is_kept_for_who_asked_for_it_until_the_fail_over_time_has_passed() -> None:
    rows = table("a", owner="one")
    rows["a"] = msgspec.structs.replace(rows["a"], owner=None, wanted_by="gone")
    process = Process(rows, "two")
    await asyncio.sleep(DURATION_S - 0.1)
    assert rows["a"].owner is None
    await asyncio.sleep(DURATION_S)
    assert process.owned == {"a"}


@simulated
async def test_who_asked_takes_what_was_released_for_it_at_its_next_look() -> None:
    rows = table("a", "b", "c")
    rows["a"] = msgspec.structs.replace(rows["a"], wanted_by="one")
    rows["b"] = msgspec.structs.replace(rows["b"], owner="other")
    process = Process(rows, "one")
    await asyncio.sleep(0.1)
    assert "a" in process.owned


@simulated
async def test_what_it_could_not_release_is_released_at_the_next_look() -> None:
    rows = table("a", "b")
    one = Process(rows, "one")
    await until({"one": 2}, rows, within_s=DURATION_S)
    one.line.failing = {"release"}
    two = Process(rows, "two")
    await asyncio.sleep(0.9 * DURATION_S)
    assert (len(one.owned), two.owned) == (1, set())
    assert one.keeper.last_error == "throttled"
    one.line.failing = set()
    await until({"one": 1, "two": 1}, rows, within_s=DURATION_S)


@simulated
async def test_what_is_lost_is_said_after_what_the_listener_is_still_hearing() -> None:
    rows = table("a")
    process = Process(rows, "one")
    process.hearing_s["gained"] = 3 * DURATION_S
    await asyncio.sleep(1)
    rows["a"] = msgspec.structs.replace(rows["a"], owner="thief", epoch=2)
    await asyncio.sleep(DURATION_S)
    assert not process.keeper.owns("a")
    assert process.told == [("gained", ["a"])]
    await asyncio.sleep(2 * DURATION_S)
    assert process.told[:2] == [("gained", ["a"]), ("lost", ["a"])]
    assert process.told_at_s[1] > 2.9 * DURATION_S


@simulated
async def test_a_lease_is_not_taken_again_while_the_listener_still_hears_of_its_loss() -> None:
    rows = table("a")
    process = Process(rows, "one")
    process.hearing_s["lost"] = 2 * DURATION_S
    await until({"one": 1}, rows, within_s=DURATION_S)
    rows["a"] = msgspec.structs.replace(rows["a"], owner=None, epoch=2)
    await asyncio.sleep(2 * DURATION_S)
    assert rows["a"].owner is None
    await asyncio.sleep(DURATION_S)
    assert process.told == [("gained", ["a"]), ("lost", ["a"]), ("gained", ["a"])]


@simulated
async def test_a_save_names_what_is_lost_and_saves_the_rest() -> None:
    rows = table("a", "b")
    process = Process(rows, "one")
    await until({"one": 2}, rows, within_s=DURATION_S)
    rows["a"] = msgspec.structs.replace(rows["a"], owner="thief", epoch=2)
    with pytest.raises(CheckpointLost) as caught:
        await process.keeper.save({"a": ("1", 1), "b": ("2", 2), "never": ("3", 3)})
    assert caught.value.shards == {"a", "never"}
    assert (rows["a"].checkpoint, rows["b"].checkpoint) == (TRIM_HORIZON, "2")
    await asyncio.sleep(0)
    assert process.told[-1] == ("lost", ["a"])
    assert process.owned == {"b"}


@simulated
async def test_a_finish_whose_answer_was_lost_may_be_called_again() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.line.losing_answers = {"finish"}
    with pytest.raises(CheckpointError, match="reset"):
        await process.keeper.finish("a", clock=1)
    process.line.losing_answers = set()
    await process.keeper.finish("a", clock=1)
    assert rows["a"].finished
    assert process.owned == set()


@simulated
async def test_a_shard_whose_finish_is_slow_to_answer_is_not_lost_meanwhile() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.line.back_s["finish"] = 0.9 * DURATION_S
    await process.keeper.finish("a", clock=1)
    await asyncio.sleep(DURATION_S)
    assert process.told == [("gained", ["a"])]


@simulated
async def test_a_finish_that_is_broken_off_leaves_a_lease_that_can_be_lost() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.line.there_s["finish"] = 5.0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.keeper.finish("a", clock=1), timeout=1.0)
    process.machine.freeze()
    await asyncio.sleep(2 * DURATION_S)
    process.machine.thaw()
    await asyncio.sleep(DURATION_S)
    assert process.told == [("gained", ["a"]), ("lost", ["a"]), ("gained", ["a"])]


@simulated
async def test_a_loss_after_the_end_of_run_is_an_error_for_who_saves_and_nothing_else() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    process.crash()
    await asyncio.sleep(0)
    rows["a"] = msgspec.structs.replace(rows["a"], owner="thief", epoch=2)
    with pytest.raises(CheckpointLost):
        await process.keeper.save({"a": ("1", 1)})
    assert process.told == [("gained", ["a"])]


@simulated
async def test_a_zombie_that_finishes_is_told_that_it_has_lost() -> None:
    rows = table("a")
    process = Process(rows, "one")
    await until({"one": 1}, rows, within_s=DURATION_S)
    rows["a"] = msgspec.structs.replace(rows["a"], owner="thief", epoch=2)
    with pytest.raises(CheckpointLost):
        await process.keeper.finish("a", clock=1)
    await asyncio.sleep(0)
    assert process.told[-1] == ("lost", ["a"])
    assert not rows["a"].finished


@simulated
async def test_who_leaves_in_good_order_keeps_nobody_waiting() -> None:
    rows = table("a", "b")
    one = Process(rows, "one")
    await until({"one": 2}, rows, within_s=DURATION_S)
    one.crash()
    await one.keeper.close()
    assert {row.owner for row in rows.values()} == {None}
    assert one.owned == set()
    Process(rows, "two")
    await until({"two": 2}, rows, within_s=1)


@simulated
async def test_an_error_of_the_listener_ends_the_keepers_run() -> None:
    rows = table("a", "b")
    process = Process(rows, "one")

    async def fail(keys: Collection[str]) -> None:
        raise ValueError("a bug")

    process.drained = fail
    await until({"one": 2}, rows, within_s=DURATION_S)
    Process(rows, "two")
    with pytest.raises(ExceptionGroup) as caught:
        await process.running
    assert caught.group_contains(ValueError, match="a bug")
