"""Versions: a hybrid logical clock a shard (DESIGN: Versions).

``version = max(milliseconds << 20, last + 1)`` fits the 63 bits that search engines take, grows with every change of a
shard, and is the same at every replay because ``last`` is saved with the checkpoint.

Where the log itself is out of order (a codec with ``ordered = False``), growing with every change that is read would
let an older change win over a newer one that was read before it. There a version is the change's own time, finer than
a millisecond where the record says so; changes of exactly one time have one version, and the last one read stays,
since sinks take an equal version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connector.change import Change

LOGICAL_BITS = 20
VERSION_MAX = 2**63 - 1


def milliseconds(version: int) -> int:
    """The time that is in a version or a clock's last stamp: that of the change or of one shortly before it."""
    return version >> LOGICAL_BITS


def stamp(changes: Iterable[Change], last: int, ledger_entry: Any) -> int:
    """Stamp changes of one shard in order, mark them for their ledger segment; returns the clock's new ``last``."""
    for change in changes:
        version = change.timestamp_ms << LOGICAL_BITS
        if version <= last:
            version = last + 1
        change.version = last = version
        change.ledger_entry = ledger_entry
    assert last <= VERSION_MAX, "codecs keep times below the year 2100"
    return last


def stamp_by_time(changes: Iterable[Change], last: int, ledger_entry: Any) -> int:
    """The same for an unordered log; what is returned only tells how far the shard's time has come."""
    for change in changes:
        assert change.version < 1 << LOGICAL_BITS, "a codec orders within a millisecond"
        change.version = version = change.timestamp_ms << LOGICAL_BITS | change.version
        change.ledger_entry = ledger_entry
        last = max(last, version)
    assert last <= VERSION_MAX, "codecs keep times below the year 2100"
    return last
