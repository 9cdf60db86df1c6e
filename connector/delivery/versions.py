"""Versions: a hybrid logical clock a shard (DESIGN: Versions).

``version = max(milliseconds << 20, last + 1)`` fits the 63 bits that search engines take, grows with every change of a
shard, and is the same at every replay because ``last`` is saved with the checkpoint.
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
