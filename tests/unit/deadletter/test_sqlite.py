"""What is SQLite's own about dead letters; the rest is in the contract suite."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from connector.deadletter.sqlite import SQLiteDeadLetters, SQLiteDeadLettersConfig
from connector.errors import ConfigError, DeadLetterError
from tests.coroutines import asynchronous
from tests.unit.deadletter.letters import letter, positions


def at(path: Path) -> SQLiteDeadLetters:
    return SQLiteDeadLetters(SQLiteDeadLettersConfig(path=str(path)), "orders")


@asynchronous
async def test_people_can_select_by_what_matters(tmp_path: Path) -> None:
    destination = at(tmp_path / "dead.db")
    await destination.open()
    await destination.append([letter(1), letter(2, code="oversize")])
    with sqlite3.connect(tmp_path / "dead.db") as reader:
        rows = reader.execute("SELECT pipeline, route, shard, kind, item_key FROM dead_letters WHERE code = 'oversize'")
        assert rows.fetchall() == [("orders", "search", "orders.changes/3", "rejected", '{"pk":"a"}')]
    await destination.close()


@asynchronous
async def test_a_write_that_fails_is_a_dead_letter_error_and_nothing_of_it_stays(tmp_path: Path) -> None:
    destination = at(tmp_path / "dead.db")
    await destination.open()
    with sqlite3.connect(tmp_path / "dead.db") as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON dead_letters WHEN json_extract(NEW.letter, '$.letter.code') = 'no' "
            "BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
    with pytest.raises(DeadLetterError, match="disk is full"):
        await destination.append([letter(1), letter(2, code="no")])
    assert await positions(destination) == []
    await destination.append([letter(1)])
    assert await positions(destination) == [1]
    await destination.close()


@asynchronous
async def test_a_place_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        await at(tmp_path / "absent" / "dead.db").open()
