"""What the tests of delivery are made of: changes in one line, a sink that answers as told, a route that runs."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from connector.change import Change, EventName, Record
from connector.checkpoints.protocol import Checkpoint
from connector.clock import Clock
from connector.deadletter.envelope import DeadLetter
from connector.delivery.bounds import Bounds
from connector.delivery.counts import Ending
from connector.delivery.courier import LookAgain
from connector.delivery.ledger import Ledger, Segment
from connector.delivery.policy import RoutePolicy
from connector.delivery.route import Route, Sieve, let_nothing_go
from connector.sink import APPLIED, Needs, Outcome, Semantics
from tests.simulation.loop import EPOCH_MS, SimulatedClock, SimulatedLoop, run
from tests.simulation.parts import ModelImages, NoConfig

GIVE_UP_S = 3600.0
IMAGES = ModelImages()

Answer = Callable[[Sequence[Change]], Sequence[Outcome] | Awaitable[Sequence[Outcome]]]


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test in simulated time; its first argument is the clock."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        loop = SimulatedLoop()
        run(test(SimulatedClock(loop), *args, **kwargs), loop)

    del wrapper.__wrapped__  # pytest must not take the clock for a fixture
    return wrapper


def in_simulation(test: Callable[[SimulatedClock], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine of the clock in simulated time (for tests that hypothesis or pytest give arguments)."""
    loop = SimulatedLoop()
    run(test(SimulatedClock(loop)), loop)


def change(
    key: str = "a",
    version: int = 1,
    *,
    name: EventName = EventName.MODIFY,
    shard: str = "log/0",
    index: int = 0,
    size: int = 1,
    timestamp_ms: int = EPOCH_MS,
    segment: Segment | None = None,
    **keys: str,
) -> Change:
    """A change; its position is its version."""
    return Change(
        event_name=name,
        key=key,
        keys=keys or {"pk": key},
        shard=shard,
        record=Record(position=version, value=b"x" * size),
        images=IMAGES,
        index=index,
        event_id=f"{shard}:{version}:{index}",
        timestamp_ms=timestamp_ms,
        version=version,
        ledger_entry=segment,
    )


def versions(changes: Sequence[Change]) -> list[int]:
    """What tests compare changes by."""
    return [each.version for each in changes]


def ledger(shard: str = "log/0", *, start: Checkpoint | None = None, routes: int = 1) -> Ledger:
    """A ledger as it is at the assignment of a shard."""
    return Ledger(shard, start, routes, 0)


class ToldSink:
    """A sink that answers what it is told to; remembers the versions of each call."""

    config_model: ClassVar[type[BaseModel]] = NoConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 10
    needs = Needs.NOTHING

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        semantics: Semantics = Semantics.EVENT,
        place_attributes: frozenset[str] = frozenset(),
    ) -> None:
        self.semantics = semantics
        self.place_attributes = place_attributes
        self.calls: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.answer: Answer = answer or (lambda batch: [APPLIED] * len(batch))

    async def open(self) -> None:
        """Nothing to connect."""

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        self.calls.append(versions(batch))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.001)
            answer = self.answer(batch)
            return await answer if isinstance(answer, Awaitable) else answer
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        """Nothing to let go."""


class Bench:
    """A route to a told sink, with one ledger; ``send`` delivers changes and waits until all have ended."""

    def __init__(
        self,
        clock: Clock,
        sink: ToldSink,
        policy: RoutePolicy | None = None,
        *,
        sieve: Sieve | None = None,
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None]] | None = None,
        held: dict[str, int] | None = None,
        look_again: LookAgain = let_nothing_go,
    ) -> None:
        self.sink = sink
        self.clock = clock
        self.ledger = ledger()
        self.letters: list[DeadLetter] = []
        self.ended: list[tuple[int, Ending]] = []
        self.bounds = Bounds(10_000, 10_000_000)
        self.route = Route(
            name="search",
            number=0,
            pipeline="orders",
            sink=sink,
            sieve=sieve,
            policy=policy or RoutePolicy(),
            bounds=self.bounds,
            bury=bury or self._keep,
            codec="model",
            clock=clock,
            chance=random.Random(0),
            held={} if held is None else held,
            look_again=look_again,
            told=lambda changes, ending: self.ended.extend((each.version, ending) for each in changes),
        )
        self.lanes: list[asyncio.Task[None]] = []

    async def _keep(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    def accept(self, changes: Sequence[Change], *, into: Ledger | None = None) -> Segment:
        """Take changes in at the door, as one read of a shard."""
        book = into or self.ledger
        segment = book.open_segment(max(versions(changes), default=0) + 1, 1, 0)
        for each in changes:
            each.ledger_entry = segment
        self.route.accept(segment, changes)
        book.release(segment, 0)
        return segment

    def start(self) -> None:
        """Let the lanes run."""
        self.lanes = [asyncio.ensure_future(self.route.run_lane(lane)) for lane in self.route.lanes]

    async def settle(self) -> None:
        """Wait until nothing is in flight; a lane that fails raises here."""
        while self.bounds.changes:
            await asyncio.sleep(0.01)
            for lane in self.lanes:
                if lane.done():
                    lane.result()
            assert self.clock.monotonic() < GIVE_UP_S, f"still in flight: {self.bounds.changes}"

    async def send(self, changes: Sequence[Change]) -> None:
        """Deliver changes to their end."""
        self.accept(changes)
        if not self.lanes:
            self.start()
        await self.settle()

    def ends(self) -> dict[int, Ending]:
        """How each change ended; each ends once."""
        found = dict(self.ended)
        assert len(found) == len(self.ended), "a change ended twice"
        return found
