"""How far a snapshot is: plain data, and where it is kept so that one that was interrupted goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from connector.change import Position
from connector.snapshot.protocol import BEGIN

PIPELINE = "pipeline"
"""The kind of the snapshot that a pipeline makes by itself (``snapshot: initial`` or ``always``)."""
DEMAND = "demand"
"""The kind of ``millrace snapshot``."""


class SnapshotState(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot."""

    id: str
    kind: str
    what: str = ""
    """Which routes and items it is for (``--route``, ``--filter``): only the same one is gone on with."""
    segments: int = 0
    """0 until the positions are taken."""
    time_ms: int = 0
    """The time that its items have (connector.snapshot.versions)."""
    items_estimate: int | None = None
    started_ms: int = 0
    attempt: int = 0
    """How often it was begun or gone on with."""
    done: bool = False


class SegmentState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one segment is, every item before ``place`` being finished on every route."""

    segment: int
    position: Position = 0
    clock: int = 0
    place: str = BEGIN
    items: int = 0
    pages: int = 0
    units: float = 0.0
    done: bool = False


class SnapshotStore(Protocol):
    """Keeps snapshots durably, namespaced by pipeline. One snapshot of each kind is kept: the last one.

    Raises CheckpointError for what may pass, ConfigError from ``open``.
    """

    async def open(self) -> None:
        """Connect; create what is missing."""

    async def load(self, kind: str) -> SnapshotState | None:
        """The last snapshot of a kind."""

    async def segments(self, snapshot: str) -> Mapping[int, SegmentState]:
        """The segments of a snapshot that were begun."""

    async def save(self, state: SnapshotState) -> None:
        """Save a snapshot; one of the same kind with another id is forgotten with its segments."""

    async def save_segments(self, snapshot: str, segments: Sequence[SegmentState]) -> None:
        """Save all of them, durably, before returning."""

    async def close(self) -> None:
        """Let go of connections."""
