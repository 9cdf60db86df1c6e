"""What is SQLite's own about its checkpoints; the rest is in the contract suite."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from connector.checkpoints.protocol import Checkpoint
from connector.checkpoints.sqlite import SQLiteCheckpoints
from connector.errors import CheckpointError, ConfigError
from tests.coroutines import asynchronous


@asynchronous
async def test_a_position_of_56_digits_comes_back_exactly(tmp_path: Path) -> None:
    position = int("4" * 56)
    store = SQLiteCheckpoints(tmp_path / "state.db", "orders")
    await store.open()
    await store.save({"shard-1": Checkpoint(position, clock=2**63 - 1)})
    assert await store.load(["shard-1"]) == {"shard-1": Checkpoint(position, 2**63 - 1)}
    await store.close()


@asynchronous
async def test_a_second_process_with_the_same_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    script = (
        "import asyncio, sys; from connector.checkpoints.sqlite import SQLiteCheckpoints\n"
        "async def main():\n"
        "    await SQLiteCheckpoints(sys.argv[1], 'orders').open()\n"
        "    print('open', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    store = SQLiteCheckpoints(path, "orders")
    with pytest.raises(ConfigError, match=rf"'orders' is running already.*process {other.pid}"):
        await store.open()
    shown = SQLiteCheckpoints(path, "orders", exclusive=False)
    await shown.open()
    assert await shown.all() == {}
    with pytest.raises(ConfigError, match="running already"):
        await shown.reset(["shard-1"])
    await shown.close()
    neighbour = SQLiteCheckpoints(path, "customers")
    await neighbour.open()
    await neighbour.close()
    other.kill()
    other.wait()
    await store.open()
    await store.close()


@asynchronous
async def test_a_store_that_can_be_opened_again_after_it_was_closed_lets_go_of_the_lock(tmp_path: Path) -> None:
    for _ in range(2):
        store = SQLiteCheckpoints(tmp_path / "state.db", "or/../ders")
        await store.open()
        await store.close()
    assert {path.name.split(".")[1] for path in tmp_path.iterdir()} <= {"db", "db-wal", "db-shm"}


@asynchronous
async def test_a_failed_save_is_a_checkpoint_error_and_saves_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SQLiteCheckpoints(path, "orders")
    await store.open()
    await store.save({"a": Checkpoint(1)})
    with sqlite3.connect(path) as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON checkpoints WHEN NEW.shard = 'b' BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
    with pytest.raises(CheckpointError, match="no"):
        await store.save({"a": Checkpoint(2), "b": Checkpoint(2)})
    assert await store.all() == {"a": Checkpoint(1)}
    await store.save({"a": Checkpoint(3)})
    assert await store.all() == {"a": Checkpoint(3)}
    await store.close()


@asynchronous
async def test_a_file_that_is_no_database_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        await SQLiteCheckpoints(tmp_path / "state.db", "orders").open()
    with pytest.raises(ConfigError, match="cannot be kept"):
        await SQLiteCheckpoints(tmp_path / "absent" / "state.db", "orders").open()
