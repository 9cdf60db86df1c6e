"""Replay: dead letters go through their routes again, by the same lanes, courier and policies as ever.

A letter is marked only after each of its changes has its ending, so whatever interrupts a replay, the letters that are
not marked are sent again by the next one, with the versions that they had.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Sequence
from functools import partial

import msgspec
import structlog

from connector.change import Change
from connector.clock import Clock
from connector.config.models import Limits
from connector.deadletter.envelope import ErrorKind
from connector.deadletter.parcels import Parcel, Parcels
from connector.deadletter.protocol import DeadLetters, LetterState
from connector.deadletter.reopen import CodecOf, Reason, Reopened, reopen
from connector.deadletter.report import ReplayReport
from connector.deadletter.selection import DECODE, Picked, Selection, pick
from connector.delivery.bounds import Bounds
from connector.delivery.ledger import Ledger
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.delivery.route import Route
from connector.ending import end
from connector.errors import SinkUnavailable
from connector.pipeline import RoutePlan

log = structlog.get_logger(__name__)

MARK_AT_ONCE = 500
"""How many letters are marked in one call of the destination."""
LATE_ROUNDS_MAX = 5
"""How often letters that arrived during the replay are taken up, so that it ends though more keep coming."""
LOOK_EVERY_S = 0.2
"""How often it is looked whether a sink has been unavailable for too long."""
CANCEL_EVERY_S = 0.02
"""How soon a lane that did not end is cancelled again: less than a back-off, in which no client can catch it."""
ROUTE_GONE = Reason(ErrorKind.UNKNOWN, "route_gone", "the configuration has no such route any more")


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is replayed, and within which bounds."""

    pipeline: str
    selection: Selection
    timeout_s: float
    """How long a sink that is unavailable is waited for."""
    letters_max: int
    """How many letters are in memory at a time."""
    bytes_max: int


def options_for(pipeline: str, limits: Limits, selection: Selection, timeout_s: float) -> ReplayOptions:
    """A replay within the bounds that the pipeline itself has."""
    return ReplayOptions(
        pipeline=pipeline,
        selection=selection,
        timeout_s=timeout_s,
        letters_max=limits.changes_in_flight,
        bytes_max=limits.bytes_in_flight,
    )


class _Line(msgspec.Struct):
    """One route and what runs for it."""

    route: Route
    sink_open: bool = False
    down: str | None = None
    """Why its sink was given up."""
    lanes: list[asyncio.Task[None]] = []


class Replay:
    """One replay of one pipeline's letters. The destination is open, and closed by the caller."""

    def __init__(
        self,
        options: ReplayOptions,
        *,
        plans: Sequence[RoutePlan],
        destination: DeadLetters,
        codec_of: CodecOf,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._options = options
        self._destination = destination
        self._codec_of = codec_of
        self._clock = clock
        self._chance = chance
        self._parcels = Parcels()
        self._tried: set[str] = set()
        self._report = ReplayReport()
        self._moved = asyncio.Event()
        self._ledger = Ledger("replay", None, len(plans), clock.now_ms())
        bounds = Bounds(options.letters_max, options.bytes_max)
        self._lines = {
            plan.name: _Line(self._make_route(number, plan, bounds), lanes=[]) for number, plan in enumerate(plans)
        }

    def _make_route(self, number: int, plan: RoutePlan, bounds: Bounds) -> Route:
        route = Route(
            name=plan.name,
            number=number,
            pipeline=self._options.pipeline,
            sink=plan.sink,
            sieve=plan.sieve,
            policy=_patient(plan.policy, self._options.timeout_s),
            bounds=bounds,
            bury=self._parcels.bury,
            codec="",
            clock=self._clock,
            chance=self._chance,
            held={},
            told=partial(self._parcels.told, plan.name),
        )
        route.finished = self._moved
        return route

    async def run(self) -> ReplayReport:
        """Replay until no letter that is meant is left untried, but for those of sinks that stay unavailable.

        Raises DeadLetterError where letters cannot be read or marked, ConfigError for a sink that only a person can
        mend. What was marked by then is through; all else is as it was.
        """
        options = self._options
        log.info("replay started", pipeline=options.pipeline)
        late_rounds = 0
        try:
            while late_rounds <= LATE_ROUNDS_MAX:
                picked = await self._pick()
                if not picked.letters:
                    break
                await self._round(picked)
                late_rounds += not picked.more
            await self._count_left()
        finally:
            await self._close()
        report = self._report
        log.info("replay ended", pipeline=options.pipeline, still_dead=report.dead, left=report.left)
        return report

    async def _pick(self) -> Picked:
        options = self._options
        limit = options.selection.limit
        room = options.letters_max if limit is None else min(options.letters_max, limit - len(self._tried))
        if room <= 0:
            return Picked([], False, {})
        picked = await pick(
            self._destination,
            options.selection,
            leave_out=self._tried,
            routes_down=self._down(),
            letters_max=room,
            bytes_max=options.bytes_max,
        )
        for name, keys in picked.held.items():
            if (line := self._lines.get(name)) is not None:
                for key, version in keys.items():
                    line.route.held[key] = min(version, line.route.held.get(key, version))
        return picked

    def _down(self) -> list[str]:
        return [name for name, line in self._lines.items() if line.down is not None]

    async def _round(self, picked: Picked) -> None:
        """One part of the letters, from the first to the last ending."""
        reopened = reopen(picked.letters, self._codec_of)
        log.info("letters picked", pipeline=self._options.pipeline, letters=len(reopened))
        needed = {name for item in reopened for name in self._routes_of(item)}
        await self._open_sinks(needed)
        down = set(self._down())
        parcels: list[Parcel] = []
        to_send: dict[str, list[Change]] = {}
        # Letters of one route come first: where an undecodable record's letter holds the same change, it waits for
        # theirs, which has the change's own version.
        for item in sorted(reopened, key=lambda item: item.letter.route == DECODE):
            names = self._routes_of(item)
            if down.intersection(names):
                continue
            self._tried.add(item.letter.id)
            parcel = Parcel(item.letter)
            parcels.append(parcel)
            parcel.reason = ROUTE_GONE if self._is_gone(item.letter.route) else item.reason
            for name in names:
                to_send.setdefault(name, []).extend(
                    change for change in item.changes if self._parcels.expect(name, change, parcel)
                )
            if not parcel.pending:
                self._parcels.done.append(parcel)
        self._send(to_send)
        await self._until_ended(to_send)
        self._tried.difference_update(parcel.letter.id for parcel in parcels if parcel.pending)

    def _routes_of(self, item: Reopened) -> Sequence[str]:
        """Where a letter's changes go: nowhere, where it has none."""
        route = item.letter.route
        if not item.changes or self._is_gone(route):
            return ()
        return tuple(self._lines) if route == DECODE else (route,)

    def _is_gone(self, route: str) -> bool:
        return route != DECODE and route not in self._lines

    def _send(self, to_send: dict[str, list[Change]]) -> None:
        everything = {id(change): change for changes in to_send.values() for change in changes}.values()
        held_bytes = sum(len(change.record.value or b"") for change in everything)
        newest_ms = max((change.timestamp_ms for change in everything), default=0)
        segment = self._ledger.open_segment(0, held_bytes // max(len(everything), 1), newest_ms)
        for change in everything:
            change.ledger_entry = segment
        for name, changes in to_send.items():
            changes.sort(key=_order)
            self._lines[name].route.accept(segment, changes)
        self._ledger.release(segment, self._clock.now_ms())

    async def _until_ended(self, names: Collection[str]) -> None:
        """Wait for the last ending, marking letters on the way; routes whose sink stays unavailable are given up."""
        while True:
            self._moved.clear()
            waiting = [name for name in names if self._lines[name].down is None and self._in_flight(name)]
            if not waiting or len(self._parcels.done) >= MARK_AT_ONCE:
                await self._mark(self._parcels.take_done())
            if not waiting:
                return
            for name in waiting:
                line = self._lines[name]
                for lane in line.lanes:
                    if lane.done():
                        lane.result()
                since_ms = line.route.writer.breaker.unavailable_since_ms
                if since_ms is not None and self._clock.now_ms() - since_ms >= self._options.timeout_s * 1000:
                    await self._give_up(name, line.route.tally.last_error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._moved.wait()

    def _in_flight(self, name: str) -> int:
        return self._ledger.counts[self._lines[name].route.number].in_flight

    async def _mark(self, parcels: Sequence[Parcel]) -> None:
        """Tell the destination which letters are not dead any more, and count those that still are."""
        outcomes: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            if parcel.reason is None:
                outcomes.setdefault(parcel.outcome, []).append(parcel)
            else:
                self._report.died(parcel.letter.route, parcel.reason)
        for outcome, through in outcomes.items():
            for first in range(0, len(through), MARK_AT_ONCE):
                part = through[first : first + MARK_AT_ONCE]
                await self._destination.mark([parcel.letter.id for parcel in part], LetterState.REPLAYED, outcome)
                for parcel in part:
                    self._report.route(parcel.letter.route).replayed[outcome] += 1
            log.info("letters replayed", pipeline=self._options.pipeline, outcome=outcome, letters=len(through))

    async def _open_sinks(self, names: Collection[str]) -> None:
        async with asyncio.TaskGroup() as opening:
            for name in sorted(names):
                if not self._lines[name].sink_open and self._lines[name].down is None:
                    opening.create_task(self._open_sink(name))

    async def _open_sink(self, name: str) -> None:
        """A sink that is down is waited for; then its lanes begin."""
        line = self._lines[name]
        said = "it did not answer"
        wait_s = 0.1
        until = self._clock.monotonic() + self._options.timeout_s
        try:
            async with asyncio.timeout(self._options.timeout_s):
                while not line.sink_open:
                    try:
                        await line.route.sink.open()
                        line.sink_open = True
                    except SinkUnavailable as error:
                        said = str(error)
                        if self._clock.monotonic() >= until:  # its client made this error of our cancellation
                            raise TimeoutError from error
                        log.warning("sink unavailable", pipeline=self._options.pipeline, route=name, error=said)
                        await self._clock.sleep(wait_s * (0.5 + 0.5 * self._chance.random()))
                        wait_s = min(wait_s * 2, line.route.policy.backoff_max_s)
        except TimeoutError:
            await self._give_up(name, said)
            return
        line.lanes = [asyncio.ensure_future(line.route.run_lane(lane)) for lane in line.route.lanes]

    async def _give_up(self, name: str, said: str) -> None:
        """Send no more to a route. What is in flight there stays dead, whatever its sink made of it."""
        line = self._lines[name]
        line.down = self._report.unavailable[name] = said
        log.warning("sink given up", pipeline=self._options.pipeline, route=name, error=said)
        await self._stop_lanes(line)

    async def _stop_lanes(self, line: _Line) -> None:
        await end(line.lanes, again_s=CANCEL_EVERY_S)
        line.lanes = []

    async def _count_left(self) -> None:
        if not self._report.unavailable:
            return
        limit = self._options.selection.limit
        async for stored in self._destination.letters():
            letter = stored.letter
            if limit is not None and self._report.left + len(self._tried) >= limit:
                return
            if self._options.selection.matches(letter) and letter.id not in self._tried:
                self._report.route(letter.route).left += 1

    async def _close(self) -> None:
        """Stop the lanes and close the sinks, whatever fails on the way."""
        for name, line in self._lines.items():
            await self._stop_lanes(line)
            try:
                await line.route.sink.close()
            except Exception as error:  # the others must be closed all the same
                log.warning("closing failed", route=name, error=f"{type(error).__name__}: {error}")


def _patient(policy: RoutePolicy, timeout_s: float) -> RoutePolicy:
    """The route's policy as a replay needs it.

    Age is no reason: somebody asked for these changes now. ``stop`` has nothing to stop: a letter that is still poison
    keeps its key's later ones back instead; and what is dead already is no new dead letter to limit. No call may
    outlast the patience with the sink.
    """
    return msgspec.structs.replace(
        policy,
        max_age_s=None,
        letter_limits=None,
        on_poison=OnPoison.HOLD_KEY if policy.on_poison is OnPoison.STOP else policy.on_poison,
        write_timeout_s=min(policy.write_timeout_s, timeout_s),
    )


def _order(change: Change) -> tuple[int, str, int, int, int]:
    return change.version, change.shard, change.position, change.record.part, change.index
