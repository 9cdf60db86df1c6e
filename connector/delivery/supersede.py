"""Superseding: for a STATE sink only the last change of each key in a batch is written."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from connector.change import Change

_version = attrgetter("version")


def supersede(
    batch: Sequence[Change], place_attributes: frozenset[str]
) -> tuple[list[Change], dict[str, list[Change]]]:
    """Split a batch into the changes to write, one a key, and by key the earlier ones that they supersede.

    It holds only as far as the effect depends on the key alone: a change whose key lacks one of ``place_attributes``
    (a cache key or document id made of other attributes) supersedes nothing and is not superseded, since every
    image's place counts.

    The last change of a key is the one with the highest version: a key that moved to another shard may be read there
    before what its old shard still holds of it.
    """
    last = {change.key: change for change in batch}
    if len(last) == len(batch):
        return list(batch), {}
    if place_attributes and not all(place_attributes <= change.keys.keys() for change in last.values()):
        return list(batch), {}
    earlier: dict[str, list[Change]] = {}
    for change in batch:
        if last[change.key] is not change:
            earlier.setdefault(change.key, []).append(change)
    for key, older in earlier.items():
        older.sort(key=_version)
        if older[-1].version > last[key].version:
            older.append(last[key])
            older.sort(key=_version)
            last[key] = older.pop()
    return list(last.values()), earlier


def unique_runs(batch: Sequence[Change]) -> list[list[Change]]:
    """Cut a batch into runs that hold each key once, in order: needed where a poison change must stop its key."""
    runs: list[list[Change]] = []
    seen: set[str] = set()
    for change in batch:
        if not runs or change.key in seen:
            runs.append([])
            seen.clear()
        seen.add(change.key)
        runs[-1].append(change)
    return runs
