"""Which routes the items of a snapshot take: by default those where only a key's last change counts."""

from __future__ import annotations

from collections.abc import Sequence

from connector.change import Change
from connector.config.models import RouteConfig
from connector.delivery.route import Sieve, Sifted
from connector.sink import Semantics
from connector.snapshot.protocol import is_snapshot_shard


def leaves_out_items(config: RouteConfig, semantics: Semantics) -> bool:
    """Whether a route lets a snapshot's items pass it by."""
    return not config.snapshot if config.snapshot is not None else semantics is Semantics.EVENT


def keep_items_out(sieve: Sieve | None) -> Sieve:
    """The route's filter with another one before it: items of a snapshot count as filtered."""

    def without_items(changes: Sequence[Change]) -> Sifted:
        # A batch is of one shard.
        if changes and is_snapshot_shard(changes[0].shard):
            return Sifted((), changes)
        return Sifted(changes) if sieve is None else sieve(changes)

    return without_items
