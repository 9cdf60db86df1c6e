"""What a sink is: the whole API, for ours and third parties' alike."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import msgspec
from pydantic import BaseModel

from connector.change import Change
from connector.clock import Clock


class Semantics(enum.Enum):
    """Which of a key's changes count for a sink."""

    STATE = "state"
    """Only the last change of a key counts; earlier ones of a batch are finished as superseded."""
    EVENT = "event"
    """Each change counts."""


class Needs(enum.Flag):
    """Which images a configured sink cannot do without. Checked at start against the stream's view type."""

    NOTHING = 0
    NEW_IMAGE = enum.auto()
    OLD_IMAGE = enum.auto()


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The change is in the sink, durably as far as the sink can promise it."""


class Stale(msgspec.Struct, frozen=True, gc=False):
    """The sink already holds something newer, or this very change: a success."""

    reason: str = "newer_version"


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The sink will never accept this change: it is dead-lettered at once.

    ``reason`` is a short stable word (a metric label); ``detail`` is for people and must not hold attribute values
    beyond what the server itself said.
    """

    reason: str
    detail: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """This change failed in a way that may pass. Tried again ``retry.attempts`` times, then dead-lettered."""

    reason: str
    detail: str = ""
    after_s: float | None = None


Outcome = Applied | Stale | Rejected | Retry

APPLIED = Applied()
"""The one Applied that everybody shares."""
STALE = Stale()
"""A shared Stale for the usual reason."""


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink is told of the place it works in."""

    pipeline: str
    route: str
    clock: Clock


class Sink(Protocol):
    """A place that changes are written to.

    A class that implements it is found by an entry point in the group ``millrace.sinks``; the entry point's name is
    the ``type:`` that users write. It is made as ``SinkClass(config, context)``, with ``config`` an instance of its
    ``config_model``; making it does no I/O. Everything else of the configuration is checked by ``config_model`` and by
    ``__init__`` (which raises ``ConfigError`` for what a model cannot say).

    Life: ``open`` once; then ``write`` any number of times, from as many lanes at once as the route has (never two
    writes at once that hold the same key); then ``close`` once.
    """

    config_model: ClassVar[type[BaseModel]]
    lanes_default: ClassVar[int]
    """How many lanes a route to this sink has unless the user says otherwise."""
    batch_size_default: ClassVar[int]
    """How many changes a batch may have unless the user says otherwise.

    A class may also have ``lanes_max``: more lanes are refused, where the order that counts is not that of a key."""

    semantics: Semantics
    place_attributes: frozenset[str]
    """The item attributes that decide *where* a change goes (id, index, cache key templates). Superseding is used
    only for changes whose key holds all of them; otherwise every image's place counts."""
    needs: Needs

    async def open(self) -> None:
        """Connect, check, create what is missing.

        Raises ConfigError for what only a person can mend, SinkUnavailable for what may pass (it is called again).
        """

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write a batch; answer one outcome a change, in the same order.

        The batch holds at most one change of a key where superseding applies; otherwise a key's changes stand in
        their order and must be applied in it. After a ``Retry`` for a change, a later change of the same key in the
        same batch must not have been applied: it gets ``Retry`` too.

        Raises SinkUnavailable (or Throttled) when the whole sink is down; what was already applied will be written
        again. Any other exception: the batch failed and nobody knows which change did it; it is bisected.
        Must not block the event loop for longer than encoding the batch takes.
        """

    async def close(self) -> None:
        """Let go of connections. Called also after a failed ``open``; never raises for a sink that is down."""


def check_report(sink: Any) -> str:
    """What ``millrace check`` prints of an opened sink: its own ``describe()`` where it has one."""
    describe = getattr(sink, "describe", None)
    return str(describe()) if callable(describe) else "ok"
