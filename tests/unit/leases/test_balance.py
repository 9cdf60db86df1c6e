"""What a process takes and asks for, decided from rows alone."""

from __future__ import annotations

import random
from collections.abc import Mapping

from connector.leases.balance import Plan, Sightings, make_plan
from connector.leases.protocol import SHARD_END, Lease

DURATION_S = 10.0


def rows(owners: Mapping[str, str | None], **wanted_by: str) -> dict[str, Lease]:
    """A row a shard, by owner; some of them asked for."""
    return {
        key: Lease(key=key, checkpoint="1", owner=owner, wanted_by=wanted_by.get(key)) for key, owner in owners.items()
    }


def plan(table: Mapping[str, Lease], *, still: Mapping[str, float] | None = None, steal: bool = True) -> Plan:
    """The plan of the process ``me``, which holds what the rows say that it does."""
    return make_plan(
        table,
        owner="me",
        held={key for key, row in table.items() if row.owner == "me"},
        busy=(),
        eligible=table.keys(),
        still_s={key: (still or {}).get(key, 0.0) for key in table},
        duration_s=DURATION_S,
        steal=steal,
        chance=random.Random(1),
    )


def keys(leases: list[Lease]) -> set[str]:
    return {lease.key for lease in leases}


def test_a_lone_process_takes_half_of_what_it_is_short_of_at_each_look() -> None:
    table = rows({f"s{number}": None for number in range(100)})
    assert len(plan(table).take) == 50
    assert len(plan(rows({"a": None, "b": None, "c": "me"})).take) == 2


def test_free_leases_are_left_to_those_whose_share_they_are() -> None:
    table = rows({"a": "me", "b": "me", "c": "you", "d": None})
    assert plan(table).take == []
    assert keys(plan(rows({"a": "me", "b": "you", "c": "you", "d": None})).take) == {"d"}


def test_a_free_lease_that_nobody_takes_for_long_is_taken_by_anybody() -> None:
    table = rows({"a": "me", "b": "me", "c": "you", "d": None})
    assert keys(plan(table, still={"d": 2 * DURATION_S}).take) == {"d"}


def test_what_was_released_for_us_is_taken_whatever_our_share() -> None:
    table = rows({"a": "me", "b": "me", "c": "you", "d": None}, d="me")
    assert keys(plan(table).take) == {"d"}


def test_an_expired_owner_counts_no_more() -> None:
    table = rows({"a": "dead", "b": "dead", "c": "me", "d": "you", "e": "you"})
    still = {"a": DURATION_S, "b": DURATION_S}
    assert len(plan(table, still=still).take) == 2
    assert plan(table, still={"a": DURATION_S - 0.1}).take == []


def test_a_finished_shard_is_nobodys_share() -> None:
    table = rows({"a": None, "b": None})
    table["a"] = Lease(key="a", checkpoint=SHARD_END)
    assert keys(plan(table).take) == {"b"}


def test_one_lease_is_asked_for_of_the_most_loaded() -> None:
    table = rows({"a": "me", "b": "you", "c": "you", "d": "most", "e": "most", "f": "most"})
    (wish,) = plan(table).want
    assert wish.owner == "most"
    assert plan(table, steal=False).want == []


def test_who_has_only_one_more_is_not_asked() -> None:
    assert plan(rows({"a": "me", "b": "you", "c": "you"})).want == []


def test_nobody_is_asked_for_a_second_one_before_the_first_has_come() -> None:
    table = rows({"a": "you", "b": "you", "c": "you", "d": "you"}, a="me")
    assert plan(table).want == []


def test_what_others_asked_for_is_theirs_already() -> None:
    table = rows({"a": "me", "b": "you", "c": "you", "d": "you"}, d="third")
    assert plan(table).want == []


def test_nobody_is_asked_while_there_is_something_free() -> None:
    table = rows({"a": "you", "b": "you", "c": "you", "d": None})
    assert (keys(plan(table).take), plan(table).want) == ({"d"}, [])


def test_where_there_are_hundreds_more_than_one_is_asked_for() -> None:
    table = rows({f"s{number}": "you" for number in range(700)})
    assert len(plan(table).want) == 350 // 8


def test_a_row_in_our_name_that_we_do_not_hold_is_taken_again_or_released_to_who_asked() -> None:
    table = rows({"a": "me", "b": "me"}, b="you")
    made = make_plan(
        table,
        owner="me",
        held=(),
        busy=(),
        eligible=table.keys(),
        still_s=dict.fromkeys(table, 0.0),
        duration_s=DURATION_S,
        steal=True,
        chance=random.Random(1),
    )
    assert (keys(made.take), keys(made.release)) == ({"a"}, {"b"})


def test_a_counter_stands_still_from_when_it_was_first_seen_so() -> None:
    sightings = Sightings()
    lease = Lease(key="a", checkpoint="1", owner="you", counter=5)
    sightings.look({"a": lease}, 100.0)
    sightings.look({"a": lease}, 107.0)
    assert sightings.still_s("a", 109.0) == 9.0
    sightings.look({"a": Lease(key="a", checkpoint="1", owner="you", counter=6)}, 110.0)
    assert sightings.still_s("a", 111.0) == 1.0
    sightings.look({}, 112.0)
    sightings.look({"a": lease}, 113.0)
    assert sightings.still_s("a", 113.0) == 0.0, "a row that was deleted is another one when it comes back"
