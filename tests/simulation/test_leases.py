"""Leases over many seeded interleavings of freeze, expiry, crash, steal and a bad wire: on the model table, and the
same ones but fewer on real tables. ``MILLRACE_SIMULATE_LEASES=FIRST:COUNT`` chooses others, for every table.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from connector.leases.protocol import LeaseStore
from tests.contract.lease_stores import MakeStore, store_maker
from tests.simulation.lease_history import SHORT, LeaseHistory, Size
from tests.simulation.lease_table import LeaseTable

CHOSEN = os.environ.get("MILLRACE_SIMULATE_LEASES", "")
COUNTS = {"long": 300, "short": 1_000, "postgres": 300, "dynamodb": 25}
"""A short history takes about 110 calls of the table: 7 ms with the model, 60 ms with PostgreSQL, and a second or so
with DynamoDB Local, which waits for the disk at each write."""
A_GROUP = 25


def groups(*kinds: str) -> list[tuple[str, range]]:
    """The seeds of each kind, in groups that are a test each."""
    chosen = {kind: map(int, (CHOSEN or f"0:{COUNTS[kind]}").split(":")) for kind in kinds}
    return [
        (kind, range(start, min(start + A_GROUP, first + count)))
        for kind, (first, count) in chosen.items()
        for start in range(first, first + count, A_GROUP)
    ]


def play(seed: int, table: LeaseStore, size: Size) -> LeaseHistory:
    history = LeaseHistory(seed, table, size)
    try:
        history.play()
    except AssertionError as error:
        pytest.fail(f"seed {seed}: {error}")
    return history


class Blocking:
    """A real table in simulated time: each call is over, in a loop of its own, before the simulated time goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: LeaseStore) -> None:
        self._loop = loop
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*values: Any, **named: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(method(*values, **named), self._loop).result(timeout=60)

        return call


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


@pytest.mark.parametrize(("length", "seeds"), groups("long", "short"))
def test_two_owners_never_both_checkpoint_and_every_shard_is_owned_again(length: str, seeds: range) -> None:
    histories = [play(seed, LeaseTable({}), SHORT if length == "short" else Size()) for seed in seeds]
    # The troubles came to pass: leases changed hands, and zombies tried to save.
    assert sum(history.books.takes for history in histories) > 3 * len(histories)
    assert length == "short" or any(history.books.refusals for history in histories)


@pytest.mark.parametrize(("kind", "seeds"), groups("postgres", "dynamodb"))
@pytest.mark.servers
def test_the_same_interleavings_end_the_same_on_real_tables(
    kind: str, seeds: range, request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop
) -> None:
    make = store_maker(request, kind)
    for seed in seeds:
        modelled = play(seed, LeaseTable({}), SHORT)
        real = _play_for_real(seed, make, loop)
        assert _told(real) == _told(modelled), f"seed {seed}: the real table and its model differ"


def _play_for_real(seed: int, make: MakeStore, loop: asyncio.AbstractEventLoop) -> LeaseHistory:
    table: Any = Blocking(loop, make("orders"))
    asyncio.run(table.open())
    try:
        return play(seed, table, SHORT)
    finally:
        asyncio.run(_emptied(table))


async def _emptied(table: Any) -> None:
    rows: Mapping[str, Any] = await table.all()
    leases: Sequence[Any] = list(rows.values())
    await table.delete(leases)
    await table.close()


def _told(history: LeaseHistory) -> tuple[object, ...]:
    books = history.books
    return books.saves, books.takes, books.refusals, books.positions, books.epochs, books.finished


def test_the_same_seed_gives_the_same_history() -> None:
    assert _told(play(7, LeaseTable({}), Size())) == _told(play(7, LeaseTable({}), Size()))
