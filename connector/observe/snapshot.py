"""What a pipeline tells of itself at one moment: the contract between the engine and everything that watches it.

The engine counts in plain integers and makes a snapshot when it is asked (a scrape, a probe, a status page): nothing
here is touched for a change. Counters only grow for as long as the process lives and the shard is owned. Histograms are
copies. Times are epoch milliseconds unless the name says otherwise. No attribute values, no secrets.
"""

from __future__ import annotations

import enum

import msgspec

from connector.change import Position, ShardId
from connector.delivery.breaker import BreakerState
from connector.histogram import Histogram

DECODE_ROUTE = "decode"
"""The pseudo-route on which undecodable records are counted: read, then dead-lettered (or in flight, or abandoned)."""


class PipelineState(enum.StrEnum):
    """What a pipeline is doing."""

    STARTING = "starting"
    """Opening the source, the sinks and the stores."""
    RUNNING = "running"
    DRAINING = "draining"
    """Told to stop: finishing what is in flight."""
    STOPPED = "stopped"
    """Ended as it should: told to stop, or the source had an end."""
    FAILED = "failed"
    """Ended as it should not: a person must look (``reason`` says at what)."""


class CallResult(enum.StrEnum):
    """How one call of a sink ended (a label of its latency)."""

    APPLIED = "applied"
    """It answered with outcomes, whatever they are."""
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    RAISED = "raised"
    """It raised anything else: the batch is bisected."""


class RouteCounts(msgspec.Struct, kw_only=True):
    """What became of one shard's changes on one route. The promise is that ``residue`` is zero at all times."""

    read: int = 0
    """Changes handed to the route (on ``decode``: records that could not be decoded)."""
    applied: int = 0
    filtered: int = 0
    superseded: int = 0
    stale: int = 0
    dead_lettered: int = 0
    """Acknowledged by the dead letters' destination."""
    abandoned: int = 0
    """The shard was lost before an outcome: its next owner reads the change again."""
    in_flight: int = 0

    def finished(self) -> dict[str, int]:
        """The counts by final outcome, by the names that metrics use."""
        return {
            "applied": self.applied,
            "filtered": self.filtered,
            "superseded": self.superseded,
            "stale": self.stale,
            "dead_lettered": self.dead_lettered,
            "abandoned": self.abandoned,
        }

    def residue(self) -> int:
        """Changes that nobody can account for: anything but zero is a bug of ours."""
        return self.read - sum(self.finished().values()) - self.in_flight


class ShardSnapshot(msgspec.Struct, kw_only=True):
    """One owned shard."""

    shard: ShardId
    position: Position
    """The next record to read."""
    watermark: Position
    """Everything before it is finished on every route: what may be saved."""
    checkpoint: Position | None = None
    """What is saved; None before the first save."""
    end: Position | None = None
    """The shard's end as last seen; None where it is not known (yet)."""
    positions_count: bool = True
    """Whether the difference of two positions is a number of records (offsets; sequence numbers are not)."""
    lag_records: int | None = None
    """Records between the watermark and the end (sparse offsets count as records); None where it is not known."""
    lag_ms: int | None = None
    """How far the shard is behind in time: the age, by its own clock, of the last change that was finished; 0 when all
    is; None where it is not known."""
    watermark_moved_ms: int
    """When the watermark last moved, *or was last seen to be at the end*: a shard that was idle for an hour and gets
    a record has not been standing still for an hour."""
    retention_used: float | None = None
    """How much of the time for which the log keeps a record the checkpoint has used up: 0 when all is finished and
    saved, at 1 the next record may be gone. None where the log's retention or the checkpoint's time is not known."""
    routes: dict[str, RouteCounts] = {}
    """By route, and ``DECODE_ROUTE``."""

    @property
    def lagging(self) -> bool:
        """True while something is left to finish, as far as it is known: up to the end, or else up to what was read."""
        return (self.position if self.end is None else self.end) > self.watermark


class ChangeCount(msgspec.Struct):
    """Finished changes of one kind."""

    event_name: str
    outcome: str
    """As in ``RouteCounts.finished``."""
    count: int


class LetterCount(msgspec.Struct):
    """Dead letters of one reason. Codes may come from third-party sinks: metrics show the first 50 of them."""

    kind: str
    code: str
    count: int


class RouteSnapshot(msgspec.Struct, kw_only=True):
    """One route, over all of its shards."""

    name: str
    sink: str
    """The sink's type."""
    lanes: int
    changes: list[ChangeCount] = []
    retries: dict[str, int] = {}
    """Changes that were tried again, by the reason that the sink gave."""
    dead_letters: list[LetterCount] = []
    bisections: int = 0
    """Batches that raised and were taken apart."""
    breaker: BreakerState = BreakerState.CLOSED
    unavailable_since_ms: int | None = None
    """Since when the sink has been unavailable or throttling without a success in between."""
    writes_in_flight: int = 0
    held_keys: int = 0
    """Keys whose changes go to the dead letters behind a poison change (``on_poison: hold_key``)."""
    dead_letters_in_a_row: int = 0
    """Changes that became dead letters since the last accepted one; counted where ``dead_letter_limits`` are set."""
    dead_letter_ratio: float = 0.0
    """Dead letters by judged changes, in the window of ``dead_letter_limits.max_ratio``; 0 where that is not set."""
    dead_letter_limit_passed: bool = False
    """``dead_letter_limits`` stopped the route."""
    stopped_reason: str = ""
    """Why the route stopped for good (``on_poison: stop``, ``dead_letter_limits``); empty while it runs."""
    last_error: str = ""
    """The last failure in words, without attribute values; kept after it has passed."""
    batch_sizes: Histogram
    """Changes in one call of the sink."""
    call_seconds: dict[str, Histogram] = {}
    """How long a call of the sink took, by ``CallResult``."""
    end_to_end_seconds: Histogram
    """From the change's own time to its outcome."""


class SourceSnapshot(msgspec.Struct, kw_only=True):
    """The pipeline's source."""

    type: str
    paused: bool = False
    """No more is fetched until something in flight is finished."""
    last_error: str = ""
    """Why the source cannot be reached at present; empty while it can."""
    skipped: int = 0
    """How often something was lost unread (its retention had passed) and skipped, as the configuration says."""


class SnapshotStatus(msgspec.Struct, kw_only=True):
    """The snapshot of the source's table (``snapshot:``), as far as it is."""

    id: str
    state: str
    """``waiting`` (the stream's positions are not taken yet), ``running`` or ``done``."""
    started_ms: int
    attempt: int = 1
    """How often it was begun or gone on with."""
    segments: int = 0
    segments_done: int = 0
    items: int = 0
    """Items read so far, over all attempts; what is read again after a crash counts once."""
    items_estimate: int | None = None
    """About how many there are; None where it is not known."""
    pages: int = 0
    capacity_units: float = 0.0
    """What reading cost, in the table's units."""
    items_per_s: float = 0.0
    """Since it was begun or gone on with in this process."""
    seconds_left: float | None = None
    """About how long it will take; None where it is not known."""
    last_error: str = ""
    """Why the table cannot be read at present; empty while it can."""


class StoreSnapshot(msgspec.Struct, kw_only=True):
    """The checkpoint store."""

    ok: bool = True
    last_error: str = ""
    last_saved_ms: int
    """When everything that may be saved last was (a turn with nothing to save counts), or the pipeline's start."""


class DestinationSnapshot(msgspec.Struct, kw_only=True):
    """The dead letters' destination."""

    ok: bool = True
    last_error: str = ""


class PipelineSnapshot(msgspec.Struct, kw_only=True):
    """One pipeline at one moment."""

    name: str
    state: PipelineState
    reason: str = ""
    """Why it is in this state, in words."""
    stall_after_s: float = 60.0
    """After how long without progress, though there is lag, it is not ready."""
    source: SourceSnapshot
    checkpoint_store: StoreSnapshot
    dead_letters: DestinationSnapshot
    snapshot: SnapshotStatus | None = None
    """None where the pipeline makes none."""
    routes: list[RouteSnapshot] = []
    shards: list[ShardSnapshot] = []
    in_flight_changes: int = 0
    in_flight_changes_max: int
    in_flight_bytes: int = 0
    in_flight_bytes_max: int
    records_read: int = 0
    records_empty: int = 0
    """Records that rightly carry no change (tombstones, heartbeats)."""
    changes_decoded: int = 0
    undecodable: dict[str, int] = {}
    """Records that are not what their format says, by the decoder's code."""
