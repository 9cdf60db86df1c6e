"""A held key that changes all the time is let go once its letters were replayed: looked for when it changes."""

from __future__ import annotations

import asyncio

from connector.delivery.counts import Ending
from tests.simulation.loop import SimulatedClock
from tests.unit.deadletter.test_office import ToldLetters, office
from tests.unit.delivery.builders import Bench, ToldSink, change, simulated
from tests.unit.delivery.test_courier_poison import HOLD, rejecting


def route_to(clock: SimulatedClock) -> tuple[Bench, ToldLetters]:
    desk, destination = office(clock)
    held = desk.held("search")
    bench = Bench(clock, ToldSink(rejecting(1)), HOLD, bury=desk.bury, held=held, look_again=desk.look_again)
    return bench, destination


@simulated
async def test_it_goes_on_to_the_sink_again(clock: SimulatedClock) -> None:
    bench, destination = route_to(clock)
    await bench.send([change("a", 1)])
    await bench.send([change("a", 2), change("b", 3)])
    assert len(destination.kept) == 2
    destination.done |= set(destination.kept)
    await asyncio.sleep(1.5)
    await bench.send([change("a", 4), change("a", 5)])
    assert len(destination.kept) == 2
    assert bench.ends()[4] is bench.ends()[5] is Ending.APPLIED
    assert bench.route.held == {}


@simulated
async def test_it_stays_held_while_one_of_its_letters_is_dead(clock: SimulatedClock) -> None:
    bench, destination = route_to(clock)
    await bench.send([change("a", 1)])
    await bench.send([change("a", 2)])
    destination.done.add(next(iter(destination.kept)))
    await asyncio.sleep(1.5)
    await bench.send([change("a", 3)])
    assert bench.ends()[3] is Ending.DEAD_LETTERED


@simulated
async def test_looking_takes_a_tenth_of_the_time_at_most(clock: SimulatedClock) -> None:
    bench, destination = route_to(clock)
    await bench.send([change("a", 1)])
    destination.read_takes_s = 10.0
    began = clock.monotonic()
    for version in range(2, 12):
        await bench.send([change("a", version)])
    assert clock.monotonic() - began < 20
    assert len(destination.kept) == 11
