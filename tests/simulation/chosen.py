"""What a history is made of, chosen by its seed: the log, how often what goes wrong, the routes' policies."""

from __future__ import annotations

import random

from connector.change import EventName
from connector.delivery.policy import LetterLimits, OnPoison, RoutePolicy
from tests.simulation.world import Event, Faults

STATE_ROUTES = ["search", "cache"]
EVENT_ROUTES = ["audit"]
ROUTES = [*STATE_ROUTES, *EVENT_ROUTES]


def make_events(chance: random.Random) -> list[Event]:
    """A log of some shards: hot and cold keys, poison here and there, sparse positions."""
    shards = [f"log/{number}" for number in range(chance.randint(1, 4))]
    keys = [f"key-{number}" for number in range(chance.choice([3, 20, 100]))]
    positions = dict.fromkeys(shards, 0)
    poison = chance.choice([0.0, 0.01, 0.05, 0.2])
    removals = chance.choice([0.0, 0.3])
    events = []
    for number in range(chance.randint(50, 400)):
        key = chance.choice(keys[: chance.choice([1, 3, len(keys)])])
        shard = shards[int(key.split("-")[1]) % len(shards)]
        positions[shard] += chance.choice([1, 1, 1, 1, 2, 7])

        def some(rate: float) -> frozenset[str]:
            return frozenset(route for route in ROUTES if chance.random() < rate)

        events.append(
            Event(
                shard=shard,
                position=positions[shard] - 1,
                key=key,
                name=chance.choice([EventName.INSERT, EventName.MODIFY, EventName.MODIFY, EventName.REMOVE]),
                number=number,
                rejected_by=some(poison),
                raised_by=some(poison / 4),
                refused_by=some(poison / 8),
                filtered_by=some(0.1),
                removed_by=some(removals).intersection(STATE_ROUTES),
                undecodable=chance.random() < poison / 4,
            )
        )
    return events


def make_faults(chance: random.Random) -> Faults:
    """Each kind of fault is absent in some histories and frequent in others."""

    def rate(most: float) -> float:
        return chance.choice([0.0, most / 10, most])

    return Faults(
        chance=chance,
        unavailable=rate(0.3),
        throttled=rate(0.2),
        retry=rate(0.03),
        raises=rate(0.05),
        slow=rate(0.2),
        checkpoint_fails=rate(0.3),
        dead_letter_fails=rate(0.5),
        half_applied=rate(0.2),
    )


def make_policy(chance: random.Random) -> RoutePolicy:
    """Bounds of any size, small ones above all: that is where the corners are."""
    return RoutePolicy(
        lanes=chance.choice([1, 2, 5]),
        batch_size=chance.choice([1, 2, 7, 50]),
        batch_bytes=chance.choice([10, 1000]),
        batch_window_s=chance.choice([0.0, 0.0, 0.05]),
        # Chance alone must not exhaust the attempts of a good change: then nobody could say what is right.
        retry_attempts=50,
        backoff_initial_s=0.01,
        backoff_max_s=chance.choice([0.1, 2.0]),
        on_poison=chance.choice([OnPoison.CONTINUE, OnPoison.CONTINUE, OnPoison.HOLD_KEY, OnPoison.STOP]),
        letter_limits=make_limits(chance),
        breaker_failures=chance.choice([1, 3]),
        write_timeout_s=chance.choice([1.0, 60.0]),
    )


def make_limits(chance: random.Random) -> LetterLimits | None:
    """Tight ones, so that they are passed; most histories have none."""
    if chance.random() < 0.7:
        return None
    return LetterLimits(
        max_consecutive=chance.choice([None, 1, 3, 10]),
        max_ratio=chance.choice([None, 0.02, 0.2]),
        window_s=chance.choice([1.0, 60.0]),
        ratio_min=chance.choice([1, 20]),
    )
