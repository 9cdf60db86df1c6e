"""Every metric, declared once: the collector exposes these and no others, and the documentation is made from them.

Names are ``millrace_…`` with base units (seconds, bytes); counters end in ``_total``. Labels hold names from the
configuration and words from closed or bounded lists, never values from records.
"""

from __future__ import annotations

import enum

import msgspec


class MetricType(enum.StrEnum):
    """Prometheus's types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricDefinition(msgspec.Struct, frozen=True):
    """One metric. ``name`` is what queries say (a histogram's series add ``_bucket``, ``_sum`` and ``_count``)."""

    name: str
    type: MetricType
    help: str
    unit: str = ""
    """``seconds``, ``bytes``, or empty for plain counts and yes/no."""
    labels: tuple[str, ...] = ()


_PIPELINE = ("pipeline",)
_ROUTE = ("pipeline", "route")
_SHARD = ("pipeline", "shard")
_SHARD_ROUTE = ("pipeline", "route", "shard")

_C, _G, _H = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM

# Is it keeping up?
LAG_RECORDS = MetricDefinition(
    "millrace_lag_records",
    _G,
    "Records between a shard's watermark (everything before it is finished) and its end. Absent while the end is not"
    " known.",
    "",
    _SHARD,
)
LAG_SECONDS = MetricDefinition(
    "millrace_lag_seconds",
    _G,
    "How far a shard is behind in time: the age, by its own clock, of the last change that was finished; 0 when"
    " everything is.",
    "seconds",
    _SHARD,
)
STILL_SECONDS = MetricDefinition(
    "millrace_watermark_still_seconds",
    _G,
    "How long a shard's watermark has not moved though there is lag; 0 while it moves or nothing is left.",
    "seconds",
    _SHARD,
)
RECORDS_READ = MetricDefinition("millrace_records_read_total", _C, "Records read from the source.", "", _PIPELINE)
RECORDS_EMPTY = MetricDefinition(
    "millrace_records_empty_total",
    _C,
    "Records that rightly carry no change (tombstones, heartbeats).",
    "",
    _PIPELINE,
)
CHANGES_DECODED = MetricDefinition(
    "millrace_changes_decoded_total",
    _C,
    "Changes decoded from records, before routing.",
    "",
    _PIPELINE,
)
CHANGES = MetricDefinition(
    "millrace_changes_total",
    _C,
    "Changes that got their final outcome, by event name (INSERT, MODIFY, REMOVE) and outcome (applied, filtered,"
    " superseded, stale, dead_lettered, abandoned).",
    "",
    (*_ROUTE, "event_name", "outcome"),
)
END_TO_END = MetricDefinition(
    "millrace_end_to_end_seconds",
    _H,
    "Time from a change, by its own clock, to its outcome.",
    "seconds",
    _ROUTE,
)
CHECKPOINT_AGE = MetricDefinition(
    "millrace_checkpoint_age_seconds",
    _G,
    "Time since everything that may be saved last was: what a restart would read again.",
    "seconds",
    _PIPELINE,
)
CHECKPOINT_UNSAVED = MetricDefinition(
    "millrace_checkpoint_unsaved_records",
    _G,
    "Records finished but not yet saved in a checkpoint. Absent before a shard's first checkpoint, and where positions"
    " do not count records (streams).",
    "",
    _SHARD,
)
RETENTION_USED = MetricDefinition(
    "millrace_checkpoint_retention_used_ratio",
    _G,
    "How much of the time for which the change log keeps a record a shard's checkpoint has used up: the age of its last"
    " change by the retention, 0 when everything is finished and saved. At 1 changes are lost unread. Absent where the"
    " source's retention is not known.",
    "",
    _SHARD,
)

SNAPSHOT_RUNNING = MetricDefinition(
    "millrace_snapshot_running",
    _G,
    "1 while the items of the source's table are being read; 0 when they are done. Absent without a snapshot, as are"
    " the following.",
    "",
    _PIPELINE,
)
SNAPSHOT_ITEMS = MetricDefinition(
    "millrace_snapshot_items", _G, "Items of the snapshot that were read, also before a restart.", "", _PIPELINE
)
SNAPSHOT_EXPECTED_ITEMS = MetricDefinition(
    "millrace_snapshot_expected_items",
    _G,
    "About how many items the table has, as the service counts them now and then.",
    "",
    _PIPELINE,
)
SNAPSHOT_SEGMENTS = MetricDefinition(
    "millrace_snapshot_segments", _G, "Parts into which the snapshot is cut.", "", _PIPELINE
)
SNAPSHOT_DONE_SEGMENTS = MetricDefinition(
    "millrace_snapshot_done_segments", _G, "Parts of the snapshot that are finished on every route.", "", _PIPELINE
)
SNAPSHOT_UNITS = MetricDefinition(
    "millrace_snapshot_capacity_units", _G, "Read capacity units that the snapshot cost.", "", _PIPELINE
)
SNAPSHOT_LEFT = MetricDefinition(
    "millrace_snapshot_left_seconds",
    _G,
    "About how long the snapshot will take. Absent while it is not known.",
    "seconds",
    _PIPELINE,
)

# Is anything wrong?
READY = MetricDefinition("millrace_ready", _G, "1 when /readyz answers 200.")
PIPELINE_READY = MetricDefinition(
    "millrace_pipeline_ready", _G, "1 when nothing is wrong with the pipeline; /readyz says what is.", "", _PIPELINE
)
PIPELINE_STATE = MetricDefinition(
    "millrace_pipeline_state",
    _G,
    "1 for the state that the pipeline is in (starting, running, draining, stopped, failed), 0 for the others.",
    "",
    (*_PIPELINE, "state"),
)
SOURCE_PAUSED = MetricDefinition(
    "millrace_source_paused",
    _G,
    "1 while nothing more is fetched because enough is in flight (backpressure).",
    "",
    _PIPELINE,
)
SOURCE_OK = MetricDefinition("millrace_source_ok", _G, "0 while the source cannot be reached.", "", _PIPELINE)
SOURCE_SKIPPED = MetricDefinition(
    "millrace_source_skipped_total",
    _C,
    "How often a source went on behind something that was lost unread, because its retention had passed and the"
    " configuration says to skip it.",
    "",
    _PIPELINE,
)
CHECKPOINT_STORE_OK = MetricDefinition(
    "millrace_checkpoint_store_ok", _G, "0 while checkpoints cannot be saved.", "", _PIPELINE
)
DEAD_LETTER_DESTINATION_OK = MetricDefinition(
    "millrace_dead_letter_destination_ok", _G, "0 while dead letters cannot be written.", "", _PIPELINE
)
DEAD_LETTERS = MetricDefinition(
    "millrace_dead_letters_total",
    _C,
    "Dead letters acknowledged by their destination, by kind and code; codes beyond 50 a route are `other`.",
    "",
    (*_ROUTE, "kind", "code"),
)
UNDECODABLE = MetricDefinition(
    "millrace_records_undecodable_total",
    _C,
    "Records that are not what their format says, by the decoder's code.",
    "",
    (*_PIPELINE, "code"),
)
RETRIES = MetricDefinition(
    "millrace_retries_total",
    _C,
    "Changes that were tried again, by the sink's reason; reasons beyond 50 a route are `other`.",
    "",
    (*_ROUTE, "reason"),
)
BISECTIONS = MetricDefinition(
    "millrace_bisections_total", _C, "Batches that raised and were taken apart to find the change.", "", _ROUTE
)
BREAKER = MetricDefinition(
    "millrace_breaker_state",
    _G,
    "1 for the state that the breaker is in (closed, open, half_open), 0 for the others.",
    "",
    (*_ROUTE, "state"),
)
UNAVAILABLE_SECONDS = MetricDefinition(
    "millrace_sink_unavailable_seconds",
    _G,
    "How long the sink has been unavailable or throttling without a success in between; 0 while it is not.",
    "seconds",
    _ROUTE,
)
ROUTE_STOPPED = MetricDefinition(
    "millrace_route_stopped", _G, "1 when poison stopped the route (on_poison: stop, dead_letter_limits).", "", _ROUTE
)
DEAD_LETTERS_IN_A_ROW = MetricDefinition(
    "millrace_dead_letters_in_a_row",
    _G,
    "Changes that became dead letters since the sink last accepted one; 0 without dead_letter_limits.",
    "",
    _ROUTE,
)
DEAD_LETTER_RATIO = MetricDefinition(
    "millrace_dead_letter_ratio",
    _G,
    "Dead letters by all changes that were judged, in the window of dead_letter_limits; 0 without max_ratio.",
    "",
    _ROUTE,
)
DEAD_LETTER_LIMIT = MetricDefinition(
    "millrace_dead_letter_limit_passed",
    _G,
    "1 when dead_letter_limits stopped the route: nothing more is dead-lettered until a restart.",
    "",
    _ROUTE,
)
HELD_KEYS = MetricDefinition(
    "millrace_held_keys",
    _G,
    "Keys whose changes go to the dead letters behind a poison change (on_poison: hold_key).",
    "",
    _ROUTE,
)
RESIDUE = MetricDefinition(
    "millrace_conservation_residue",
    _G,
    "Changes read less those finished, dead-lettered, abandoned or in flight: anything but 0 is a bug.",
    "",
    _SHARD_ROUTE,
)

# Where?
ROUTE_LANES = MetricDefinition(
    "millrace_route_lanes", _G, "Lanes of the route, with its sink's type.", "", (*_ROUTE, "sink")
)
SINK_CALL = MetricDefinition(
    "millrace_sink_call_seconds",
    _H,
    "How long one call of the sink took, by result (applied, unavailable, throttled, raised).",
    "seconds",
    (*_ROUTE, "result"),
)
BATCH_CHANGES = MetricDefinition("millrace_batch_changes", _H, "Changes in one call of the sink.", "", _ROUTE)
WRITES_IN_FLIGHT = MetricDefinition(
    "millrace_writes_in_flight", _G, "Calls of the sink that have not answered yet.", "", _ROUTE
)
IN_FLIGHT_CHANGES = MetricDefinition(
    "millrace_in_flight_changes", _G, "Changes read but not finished on every route.", "", _PIPELINE
)
IN_FLIGHT_MAX_CHANGES = MetricDefinition(
    "millrace_in_flight_max_changes",
    _G,
    "The limit of changes in flight, at which the source is paused.",
    "",
    _PIPELINE,
)
IN_FLIGHT_BYTES = MetricDefinition(
    "millrace_in_flight_bytes", _G, "Bytes of the records in flight.", "bytes", _PIPELINE
)
IN_FLIGHT_MAX_BYTES = MetricDefinition(
    "millrace_in_flight_max_bytes",
    _G,
    "The limit of bytes in flight, at which the source is paused.",
    "bytes",
    _PIPELINE,
)
SHARD_READ = MetricDefinition(
    "millrace_shard_changes_read_total",
    _C,
    "Changes of a shard handed to a route (on the route `decode`: records that could not be decoded).",
    "",
    _SHARD_ROUTE,
)
SHARD_FINISHED = MetricDefinition(
    "millrace_shard_changes_finished_total",
    _C,
    "Changes of a shard that got their final outcome on a route.",
    "",
    (*_SHARD_ROUTE, "outcome"),
)
SHARD_IN_FLIGHT = MetricDefinition(
    "millrace_shard_changes_in_flight", _G, "Changes of a shard without an outcome on a route yet.", "", _SHARD_ROUTE
)
BUILD = MetricDefinition("millrace_build_info", _G, "Always 1; the label says which version runs.", "", ("version",))

METRICS: tuple[MetricDefinition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricDefinition)
)
"""All of them, in the order of the questions that they answer: keeping up, wrong, where."""


def metrics_markdown() -> str:
    """The table for the documentation."""
    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        text = metric.help.replace("|", "\\|")
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {text} |")
    lines.append("")
    lines.append("Beside these: `process_…` and `python_…` of the Prometheus client.")
    return "\n".join(lines) + "\n"
