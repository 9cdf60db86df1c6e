"""However the changes come, the numbers are those of the items that are there at the end."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from connector.change import Change
from connector.sink import Applied, Outcome, Rejected, Stale
from sinks.aggregate.decimals import from_sortable, sortable
from sinks.testing import insert, modify, opened, remove
from tests.unit.sinks.aggregate.shop import (
    EXACT,
    SELECT,
    Row,
    aggregate_sink,
    deliveries,
    history,
    numbers_of,
    rows_by_group,
)

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1E+126"), max_value=Decimal("1E+126"))


def read(folder: Path) -> dict[tuple[str, str], Row]:
    with sqlite3.connect(folder / "totals.db") as connection:
        return rows_by_group(connection.execute(SELECT).fetchall())


def run(folder: Path, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def write() -> list[Sequence[Outcome]]:
        async with opened(aggregate_sink(f"sqlite:///{folder}/totals.db", synchronous="normal")) as sink:
            return [await sink.write(batch) for batch in batches]

    return asyncio.run(write())


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
@example(1)
def test_any_history_however_delivered_ends_in_the_numbers_of_its_items(seed: int) -> None:
    """Updates, moves, removals, replays, duplicates; lanes out of step; a stopped owner that writes once more."""
    chance = random.Random(seed)
    changes, items = history(chance, keys=chance.randint(1, 12), length=chance.randint(1, 60))
    lanes = deliveries(chance, changes, lanes=chance.randint(1, 4))
    waiting = [list(batches) for batches in lanes]
    batches: list[list[Change]] = []
    while any(waiting):
        batches.append(chance.choice([lane for lane in waiting if lane]).pop(0))
        if chance.random() < 0.2:
            batches.append(chance.choice(batches))  # a zombie, or a batch whose answer was lost
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(Path(folder), *batches)
        assert read(Path(folder)) == numbers_of(items.values())
    assert all(isinstance(one, Applied | Stale) for answer in outcomes for one in answer)


@given(NUMBERS, NUMBERS)
def test_texts_of_numbers_sort_as_the_numbers_do(one: Decimal, other: Decimal) -> None:
    assert (sortable(one) < sortable(other)) == (one < other)
    assert (sortable(one) == sortable(other)) == (one == other)
    assert from_sortable(sortable(one)) == one


ORDER = {"status": "NEW", "shop": "a", "customer": "c1", "paid": False, "total": 5}


def test_an_item_that_moves_house_is_taken_from_its_old_group_without_an_old_image(tmp_path: Path) -> None:
    run(tmp_path, [insert("1", ORDER)], [modify("1", {**ORDER, "status": "PAID"}, old=None)])
    assert list(read(tmp_path)) == [("PAID", "a")]


def test_a_group_whose_last_item_goes_is_there_no_longer(tmp_path: Path) -> None:
    run(tmp_path, [insert("1", ORDER)], [remove("1")])
    assert read(tmp_path) == {}


def test_a_replay_of_everything_is_stale_and_changes_nothing(tmp_path: Path) -> None:
    batch = [insert("1", ORDER, version=1), insert("2", {**ORDER, "total": 7}, version=2), remove("3", version=3)]
    _, again = run(tmp_path, batch, batch)
    assert [type(outcome) for outcome in again] == [Stale] * 3
    assert read(tmp_path)["NEW", "a"][3] == 12


def test_of_one_key_in_a_batch_the_newest_counts_wherever_it_stands(tmp_path: Path) -> None:
    newest, older = modify("1", {**ORDER, "total": 9}, version=3), modify("1", {**ORDER, "total": 7}, version=2)
    (outcomes,) = run(tmp_path, [insert("1", ORDER, version=1), newest, older, newest])
    assert [type(outcome) for outcome in outcomes] == [Applied, Applied, Stale, Stale]
    assert read(tmp_path)["NEW", "a"][3] == 9


def test_no_digit_is_lost_where_a_float_would_lose_all_of_them(tmp_path: Path) -> None:
    large, small = Decimal("9.9999999999999999999999999999999999999E+125"), Decimal("1E-130")
    totals = [large, small, large.copy_negate(), Decimal("0.1"), Decimal("0.2")]
    run(tmp_path, [insert(f"k{at}", {**ORDER, "total": total}) for at, total in enumerate(totals)])
    assert read(tmp_path)["NEW", "a"][3] == EXACT.add(Decimal("0.3"), small)


def test_a_rejected_change_leaves_what_its_item_added_before(tmp_path: Path) -> None:
    poison = modify("1", {**ORDER, "total": "five"}, version=2)
    _, (first, outcome) = run(tmp_path, [insert("1", ORDER)], [insert("2", ORDER), poison])
    assert isinstance(first, Applied)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "not_a_number"
    assert "five" not in outcome.detail
    assert read(tmp_path)["NEW", "a"][3] == 10
