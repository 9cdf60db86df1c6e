"""Where the shards of a stream begin: settled once, at the very first start, and saved before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connector.change import ShardId
from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.sources.streams.discovery import Followed
from connector.sources.streams.options import StreamOptions
from connector.sources.streams.positions import TRIM_HORIZON, since


def first_checkpoints(followed: Followed, options: StreamOptions, now_ms: int) -> dict[ShardId, Checkpoint]:
    """What must be saved of a stream that nobody has read yet, after its first complete listings.

    ``earliest``: its roots, so that one that vanishes unread is missed. ``latest``: its open shards from now on (a
    crash before their first record must not make that a later place), and its closed ones as finished. A timestamp:
    all of its shards from that time on (a child of a root that had ended by then may hold earlier records, too); where
    nothing was kept so long, they begin at what is there.
    """
    stream, lineage = followed.stream, followed.lineage
    if options.start == "latest":
        heads, past = lineage.open_heads()
        return {stream.shard(id_): Checkpoint(SHARD_END) for id_ in past} | {
            stream.shard(id_): Checkpoint(since(now_ms)) for id_ in heads
        }
    if options.start == "earliest":
        return {stream.shard(id_): Checkpoint(TRIM_HORIZON) for id_ in lineage.roots()}
    return {stream.shard(id_): Checkpoint(since(options.start)) for id_ in lineage.listed()}


def by_stream(saved: Iterable[ShardId], prefix: str) -> Mapping[str, list[str]]:
    """The shards with a checkpoint, by their stream's name; those of other tables are left out."""
    found: dict[str, list[str]] = {}
    for shard in saved:
        stream, _, id_ = shard.rpartition("/")
        if stream == prefix or stream.startswith(f"{prefix}/"):
            found.setdefault(stream, []).append(id_)
    return found
