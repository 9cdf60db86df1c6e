"""The writer of a route: one call of the sink, with breaker, throttling and timeout around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from connector.change import Change
from connector.clock import Clock
from connector.delivery.breaker import Breaker, WritesAtOnce
from connector.delivery.policy import RoutePolicy, backoff
from connector.delivery.tally import Tally
from connector.errors import SinkUnavailable, Throttled
from connector.sink import Applied, Outcome, Rejected, Retry, Sink, Stale

OUTCOMES = (Applied, Stale, Rejected, Retry)


class Writer:
    """Calls one sink for all lanes of a route."""

    def __init__(self, sink: Sink, policy: RoutePolicy, clock: Clock, chance: random.Random, tally: Tally) -> None:
        self.breaker = Breaker(policy.breaker_failures, clock)
        self.at_once = WritesAtOnce(policy.lanes)
        self._sink = sink
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._tally = tally

    async def write(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """One call of the sink.

        Raises SinkUnavailable after having waited as long as is due: the caller looks whether the changes are still
        its own and calls again, for ever. Anything else that the sink raises comes through: the batch failed.
        """
        probe = await self.breaker.admit()
        try:
            async with self.at_once:
                outcomes = await self._timed(changes)
        except SinkUnavailable as error:
            if isinstance(error, Throttled):
                self.at_once.throttled()
            await self._back_off(error, probe)
            raise
        except Exception:
            self.breaker.answered()
            raise
        except BaseException:
            if probe:
                self.breaker.give_up_probe()
            raise
        self.breaker.answered()
        self.at_once.answered()
        self._tally.batch_sizes.observe(len(changes))
        return outcomes

    async def _timed(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """A call, and how long it took by how it ended; a cancelled one has not ended."""
        started = self._clock.monotonic()
        result = "raised"
        try:
            outcomes = await self._call(changes)
            result = "applied"
        except Throttled:
            result = "throttled"
            raise
        except SinkUnavailable:
            result = "unavailable"
            raise
        except asyncio.CancelledError:
            result = ""
            raise
        finally:
            if result:
                self._tally.call_seconds[result].observe(self._clock.monotonic() - started)
        return outcomes

    async def _call(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        try:
            async with asyncio.timeout(self._policy.write_timeout_s) as timer:
                outcomes = await self._sink.write(changes)
        except TimeoutError as error:
            if not timer.expired():
                raise SinkUnavailable("the sink's client timed out") from error
            message = f"the sink did not answer within {self._policy.write_timeout_s:g} s"
            raise SinkUnavailable(message) from error
        if len(outcomes) != len(changes):
            message = f"the sink answered {len(outcomes)} outcomes for {len(changes)} changes: a defect of the sink"
            raise ValueError(message)
        if not all(issubclass(kind, OUTCOMES) for kind in set(map(type, outcomes))):
            raise TypeError("the sink answered something that is no outcome: a defect of the sink")
        return outcomes

    async def _back_off(self, error: SinkUnavailable, probe: bool) -> None:
        self._tally.last_error = str(error)
        wait_s = backoff(self._policy, self.breaker.failures + 1, self._chance.random())
        if error.after_s is not None:
            wait_s = max(wait_s, min(error.after_s, self._policy.backoff_max_s))
        self.breaker.unavailable(wait_s, probe=probe)
        await self._clock.sleep(wait_s)
