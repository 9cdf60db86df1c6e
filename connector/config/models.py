"""The configuration's shape: every option, its type, its default and what it means.

The README's reference and the JSON Schema are made from these models (connector.config.reference, .schema), so each
field says what it is for. Durations are seconds and sizes bytes here; people write ``30s`` and ``64MiB``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema, model_validator

from connector.config.specs import DeadLetterDestination, Problems, Sink, Source, View, inherit_from_source
from connector.config.units import MIB, Duration, Size
from connector.errors import ConfigError
from connector.filters import Pattern, compile_when, parse_pattern

__all__ = ["Config", "PipelineConfig", "RouteConfig", "View"]

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
"""Names become metric labels, table namespaces and parts of file names."""

PATTERNS_MAX = 100
RATIO_MIN = 100
"""Of fewer changes (or records) no ratio is taken: one poison change of two is no outage."""


class Admin(BaseModel):
    """The admin HTTP server: metrics, probes and status."""

    model_config = STRICT

    enabled: bool = Field(default=True, description="whether the admin HTTP server runs")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="the address that it listens on; it has no authentication, so open it only to whom may see it",
    )
    port: int = Field(default=9464, ge=0, le=65535, description="its port; 0 takes a free one and logs which")


class Log(BaseModel):
    """Logs go to standard error."""

    model_config = STRICT

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe level that is written"
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="JSON lines, readable lines, or (auto) readable ones on a terminal and JSON elsewhere",
    )
    values: bool = Field(
        default=False, description="whether attribute values of items may appear in logs; they are often personal data"
    )


class Checkpoints(BaseModel):
    """Where each shard's position is saved."""

    model_config = STRICT

    every: Duration = Field(
        default=1.0,
        gt=0,
        description="how often the positions of finished changes are saved; a crash replays that much",
    )
    type: Literal["source", "sqlite"] | None = Field(
        default=None,
        description="where: in the source itself (Kafka's group offsets) or in an SQLite file; unset: in the source "
        "where it keeps positions, else in SQLite",
    )
    path: str = Field(
        default="millrace-checkpoints.db",
        min_length=1,
        description="the SQLite file, relative to the working directory; pipelines may share it",
    )


class Limits(BaseModel):
    """What a pipeline may hold in memory before its source is paused."""

    model_config = STRICT

    changes_in_flight: int = Field(
        default=50_000, ge=1, le=10_000_000, description="unfinished changes at which the source is paused"
    )
    bytes_in_flight: Size = Field(
        default=64 * MIB, description="bytes of unfinished records at which the source is paused"
    )


class Read(BaseModel):
    """How a source is read."""

    model_config = STRICT

    records_max: int = Field(default=4000, ge=1, le=100_000, description="the most records of one read")
    wait: Duration = Field(default=0.1, gt=0, le=60, description="how long one read waits for the first record")


class Batch(BaseModel):
    """What one call of a sink gets."""

    model_config = STRICT

    size: int | None = Field(
        default=None, ge=1, le=10_000, description="the most changes in a batch; unset: what the sink suggests"
    )
    bytes: Size = Field(
        default=6 * MIB, description="the most bytes of records in a batch; one larger change goes alone"
    )
    window: Duration = Field(
        default=0.0,
        le=300,
        description="how long a batch with room left waits for more changes; 0: a free lane takes what is there",
    )


class Backoff(BaseModel):
    """The waits between attempts: doubled each time, each with random jitter over its upper half."""

    model_config = STRICT

    initial: Duration = Field(default=0.1, gt=0, description="the first wait")
    max: Duration = Field(default=30.0, gt=0, description="the longest wait")

    @model_validator(mode="after")
    def _grows(self) -> Backoff:
        if self.max < self.initial:
            raise ValueError("max must be at least initial")
        return self


class Retry(BaseModel):
    """What is done with a change that failed in a way that may pass. A sink that is down is waited for without end."""

    model_config = STRICT

    attempts: Annotated[int, Field(ge=0, le=10_000)] | Literal["unlimited"] = Field(
        default=5,
        description="how often it is tried again before it becomes a dead letter; with unlimited it holds up its lane "
        "until it passes, or gets older than max_age",
    )
    backoff: Backoff = Field(default=Backoff(), description="the waits between attempts, also for a sink that is down")
    max_age: Duration | None = Field(
        default=None,
        gt=0,
        description="a failing change older than this becomes a dead letter at once; unset: age does not matter",
    )


class DeadLetterLimits(BaseModel):
    """The breaker on dead letters: past a limit the pipeline stops, not ready, and dead-letters nothing more."""

    model_config = STRICT

    max_consecutive: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="so many in a row, with none accepted in between, may become dead letters; one more stops the "
        "pipeline, not ready, until it is started again. Unset: any number may, since dead letters are kept and can be "
        "replayed, while the change log of a stopped pipeline forgets: set it where somebody comes when it stops",
    )
    max_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="such a part of those that were judged within the window may become dead letters; more stops the "
        f"pipeline, once {RATIO_MIN} were judged; unset: any part may",
    )
    window: Duration = Field(default=300.0, ge=1, le=86_400, description="over how long max_ratio is taken")

    @model_validator(mode="after")
    def _limits_something(self) -> DeadLetterLimits:
        if self.max_ratio is None and "window" in self.model_fields_set:
            raise ValueError("window is of use with max_ratio only")
        return self


class Breaker(BaseModel):
    """Stops calling a sink that is down; one call at a time then probes whether it is back."""

    model_config = STRICT

    failures: int = Field(
        default=5, ge=1, le=1000, description="how many calls in a row must find the sink down before the breaker opens"
    )


def _parse_when(raw: Any) -> tuple[Pattern, ...]:
    patterns = _parse_patterns(raw)
    problems = Problems()
    for pattern in patterns:
        try:
            compile_when([pattern])
        except ConfigError as error:
            problems.add("pattern", error.message, error.path)
    problems.raise_any()
    return patterns


def _parse_patterns(raw: Any) -> tuple[Pattern, ...]:
    """One pattern or a list of them (any of which may match). All that is wrong is raised at once."""
    problems = Problems()
    patterns = []
    listed = raw if isinstance(raw, list) else [raw]
    if not 0 < len(listed) <= PATTERNS_MAX:
        problems.add("patterns", f"must be a pattern, or a list of 1 to {PATTERNS_MAX} patterns")
        listed = []
    for index, one in enumerate(listed):
        try:
            patterns.append(parse_pattern(one, path=(index,) if isinstance(raw, list) else ()))
        except ConfigError as error:
            problems.add("pattern", error.message, error.path)
    problems.raise_any()
    return tuple(patterns)


_PATTERN_SCHEMA = {"type": "object", "minProperties": 1}
_PATTERNS_SCHEMA = WithJsonSchema(
    {"anyOf": [_PATTERN_SCHEMA, {"type": "array", "items": _PATTERN_SCHEMA, "minItems": 1, "maxItems": PATTERNS_MAX}]}
)
When = Annotated[tuple[Pattern, ...], PlainValidator(_parse_when), _PATTERNS_SCHEMA]
Where = Annotated[tuple[Pattern, ...], PlainValidator(_parse_patterns), _PATTERNS_SCHEMA]


class Scan(BaseModel):
    """How a snapshot reads the source's table."""

    model_config = STRICT

    segments: int = Field(
        default=4, ge=1, le=256, description="how many parts of the table are read at once (a parallel Scan's segments)"
    )
    page_items: int = Field(
        default=500, ge=1, le=2000, description="the most items of one page; a page has at most 1 MB in any case"
    )
    capacity_units_per_second: float | None = Field(
        default=None,
        gt=0,
        description="how many read capacity units may be used each second, over all segments (reads are consistent: 1 "
        "unit for 4 kB); unset: as fast as the sinks take it",
    )
    exports: list[Annotated[str, StringConstraints(pattern=r"^s3://[^/]+/.+/manifest-summary\.json$")]] = Field(
        default=[],
        max_length=100,
        description="instead of reading the table: exports of it in S3, as the addresses of their "
        "manifest-summary.json: a full one, then any incremental ones that follow it without a gap; in DynamoDB JSON, "
        "not in Ion; the stream is delivered after them and has to reach back to the last one (24 h)",
    )
    s3_endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^\s/?#@]+$", description="another address than S3's own"
    )
    s3_region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{3,40}$", description="the bucket's region; unset: the source's"
    )


class RouteConfig(BaseModel):
    """Filter, transform, one sink."""

    model_config = STRICT

    when: When | None = Field(
        default=None,
        description="which changes take this route: a pattern as AWS writes them for event source mappings, or a list "
        "of which one must match; unset: all",
    )
    where: Where | None = Field(
        default=None,
        description="which items belong in the sink: the same patterns on the item alone; an item that stops matching "
        "is removed from the sink; unset: all",
    )
    sink: Sink = Field(description="where the changes go")
    snapshot: bool | None = Field(
        default=None,
        description="whether a snapshot's items take this route, as INSERT changes; unset: where only a key's last "
        "change counts for the sink (search indexes, caches), not where each one does (audit tables)",
    )
    lanes: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="how many writes may be under way at once; a key always takes the same lane; unset: what the sink "
        "suggests",
    )
    batch: Batch = Field(default=Batch(), description="what one call of the sink gets")
    retry: Retry = Field(default=Retry(), description="what is done with a change that failed in a way that may pass")
    on_poison: Literal["continue", "hold_key", "stop"] = Field(
        default="continue",
        description="what becomes of a key's later changes after one was dead-lettered: they go on, they follow it "
        "into the dead letters until it is replayed, or (stop) nothing is dead-lettered and the pipeline stops",
    )
    dead_letter_limits: DeadLetterLimits = Field(
        default=DeadLetterLimits(), description="how many dead letters mean that something else is broken"
    )
    breaker: Breaker = Field(default=Breaker(), description="when a sink that is down is left alone for a while")
    timeout: Duration = Field(
        default=60.0, gt=0, description="one call of the sink; a longer one counts as the sink being down"
    )

    @model_validator(mode="after")
    def _keeps_the_order(self) -> RouteConfig:
        lanes_max = getattr(self.sink.plugin_class, "lanes_max", None)
        if lanes_max is not None and self.lanes is not None and self.lanes > lanes_max:
            raise ValueError(f"lanes: with more than {lanes_max} this sink would lose the order that it keeps")
        return self


class PipelineConfig(BaseModel):
    """One source, its checkpoints, and the routes that it feeds."""

    model_config = STRICT

    source: Source = Field(description="where changes come from")
    snapshot: Literal["never", "initial", "always"] = Field(
        default="never",
        description="whether the items that are in the source's table are delivered, too, as INSERT changes that every "
        "change of the stream beats: never, until it was done once, or at each start (one that was interrupted goes "
        "on)",
    )
    scan: Scan = Field(default=Scan(), description="how a snapshot reads the table")
    checkpoints: Checkpoints = Field(default=Checkpoints(), description="where each shard's position is saved")
    dead_letter: DeadLetterDestination = Field(
        description="where a change goes that a sink will never accept: without such a place it could only be lost, or "
        "stop everything behind it"
    )
    undecodable_limits: DeadLetterLimits = Field(
        default=DeadLetterLimits(),
        description="how many undecodable records mean that the format is wrong, or the producer broken",
    )
    limits: Limits = Field(default=Limits(), description="what may be in memory before the source is paused")
    drain: Duration = Field(
        default=30.0, description="how long a stop, or a shard that moves away, waits for what is in flight"
    )
    read: Read = Field(default=Read(), description="how the source is read")
    stall_after: Duration = Field(
        default=60.0,
        gt=0,
        description="after how long without progress, though there is lag, the pipeline is not ready",
    )
    routes: dict[Name, RouteConfig] = Field(min_length=1, max_length=100, description="the routes by name")

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, raw: Any) -> Any:
        return inherit_from_source(raw)


class Config(BaseModel):
    """One configuration file."""

    model_config = STRICT

    admin: Admin = Field(default=Admin(), description="the admin HTTP server: metrics, probes and status")
    log: Log = Field(default=Log(), description="what is logged, and how")
    pipelines: dict[Name, PipelineConfig] = Field(
        min_length=1, max_length=100, description="the pipelines by name; they are independent of each other"
    )
