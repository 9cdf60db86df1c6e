"""Superseding: for a STATE sink only the last change of each key in a batch is written: that of the highest version."""

from __future__ import annotations

from collections.abc import Sequence

from connector.change import Change

Earlier = dict[int, list[Change]]
"""By the ``id`` of a change that is written: the earlier ones of its key that it supersedes, in order."""


def supersede(batch: Sequence[Change], place_attributes: frozenset[str]) -> tuple[list[Change], Earlier]:
    """Split a batch into the changes to write, one a key, and the earlier ones that they supersede.

    Only changes of one shard supersede each other: between shards there is no order but that of versions, and equal
    keys of two topics may be two tables' items.

    It holds only as far as the effect depends on the key alone: a change whose key lacks one of ``place_attributes``
    (a cache key or document id made of other attributes) supersedes nothing and is not superseded, since every
    image's place counts.
    """
    last = {change.key: change for change in batch}
    if len(last) == len(batch):
        return list(batch), {}
    if place_attributes and not all(place_attributes <= change.keys.keys() for change in last.values()):
        return list(batch), {}
    earlier: Earlier = {}
    for change in batch:
        winner = last[change.key]
        if winner is change:
            continue
        older = earlier.setdefault(id(winner), [])
        if (
            winner.shard != change.shard
            or change.version > winner.version
            or (older and change.version < older[-1].version)
        ):
            return _by_version(batch)
        older.append(change)
    return list(last.values()), earlier


def _by_version(batch: Sequence[Change]) -> tuple[list[Change], Earlier]:
    """The same where a key comes from several shards (a topic was repartitioned, or two tables share a route), or where
    its changes are read out of order (a codec with ``ordered = False``)."""
    last: dict[tuple[str, str], Change] = {}
    for change in batch:
        known = last.get((change.shard, change.key))
        if known is None or change.version >= known.version:
            last[change.shard, change.key] = change
    earlier: Earlier = {}
    for change in batch:
        winner = last[change.shard, change.key]
        if winner is not change:
            earlier.setdefault(id(winner), []).append(change)
    for older in earlier.values():
        older.sort(key=lambda change: change.version)
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
