"""A pipeline: one source, its checkpoints, and the routes that it feeds. Pipelines are independent of each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from connector.change import Position, ShardId
from connector.checkpoints.protocol import CheckpointStore
from connector.clock import Clock
from connector.codecs.protocol import Codec
from connector.deadletter.office import DeadLetterOffice
from connector.deadletter.protocol import DeadLetters
from connector.delivery.bounds import Bounds
from connector.delivery.policy import LetterLimits, OnPoison, RoutePolicy, backoff
from connector.delivery.route import Route, Sieve
from connector.ending import end
from connector.errors import CheckpointError, MillraceError, SinkUnavailable
from connector.intake import Intake
from connector.observe.snapshot import PipelineState
from connector.shards import Shards
from connector.sink import Sink
from connector.sources.protocol import Source

log = structlog.get_logger(__name__)

ENDS_EVERY_S = 5.0
"""How often the source is asked for the shards' ends (one cheap request a shard)."""
RELEASE_EVERY_S = 5.0
"""How often the dead letters are looked at for held keys that were replayed meanwhile."""
PAUSE_AFTER_S = 0.5
"""How long reading waits for room before the source is paused (pausing throws away what it has fetched ahead)."""


class PipelineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and habits of one pipeline. Durations are seconds."""

    name: str
    records_max: int = 4000
    """How many records one read may give."""
    read_wait_s: float = 0.1
    changes_in_flight: int = 50_000
    bytes_in_flight: int = 64 * 1024 * 1024
    checkpoint_every_s: float = 1.0
    drain_s: float = 30.0
    """How long a drain may take, at shutdown and when shards are revoked."""
    stall_after_s: float = 60.0
    """After how long without progress, though there is lag, the pipeline is not ready."""
    until_caught_up: bool = False
    """End when the present end of the log is done."""
    undecodable_limits: LetterLimits | None = None
    """How many undecodable records stop the pipeline; None: none do."""


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a route is made of."""

    name: str
    sink_type: str
    sink: Sink
    policy: RoutePolicy
    sieve: Sieve | None = None


class Pipeline:
    """Made of its parts, which it opens, runs and closes. ``run`` ends when it is told to stop, when the source has an
    end, or when something fails that only a person can mend."""

    def __init__(
        self,
        *,
        options: PipelineOptions,
        source: Source,
        source_type: str,
        codec: Codec,
        checkpoints: CheckpointStore,
        dead_letters: DeadLetters,
        routes: Sequence[RoutePlan],
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self.options = options
        self.state = PipelineState.STARTING
        self.reason = "opening the sinks, the stores and the source"
        self.source_type = source_type
        self.source = source
        self.paused = False
        self.office = DeadLetterOffice(dead_letters, clock, chance)
        self.bounds = Bounds(options.changes_in_flight, options.bytes_in_flight)
        self.plans = routes
        self.clock = clock
        self.routes = [
            Route(
                name=plan.name,
                number=number,
                pipeline=options.name,
                sink=plan.sink,
                sieve=plan.sieve,
                policy=plan.policy,
                bounds=self.bounds,
                bury=self.office.bury,
                codec=codec.name,
                clock=clock,
                chance=chance,
                held=self.office.held(plan.name),
                look_again=self.office.look_again,
            )
            for number, plan in enumerate(routes)
        ]
        self.intake = Intake(
            codec=codec,
            routes=self.routes,
            bounds=self.bounds,
            pipeline=options.name,
            limits=options.undecodable_limits,
            clock=clock,
        )
        self._moved = asyncio.Event()
        for route in self.routes:
            route.finished = self._moved
        holds = any(plan.policy.on_poison is OnPoison.HOLD_KEY for plan in routes)
        self.shards = Shards(
            checkpoints,
            counts=len(self.routes) + 1,
            drain_s=options.drain_s,
            clock=clock,
            moved=self._moved,
            before_assigned=self.office.learn_held_keys if holds else None,
        )
        self._checkpoints = checkpoints
        self._chance = chance
        self._stop = asyncio.Event()
        self._targets: dict[ShardId, Position] = {}
        """The ends that ``until_caught_up`` waits for."""
        self._look_elsewhere_at = 0.0
        self._opened: dict[str, bool] = {}
        """By route: whether its sink was opened."""
        self.drained = True
        """False where a stop left something in flight, which the next start reads again."""

    def stop(self) -> None:
        """Read no more, drain, save, close: ``run`` returns."""
        self._stop.set()

    async def run(self) -> None:
        """Open everything, deliver until told to stop, drain and close.

        Raises ConfigError, SourceError, StoppedByPoison (TooManyDeadLetters is one) and whatever is a defect; ``state``
        and ``reason`` say so too.
        """
        try:
            await self._open()
            if not self._stop.is_set():
                self._enter(PipelineState.RUNNING, "")
                await self._deliver()
        except Exception as error:
            reason = str(error) if isinstance(error, MillraceError) else f"{type(error).__name__}: {error}"
            self._enter(PipelineState.FAILED, reason)
            raise
        finally:
            await self._close()
        self._enter(PipelineState.STOPPED, "")

    def _enter(self, state: PipelineState, reason: str) -> None:
        self.state, self.reason = state, reason
        log.info("pipeline " + state, pipeline=self.options.name, **({"reason": reason} if reason else {}))

    async def _open(self) -> None:
        await self.office.open()
        await self._checkpoints.open()
        for route in self.routes:
            self._opened[route.name] = await self._try_to_open(route)
        if not self._stop.is_set():
            await self.source.open(self.shards, self._checkpoints)

    async def _try_to_open(self, route: Route) -> bool:
        try:
            await route.sink.open()
        except SinkUnavailable as error:
            route.writer.breaker.unavailable_since_ms = route.writer.breaker.unavailable_since_ms or self.clock.now_ms()
            route.tally.last_error = str(error)
            log.warning("sink unavailable", pipeline=self.options.name, route=route.name, error=str(error))
            return False
        route.writer.breaker.answered()
        return True

    async def _run_route(self, route: Route) -> None:
        """Run a route's lanes. A sink that was down at start is waited for, as it would be later: the other routes go
        on, and what comes for this one waits within the bounds."""
        failures = 0
        while not self._opened[route.name]:
            failures += 1
            await self.clock.sleep(backoff(route.policy, failures, self._chance.random()))
            self._opened[route.name] = await self._try_to_open(route)
        await asyncio.gather(*(route.run_lane(lane) for lane in route.lanes))

    async def _deliver(self) -> None:
        """Run the lanes and the keeping of books beside the reading; the first to fail ends them all."""
        turns: list[Coroutine[Any, Any, None]] = [self._run_route(route) for route in self.routes]
        turns.append(self.intake.run_burials(self.office.bury, self._moved))
        turns.append(self._every(self.options.checkpoint_every_s, self.shards.save))
        turns.append(self._every(ENDS_EVERY_S, self.look_at_ends))
        turns.append(self._every(RELEASE_EVERY_S, self._release_held))
        workers = [asyncio.ensure_future(turn) for turn in turns]
        reading = asyncio.ensure_future(self._read_then_drain())
        try:
            done, _ = await asyncio.wait([reading, *workers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end([reading, *workers])
            await self.shards.close()

    async def _read_then_drain(self) -> None:
        await self._read()
        self._enter(PipelineState.DRAINING, "finishing what is in flight")
        ledgers = list(self.shards.owned.values())
        if not self._stop.is_set():
            # The source ended by itself: what it gave is waited for as long as it takes, or until somebody says stop.
            finished = asyncio.ensure_future(self.shards.drain(ledgers, None))
            stopped = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((finished, stopped), return_when=asyncio.FIRST_COMPLETED)
            await end((finished, stopped))
        if not await self.shards.drain(ledgers, self.options.drain_s):
            self.drained = False
            left = self.bounds.changes
            log.warning("drain timed out", pipeline=self.options.name, in_flight=left, drain_s=self.options.drain_s)

    async def _read(self) -> None:
        """Read until told to stop, the source ends, or the log's present end is done."""
        options, source, shards = self.options, self.source, self.shards
        while not self._stop.is_set():
            if options.until_caught_up and await self._caught_up():
                return
            await self._keep_within_bounds()
            batches = await source.read(options.records_max, options.read_wait_s)
            if batches is None:
                return
            for batch in batches:
                ledger = shards.owned.get(batch.shard)
                assert ledger is not None, f"the source gave records of {batch.shard}, which it had not assigned"
                if not ledger.lost:
                    self.intake.take(batch, ledger)
            if batches:
                # One turn of the loop, so that lanes start on what came before more is read.
                await asyncio.sleep(0)

    async def _keep_within_bounds(self) -> None:
        """Pause the source while the bounds are reached; a paused source still has to be polled (heartbeats)."""
        room = await self.bounds.room(PAUSE_AFTER_S)
        if not room and not self.paused:
            await self.source.pause()
            self.paused = True
        elif room and self.paused:
            await self.source.resume()
            self.paused = False

    async def _caught_up(self) -> bool:
        """True when every shard is done up to the end that it had when this was first asked of it: the owned ones by
        their ledgers, those of other processes by their checkpoints."""
        owned, targets = self.shards.owned, self._targets
        assigned_all: bool | None = getattr(self.source, "assigned_all", None)
        if assigned_all is False or not (owned or assigned_all) or not all(ledger.idle for ledger in owned.values()):
            return False
        if not owned.keys() <= targets.keys():
            for shard, end in (await self.source.ends()).items():
                if shard in owned:
                    owned[shard].end = end
                    targets.setdefault(shard, end)
        done = all(shard in targets and owned[shard].finished_position >= targets[shard] for shard in owned)
        return done and await self._caught_up_elsewhere()

    async def _caught_up_elsewhere(self) -> bool:
        """Looks at most once a second: it asks the servers."""
        ends_elsewhere = getattr(self.source, "ends_elsewhere", None)
        now = self.clock.monotonic()
        if ends_elsewhere is None or now < self._look_elsewhere_at:
            return ends_elsewhere is None
        self._look_elsewhere_at = now + 1.0
        try:
            for shard, end in (await ends_elsewhere()).items():
                self._targets.setdefault(shard, end)
            others = [shard for shard in self._targets if shard not in self.shards.owned]
            saved = await self._checkpoints.load(others)
        except CheckpointError as error:
            log.warning("checkpoints of other processes cannot be read", pipeline=self.options.name, error=str(error))
            return False
        return all(shard in saved and saved[shard].position >= self._targets[shard] for shard in others)

    async def look_at_ends(self) -> None:
        """Ask the source for the shards' ends, for lag. One that it does not know (any more) is not known."""
        ends = await self.source.ends()
        now_ms = self.clock.now_ms()
        for shard, ledger in self.shards.owned.items():
            end = ledger.end = ends.get(shard)
            if end is not None and ledger.idle and ledger.finished_position >= end:
                ledger.moved_ms = now_ms

    async def _release_held(self) -> None:
        if released := await self.office.release():
            log.info("held keys released", pipeline=self.options.name, keys=released)

    async def _every(self, seconds: float, turn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take a turn again and again; what may pass is logged and tried again at the next."""
        while True:
            await self.clock.sleep(seconds)
            try:
                await turn()
            except MillraceError as error:
                log.warning("a periodic task failed", pipeline=self.options.name, error=str(error))

    async def _close(self) -> None:
        """Close everything, whatever fails on the way."""
        closings = [self.source.close(), *(route.sink.close() for route in self.routes)]
        closings += [self._checkpoints.close(), self.office.close()]
        for closing in closings:
            try:
                await closing
            except Exception as error:  # the others must be closed all the same
                log.warning("closing failed", pipeline=self.options.name, error=f"{type(error).__name__}: {error}")
