"""``millrace checkpoints``: shown beside a running pipeline, reset only without one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from connector.checkpoints.protocol import Checkpoint
from connector.checkpoints.sqlite import SQLiteCheckpoints
from connector.cli.exit_codes import ExitCode
from tests.unit.cli.letters_harness import Place

SAVED = {"file:a": Checkpoint(10, 1_777_626_000_000 << 20), "file:b": Checkpoint(10**40)}


@contextmanager
def running(place: Place) -> Iterator[None]:
    """A pipeline that has saved its checkpoints, and holds their lock for as long as the block lasts."""
    store = SQLiteCheckpoints(place.folder / "checkpoints.db", "orders")

    async def both(*steps: Coroutine[Any, Any, None]) -> None:
        for step in steps:
            await step

    asyncio.run(both(store.open(), store.save(SAVED)))
    try:
        yield
    finally:
        asyncio.run(store.close())


def positions(place: Place) -> dict[str, int]:
    assert place.run("checkpoints", "show", str(place.config), "--json") == ExitCode.OK
    return {line["shard"]: line["position"] for line in place.lines()}


def test_checkpoints_are_shown_while_the_pipeline_runs(place: Place) -> None:
    with running(place):
        assert positions(place) == {"file:a": 10, "file:b": 10**40}
        assert place.run("checkpoints", "show", str(place.config)) == ExitCode.OK
        assert "2026-05-01T09:00:00Z" in place.out


def test_a_look_makes_no_file(place: Place) -> None:
    before = set(place.folder.iterdir())
    assert place.run("checkpoints", "show", str(place.config)) == ExitCode.OK
    assert place.out == "orders: no checkpoints\n"
    assert set(place.folder.iterdir()) == before


def test_a_reset_is_refused_while_the_pipeline_runs(place: Place) -> None:
    with running(place):
        code = place.run("checkpoints", "reset", str(place.config), "--pipeline", "orders", "--yes")
        assert code == ExitCode.CONFIG_WRONG
        assert "pipeline 'orders' is running already" in place.err
        assert positions(place) == {"file:a": 10, "file:b": 10**40}


def test_a_reset_forgets_the_shards_that_it_names(place: Place) -> None:
    with running(place):
        pass
    arguments = ("checkpoints", "reset", str(place.config), "--pipeline", "orders", "--yes")
    assert place.run(*arguments, "--shard", "file:a") == ExitCode.OK
    assert positions(place) == {"file:b": 10**40}
    assert place.run(*arguments) == ExitCode.OK
    assert positions(place) == {}


def test_a_shard_without_a_checkpoint_is_a_wrong_command_line_and_nothing_is_forgotten(place: Place) -> None:
    with running(place):
        pass
    arguments = ("checkpoints", "reset", str(place.config), "--pipeline", "orders", "--yes")
    assert place.run(*arguments, "--shard", "file:a", "--shard", "file:z") == ExitCode.CONFIG_WRONG
    assert place.err == "orders has no checkpoint of shard 'file:z'; it has: file:a, file:b\n"
    assert len(positions(place)) == 2


def test_a_reset_names_its_pipeline(place: Place) -> None:
    assert place.run("checkpoints", "reset", str(place.config), "--yes") == ExitCode.CONFIG_WRONG
