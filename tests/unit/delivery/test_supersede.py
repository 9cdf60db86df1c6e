from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from connector.change import Change
from connector.delivery.supersede import supersede, unique_runs
from tests.unit.delivery.builders import change, versions

KEYS = st.lists(st.sampled_from("abcde"), max_size=30)


def changes_of(keys: list[str]) -> list[Change]:
    return [change(key, version) for version, key in enumerate(keys, 1)]


def state_after(changes: list[Change]) -> dict[str, int]:
    state: dict[str, int] = {}
    for each in changes:  # as a sink with a version guard does it
        state[each.key] = max(each.version, state.get(each.key, 0))
    return state


@given(KEYS)
def test_the_kept_changes_leave_the_same_state_as_all_of_them(keys: list[str]) -> None:
    batch = changes_of(keys)
    kept, earlier = supersede(batch, frozenset())
    assert state_after(kept) == state_after(batch)
    assert len({each.key for each in kept}) == len(kept)
    assert sorted(versions([*kept, *(old for older in earlier.values() for old in older)])) == versions(batch)


def test_changes_of_two_shards_do_not_supersede_each_other() -> None:
    """Equal keys of two topics may be two tables' items; where they are one item's, the sink's versions decide."""
    batch = [
        change("a", 1),
        change("a", 9, shard="log/1"),
        change("a", 2),
        change("a", 3, shard="log/1"),
        change("b", 4),
    ]
    kept, earlier = supersede(batch, frozenset())
    assert {(each.shard, each.version) for each in kept} == {("log/0", 2), ("log/1", 9), ("log/0", 4)}
    assert sorted(versions([old for older in earlier.values() for old in older])) == [1, 3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["log/0", "log/1"])), max_size=30), st.data())
def test_the_newest_version_is_kept_also_where_two_shards_are_read_out_of_step(
    places: list[tuple[str, str]], data: st.DataObject
) -> None:
    everything = [change(key, version, shard=shard) for version, (key, shard) in enumerate(places, 1)]
    shards = [[each for each in everything if each.shard == shard] for shard in ("log/0", "log/1")]
    batch = []
    while any(shards):  # each shard in its own order, the two of them in any
        batch.append(data.draw(st.sampled_from([shard for shard in shards if shard])).pop(0))
    kept, earlier = supersede(batch, frozenset())
    assert state_after(kept) == state_after(batch)
    assert sorted(versions([*kept, *(old for older in earlier.values() for old in older)])) == versions(everything)
    for older in earlier.values():
        assert versions(older) == sorted(versions(older))
        assert len({(each.shard, each.key) for each in older}) == 1


def test_of_two_copies_of_one_change_the_one_read_last_is_kept() -> None:
    lost, again = change("a", 5), change("a", 5)
    kept, earlier = supersede([lost, again], frozenset())
    assert kept[0] is again
    assert earlier[id(again)][0] is lost


def test_nothing_is_superseded_where_the_place_hangs_on_more_than_the_key() -> None:
    batch = changes_of(["a", "b", "a"])
    assert supersede(batch, frozenset({"customer"})) == (batch, {})


def test_a_place_made_of_the_key_supersedes_all_the_same() -> None:
    batch = [change("a", version, pk="a", sk="1") for version in (1, 2, 3)]
    kept, _ = supersede(batch, frozenset({"pk", "sk"}))
    assert versions(kept) == [3]


def test_one_key_without_the_attribute_is_enough_to_supersede_nothing() -> None:
    batch = [change("a", 1, pk="a", sk="1"), change("b", 2, pk="b"), change("a", 3, pk="a", sk="1")]
    assert supersede(batch, frozenset({"sk"})) == (batch, {})


@given(KEYS)
def test_runs_hold_each_key_once_and_keep_the_order(keys: list[str]) -> None:
    batch = changes_of(keys)
    runs = unique_runs(batch)
    assert versions([each for each_run in runs for each in each_run]) == versions(batch)
    for each_run in runs:
        assert each_run
        assert len({each.key for each in each_run}) == len(each_run)


@given(KEYS)
def test_there_are_no_more_runs_than_needed(keys: list[str]) -> None:
    runs = unique_runs(changes_of(keys))
    for before, after in itertools.pairwise(runs):
        assert after[0].key in {each.key for each in before}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=30))
def test_of_changes_that_are_read_out_of_order_the_newest_is_kept_and_the_others_stand_in_order(
    told: list[tuple[str, int]],
) -> None:
    batch = [change(key, version) for key, version in told]
    kept, earlier = supersede(batch, frozenset())
    assert state_after(kept) == state_after(batch)
    assert len({each.key for each in kept}) == len(kept)
    for winner in kept:
        older = earlier.pop(id(winner), [])
        assert versions([*older, winner]) == sorted(versions([each for each in batch if each.key == winner.key]))
    assert earlier == {}


def test_of_two_changes_of_one_version_the_one_that_was_read_last_is_kept() -> None:
    first, newest, again = change("a", 5), change("a", 7), change("a", 7)
    kept, earlier = supersede([first, newest, again], frozenset())
    assert kept == [again]
    assert kept[0] is again
    assert [id(each) for each in earlier[id(again)]] == [id(first), id(newest)]
