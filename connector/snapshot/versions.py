"""The version of a snapshot's items: lower than that of every change that streams after the position was taken.

A streamed change's version is ``max(t << 20, last + 1)`` with ``t`` the change's own time
(connector.delivery.versions), so it is at least ``t << 20``. A snapshot's items are stamped by the same rule with the
one time

    t0 = min(own clock, service's clock) at the start, less MARGIN_MS, rounded down to the second

so the n-th item of a segment has the version ``(t0 << 20) + n``. Let a change C of an item be made at the moment c, and
let the page with the item be read at r, consistently: all that was written before r is in it. Positions are taken at p,
then t0 is computed at s, then pages are read: p ≤ s ≤ r.

- c > r: the snapshot has the item as it was before C, and C comes with the stream, since c > p. Its time t is c rounded
  down to the second (to the minute by DynamoDB Local) by a clock of the service's: ``t ≥ s − 60 s − d``, where ``d``
  is how far apart the clocks are. The item's version is below ``(s − 300 s + 60 s) << 20``, since a segment of at most
  ITEMS_MAX items moves the clock by less than a minute. So C has the greater version for every ``d`` below 180 s; and
  since the service's own clock was asked, too, ``d`` is about its machines among themselves. C wins, whichever of the
  two comes first. This holds for a deletion as well, for as long as the sink remembers deletions (``gc_deletes``,
  ``tombstone_ttl``): the item is behind its page by what is in flight, the deletion is not in front of it by more.
- p < c ≤ r: the item shows C, or a later change, and C comes with the stream, too. It may be written over the item;
  so is then, after it, each later change of the key up to the one that the item shows.
- c ≤ p: C may not come with the stream at all: the item shows it. What a sink got of the key before is older than C,
  and has a lower version than the item unless it was made within MARGIN_MS before s. Then the sink keeps it, which is
  right as long as the stream has no gap (C comes, too). A gap is only where checkpoints were forgotten within that
  time (``checkpoints reset`` with ``start: latest``).

Items that are read again after a crash come later in the clock, and what they say is as new as their reading.
"""

from __future__ import annotations

from connector.delivery.versions import LOGICAL_BITS

MARGIN_MS = 300_000
"""Five minutes: signed requests are refused when the clocks are further apart."""
ITEMS_MAX = 60_000 << LOGICAL_BITS
"""Items of one segment (6 * 10^10) for which the clock grows by less than a minute."""


def snapshot_ms(own_ms: int, server_ms: int | None) -> int:
    """The time of a snapshot's items (epoch milliseconds, a whole second) that starts now."""
    earlier = own_ms if server_ms is None else min(own_ms, server_ms)
    return max(0, (earlier - MARGIN_MS) // 1000 * 1000)
