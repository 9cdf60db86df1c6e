"""Whatever a sink does, a key's changes arrive in their order, each ends once, and the books balance."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.change import Change
from connector.delivery.counts import Ending
from connector.delivery.policy import OnPoison, RoutePolicy
from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, STALE, Outcome, Rejected, Retry, Semantics
from tests.simulation.loop import SimulatedClock
from tests.unit.delivery.builders import Bench, ToldSink, change, in_simulation

KEYS = "abcdef"


class UnsteadySink(ToldSink):
    """Fails in every way that a sink may, by seed; poison stays poison. ``effects`` are in the order of arrival."""

    def __init__(self, chance: random.Random, semantics: Semantics, poison: dict[int, str]) -> None:
        super().__init__(self._answer, semantics=semantics)
        self.effects: dict[str, list[int]] = defaultdict(list)
        self._chance = chance
        self._poison = poison

    def _answer(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        chance = self._chance
        match chance.choice(["well"] * 6 + ["down", "throttled", "raises"]):
            case "down":
                raise SinkUnavailable("down")
            case "throttled":
                raise Throttled("too much")
            case "raises":
                raise OSError("passing")
        outcomes: list[Outcome] = []
        behind_a_retry: set[str] = set()
        for each in batch:
            fate = self._poison.get(each.version)
            if each.key in behind_a_retry:
                outcomes.append(Retry("behind"))
            elif fate == "raises":
                raise RuntimeError("poison in the batch")
            elif fate == "rejected":
                outcomes.append(Rejected("poison"))
            elif chance.random() < 0.1:
                behind_a_retry.add(each.key)
                outcomes.append(Retry("busy"))
            elif each.version in self.effects[each.key]:
                outcomes.append(STALE)
            else:
                self.effects[each.key].append(each.version)
                outcomes.append(APPLIED)
        return outcomes


@pytest.mark.parametrize("semantics", list(Semantics))
@pytest.mark.parametrize("on_poison", [OnPoison.CONTINUE, OnPoison.HOLD_KEY])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_per_key_holds_under_every_kind_of_failure(seed: int, semantics: Semantics, on_poison: OnPoison) -> None:
    async def check(clock: SimulatedClock) -> None:
        chance = random.Random(seed)
        changes = [change(chance.choice(KEYS), version) for version in range(1, chance.randint(2, 60))]
        fates = {each.version: chance.choice(["rejected", "raises"]) for each in changes if chance.random() < 0.1}
        sink = UnsteadySink(chance, semantics, fates)
        policy = RoutePolicy(
            lanes=chance.choice([1, 3]),
            batch_size=chance.choice([1, 4, 100]),
            retry_attempts=60,
            backoff_initial_s=0.001,
            backoff_max_s=0.01,
            on_poison=on_poison,
        )
        bench = Bench(clock, sink, policy)
        cut = chance.randrange(len(changes) + 1)
        await bench.send(changes[:cut])
        await bench.send(changes[cut:])
        ends = bench.ends()
        assert set(ends) == {each.version for each in changes}
        assert bench.ledger.counts[0].residue() == 0
        assert bench.ledger.idle
        by_key: dict[str, list[int]] = defaultdict(list)
        for each in changes:
            by_key[each.key].append(each.version)
        for key, numbers in by_key.items():
            arrived = sink.effects[key]
            if (
                semantics is Semantics.STATE
            ):  # a stand-in for a poison change comes after it failed, never after a later
                assert arrived == sorted(arrived)
                good = [number for number in numbers if ends[number] is not Ending.DEAD_LETTERED]
                assert arrived[-1:] == good[-1:]
            else:
                assert arrived == [number for number in numbers if ends[number] is not Ending.DEAD_LETTERED]
        lettered = {version for version, ending in ends.items() if ending is Ending.DEAD_LETTERED}
        assert {letter.version for letter in bench.letters} == lettered
        if on_poison is OnPoison.CONTINUE:
            assert lettered <= set(fates)
            if semantics is Semantics.EVENT:
                assert lettered == set(fates)
        else:
            for key, numbers in by_key.items():
                dead = [number for number in numbers if number in lettered]
                if dead:
                    after = [number for number in numbers if number >= dead[0]]
                    assert set(after) <= lettered, f"something of {key} went past its letter"

    in_simulation(check)
