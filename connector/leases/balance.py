"""Who takes what: decided by each process for itself, from the rows that all of them see. Pure functions of data.

Nobody leads. Everyone aims at the same share, so the counts meet: free and expired leases are taken up to it, and
who has two fewer than the most loaded asks that one for a lease. Processes without any lease are not in the table:
they show themselves by what they take or ask for.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

import msgspec

from connector.change import ShardId
from connector.leases.protocol import Lease

TAKES_MIN = 2
"""A look takes this many leases, or half of what is missing to the share: others look at the same time."""
WISHES_PART = 8
"""A process asks for one lease at a time, or for this part of what it is short of where there are hundreds."""
OVERDUE = 2
"""A lease that nobody took for so many fail-over times is taken by anybody, whatever its share."""


class Sightings:
    """Since when each row's counter has stood still, by our own monotonic clock: no machine's clock is compared with
    another's. A process that has just begun waits for the whole fail-over time before it takes an owner's lease."""

    def __init__(self) -> None:
        self._seen: dict[ShardId, tuple[tuple[str | None, int, int], float]] = {}

    def look(self, rows: Mapping[ShardId, Lease], now_s: float) -> None:
        """Take note of rows; ``now_s`` is not before they were read."""
        seen: dict[ShardId, tuple[tuple[str | None, int, int], float]] = {}
        for key, row in rows.items():
            state = (row.owner, row.counter, row.epoch)
            before = self._seen.get(key)
            seen[key] = before if before is not None and before[0] == state else (state, now_s)
        self._seen = seen

    def still_s(self, key: ShardId, asked_s: float) -> float:
        """For how long the row had stood still when it was asked for (``asked_s`` is not after it was read)."""
        return asked_s - self._seen[key][1]


class Plan(msgspec.Struct, frozen=True):
    """What to do after a look."""

    take: list[Lease]
    want: list[Lease]
    release: list[Lease]
    """Rows in our name that we do not hold (an answer was lost) and that somebody else asked for."""


def make_plan(
    rows: Mapping[ShardId, Lease],
    *,
    owner: str,
    held: Collection[ShardId],
    busy: Collection[ShardId],
    eligible: Collection[ShardId],
    still_s: Mapping[ShardId, float],
    duration_s: float,
    steal: bool,
    chance: random.Random,
) -> Plan:
    """Decide for the process ``owner``. ``held`` are the leases that it holds, ``busy`` others that it is not
    ready to take; ``eligible`` are the shards whose turn has come (lineage); ``still_s`` says for how long each row's
    counter has stood still."""
    load = Counter({owner: 0})
    theirs: defaultdict[str, list[Lease]] = defaultdict(list)
    ours: list[Lease] = []
    free: list[Lease] = []
    overdue: list[Lease] = []
    release: list[Lease] = []
    for key, row in sorted(rows.items()):
        if row.finished:
            continue
        if key in held:
            load[row.wanted_by or owner] += 1
        elif key in busy:
            load[row.wanted_by or row.owner or owner] += 1
        elif (row.owner or row.wanted_by or owner) != owner and still_s[key] < duration_s:
            # Alive, or kept for whoever asked for it. What is asked for counts for the one who will have it.
            load[row.wanted_by or row.owner or owner] += 1
            if row.owner is not None and row.wanted_by is None:
                theirs[row.owner].append(row)
        elif row.owner == owner and row.wanted_by not in (None, owner):
            release.append(row)
        elif owner in (row.owner, row.wanted_by):
            ours.append(row)
        elif key in eligible:
            (overdue if still_s[key] >= OVERDUE * duration_s else free).append(row)
    share = -(-(load.total() + len(ours) + len(free) + len(overdue)) // len(load))
    load[owner] += len(ours)
    missing = max(share - load[owner], 0)
    few = max(TAKES_MIN, -(-missing // 2))
    chance.shuffle(free)
    chance.shuffle(overdue)
    take = [*ours, *overdue[:few], *free[: min(missing, few)]]
    asks = steal and not free and not overdue
    asked = sum(row.wanted_by == owner for key, row in rows.items() if row.owner != owner and not row.finished)
    want = _wishes(load, theirs, owner, max(1, missing // WISHES_PART) - asked, chance) if asks else []
    return Plan(take, want, release)


def parents_finished(rows: Mapping[ShardId, Lease]) -> set[ShardId]:
    """The shards whose parents are all finished, or have no row (their retention has passed)."""
    return {key for key, row in rows.items() if all(rows[parent].finished for parent in row.parents if parent in rows)}


def _wishes(
    load: Counter[str], theirs: Mapping[str, list[Lease]], owner: str, wishes_max: int, chance: random.Random
) -> list[Lease]:
    wishes: list[Lease] = []
    while len(wishes) < wishes_max:
        most = max(load.values())
        if most - load[owner] < 2:
            break
        most_loaded = chance.choice([name for name in sorted(load) if load[name] == most])
        if not theirs.get(most_loaded):
            break
        wishes.append(theirs[most_loaded].pop(chance.randrange(len(theirs[most_loaded]))))
        load[most_loaded] -= 1
        load[owner] += 1
    return wishes
