"""The shard graph: what may begin, when, and what is missed."""

from __future__ import annotations

from connector.sources.streams.api import StreamShard
from connector.sources.streams.lineage import Lineage

HOUR_MS = 3_600_000


def shard(id_: str, *parents: str, closed: bool = False) -> StreamShard:
    return StreamShard(id_, parents, closed)


def listed(lineage: Lineage, *shards: StreamShard, times: int = 1, ended: bool = False) -> Lineage:
    for _ in range(times):
        lineage.add(shards)
        lineage.end_pass(ended=ended)
    return lineage


def a_lineage(*shards: StreamShard, whole: bool = False, **finished_ms: int | None) -> Lineage:
    """After two listings, settled as at a first start."""
    lineage = listed(Lineage(finished_ms, whole=whole), *shards, times=2)
    if not whole:
        lineage.settle(lineage.roots())
    return lineage


def test_a_child_waits_until_its_parent_is_finished() -> None:
    lineage = a_lineage(shard("a", closed=True), shard("b", "a"))
    assert lineage.startable() == ["a"]
    lineage.begin("a")
    assert lineage.startable() == []
    lineage.finish("a", 0)
    assert lineage.startable() == ["b"]


def test_a_merged_shard_waits_for_both_parents() -> None:
    lineage = a_lineage(shard("a", closed=True), shard("b", closed=True), shard("c", "a", "b"))
    lineage.finish("a", 0)
    assert lineage.startable() == ["b"]
    lineage.finish("b", 0)
    assert lineage.startable() == ["c"]


def test_a_child_that_is_listed_before_its_parent_waits_for_the_parent_to_be_seen() -> None:
    lineage = Lineage({}, whole=False)
    lineage.add([shard("b", "a")])
    assert lineage.startable() == []
    lineage.add([shard("a", closed=True)])
    lineage.end_pass(ended=False)
    listed(lineage, shard("a", closed=True), shard("b", "a"))
    lineage.settle(lineage.roots())
    assert lineage.startable() == ["a"]


def test_a_shard_whose_parent_was_trimmed_before_the_first_start_may_begin_after_two_listings() -> None:
    lineage = listed(Lineage({}, whole=False), shard("b", "a"))
    assert lineage.needs_pass
    listed(lineage, shard("b", "a"))
    lineage.settle(lineage.roots())
    assert lineage.startable() == ["b"]
    assert lineage.orphans() == []


def test_one_listing_that_lacks_a_parent_does_not_let_its_child_begin() -> None:
    lineage = Lineage({}, whole=False)
    listed(lineage, shard("b", "a"))
    listed(lineage, shard("a", closed=True), shard("b", "a"))
    lineage.settle(lineage.roots())
    assert lineage.startable() == ["a"]


def test_a_shard_that_only_one_listing_has_shown_is_no_root_yet() -> None:
    lineage = listed(Lineage({}, whole=False), shard("a", closed=True))
    listed(lineage, shard("a", closed=True), shard("c", "b"))
    assert lineage.roots() == ["a"]
    lineage.settle(lineage.roots())
    assert lineage.startable() == ["a"]
    listed(lineage, shard("a", closed=True), shard("b", "a", closed=True), shard("c", "b"))
    assert lineage.startable() == ["a"], "b was there all the time"


def test_a_shard_that_another_replica_found_first_is_not_missed_before_two_listings_of_ours() -> None:
    lineage = a_lineage(shard("a"))
    lineage.begin("b")
    assert not lineage.vanished("b")
    listed(lineage, shard("a"), times=2)
    assert lineage.vanished("b")


def test_a_later_shard_whose_parent_was_never_seen_is_an_orphan_and_begins_only_when_that_is_forgiven() -> None:
    lineage = a_lineage(shard("a"))
    listed(lineage, shard("a"), shard("c", "b"), times=2)
    assert lineage.orphans() == ["c"]
    assert lineage.startable() == ["a"]
    lineage.forgive("c")
    assert lineage.orphans() == []
    assert lineage.startable() == ["a", "c"]


def test_after_a_restart_an_unknown_parent_is_a_loss_unless_the_shard_had_begun() -> None:
    lineage = a_lineage(shard("b", "a"), shard("d", "c"), whole=True, b=None)
    assert lineage.startable() == ["b"]
    assert lineage.orphans() == ["d"]


def test_a_finished_parent_that_is_listed_no_more_is_remembered() -> None:
    lineage = a_lineage(shard("b", "a"), whole=True, a=1)
    assert lineage.orphans() == []
    assert lineage.startable() == ["b"]


def test_an_unfinished_shard_that_vanished_begins_so_that_its_reader_finds_nothing() -> None:
    lineage = listed(Lineage({"a": None}, whole=True), shard("b"))
    assert lineage.startable() == ["b"]
    assert not lineage.vanished("b")
    assert lineage.needs_pass
    listed(lineage, shard("b"))
    assert lineage.vanished("a")
    assert lineage.startable() == ["a", "b"]


def test_the_heads_of_latest_are_the_open_shards_and_what_closed_before_them_is_past() -> None:
    lineage = a_lineage(
        shard("b", "a"), shard("a", closed=True), shard("c", closed=True), shard("e", "d", closed=True), shard("d")
    )
    heads, past = lineage.open_heads()
    assert heads == ["b", "d"]
    assert past == ["a", "c"], "e goes on from one that was open, so it is read after it"


def test_a_lost_shard_may_begin_again() -> None:
    lineage = a_lineage(shard("a"))
    lineage.begin("a")
    lineage.unbegin("a")
    assert lineage.startable() == ["a"]


def test_a_stream_is_over_when_two_listings_say_so_and_all_is_finished() -> None:
    lineage = a_lineage(shard("a", closed=True))
    lineage.finish("a", 0)
    seen = []
    for shards in ([shard("a", closed=True)], [shard("a", closed=True), shard("b", closed=True)]):
        listed(lineage, *shards, ended=True)
        seen.append((lineage.over, lineage.unread()))
    lineage.finish("b", 0)
    seen.append((lineage.over, lineage.unread()))
    assert seen == [(False, []), (False, ["b"]), (True, [])], "the first listing was without b"


def test_children_are_expected_after_an_end() -> None:
    lineage = a_lineage(shard("a", closed=True))
    lineage.begin("a")
    seen = [lineage.expects_children]
    lineage.finish("a", 0)
    seen.append(lineage.expects_children)
    listed(lineage, shard("b", "a"))
    seen.append(lineage.expects_children)
    assert seen == [False, True, False]
    assert lineage.children("a") == ["b"]


def test_a_finished_shard_is_forgotten_only_after_the_retention_without_being_listed_and_with_finished_children() -> (
    None
):
    lineage = a_lineage(shard("a", closed=True), shard("b", "a", closed=True))
    lineage.finish("a", 0)
    late = 25 * HOUR_MS
    assert lineage.forgettable(late, 24 * HOUR_MS) == [], "it is listed"
    listed(lineage, shard("b", "a", closed=True), times=2)
    assert lineage.forgettable(late, 24 * HOUR_MS) == [], "its child is not finished"
    lineage.finish("b", 10 * HOUR_MS)
    assert lineage.forgettable(23 * HOUR_MS, 24 * HOUR_MS) == [], "the retention has not passed"
    assert lineage.forgettable(late, 24 * HOUR_MS) == ["a"]
    lineage.forget(["a"])
    listed(lineage, times=2)
    assert lineage.forgettable(48 * HOUR_MS, 24 * HOUR_MS) == [], "b's children were never seen"


def test_a_thousand_generations_are_walked_without_recursion() -> None:
    chain = [shard("s0", closed=True), *(shard(f"s{n}", f"s{n - 1}", closed=n < 4999) for n in range(1, 5000))]
    lineage = a_lineage(*reversed(chain))
    heads, past = lineage.open_heads()
    assert heads == ["s4999"]
    assert len(past) == 4999
