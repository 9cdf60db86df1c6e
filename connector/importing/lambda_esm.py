"""A Lambda event source mapping as a pipeline: what ``aws lambda get-event-source-mapping`` prints, renamed.

Each setting keeps its meaning; where something must be decided, or differs, a comment above the option says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from connector import plugins
from connector.config.units import write_duration
from connector.errors import ConfigError
from connector.importing.lambda_sources import Imported, kafka_topic, source_of
from connector.importing.written import Option, Options, commented, written

FOR_EVER = -1
"""Lambda's way of saying that there is no limit."""
FILTERED_PART = {"kinesis": "data", "kafka": "value"}
"""Where a mapping's patterns look, by our source: the record is below this there, and the whole of it here."""

_QUEUE = re.compile(r"arn:[a-z-]+:(sqs|sns):[a-z0-9-]+:\d{12}:\S+")
_BUCKET = re.compile(r"arn:[a-z-]+:s3:::(?P<bucket>[^/]+)")


class EventSourceMapping(msgspec.Struct, rename="pascal", kw_only=True):
    """What is read of a mapping's JSON; the rest says nothing about the way of a record."""

    uuid: str = msgspec.field(name="UUID", default="")
    state: str = ""
    function_arn: str = ""
    event_source_arn: str = ""
    self_managed_event_source: dict[str, Any] = {}
    topics: list[str] = []
    starting_position: str = "TRIM_HORIZON"
    starting_position_timestamp: str | float | None = None
    batch_size: int = 100
    maximum_batching_window_in_seconds: int = 0
    parallelization_factor: int = 1
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = FOR_EVER
    maximum_record_age_in_seconds: int = FOR_EVER
    tumbling_window_in_seconds: int = 0
    destination_config: dict[str, Any] = {}
    filter_criteria: dict[str, Any] = {}
    filter_criteria_error: dict[str, Any] | None = None
    kms_key_arn: str = msgspec.field(name="KMSKeyArn", default="")
    function_response_types: list[str] = []
    source_access_configurations: list[dict[str, str]] = []
    amazon_managed_kafka_event_source_config: dict[str, Any] = {}
    self_managed_kafka_event_source_config: dict[str, Any] = {}
    provisioned_poller_config: dict[str, Any] = {}

    @property
    def function(self) -> str:
        """The function's name."""
        parts = self.function_arn.split(":")
        return parts[6] if len(parts) > 6 else self.function_arn


def read_mappings(text: bytes) -> list[EventSourceMapping]:
    """The mapping of ``get-event-source-mapping``, or those of ``list-event-source-mappings``. Raises ConfigError."""
    try:
        raw = json.loads(text)
        listed = raw["EventSourceMappings"] if isinstance(raw, dict) and "EventSourceMappings" in raw else [raw]
        found = [msgspec.convert(one, EventSourceMapping) for one in listed]
    except (ValueError, RecursionError, TypeError) as error:
        raise ConfigError(f"not the JSON of an event source mapping: {error}") from error
    if not found:
        raise ConfigError("there are no event source mappings in it")
    return found


def configuration(mappings: Sequence[EventSourceMapping]) -> str:
    """A configuration file with a pipeline for each mapping. Raises ConfigError for a source that we cannot read."""
    pipelines: dict[str, Options] = {}
    for mapping in mappings:
        imported = source_of(mapping)
        if imported.type not in plugins.sources():
            raise ConfigError(f"the source {imported.type!r}, which this mapping needs, is not installed")
        pipelines[_unused(_name(imported.name), pipelines)] = _pipeline(mapping, imported)
    head = [
        "Made by millrace import lambda-esm. Look through the comments, replace the sink, then: millrace validate.",
        "Disable the event source mapping before this runs: two readers would each do the work.",
    ]
    lines = [line for sentence in head for line in commented(sentence)]
    return "\n".join(lines) + "\n" + written([Option("pipelines", [Option(*one) for one in pipelines.items()])])


def _pipeline(mapping: EventSourceMapping, imported: Imported) -> Options:
    return [
        Option("source", imported.options, imported.says),
        _dead_letter(mapping, imported),
        Option("routes", [Option(_name(mapping.function or "function"), _route(mapping, imported))]),
    ]


def _route(mapping: EventSourceMapping, imported: Imported) -> Options:
    options = _when(mapping, imported)
    says = [f"What the function {mapping.function} did: a sink does it here. This one only prints each change."]
    if mapping.tumbling_window_in_seconds:
        says.append(
            f"TumblingWindowInSeconds: {mapping.tumbling_window_in_seconds} has no counterpart yet: no state is handed "
            "from batch to batch. Counters and sums by time belong in a sink that keeps them."
        )
    if "ReportBatchItemFailures" in mapping.function_response_types:
        says.append("ReportBatchItemFailures needs no option: every sink tells each change's outcome.")
    options.append(Option("sink", {"type": "stdout"}, tuple(says)))
    options.append(
        Option(
            "lanes",
            mapping.parallelization_factor,
            (
                "ParallelizationFactor, but for all shards of the process together, not for each: multiply it by the "
                "shards to have as many writes at once. A key's order holds with any number.",
            ),
        )
    )
    batch: Options = [Option("size", mapping.batch_size)]
    if mapping.maximum_batching_window_in_seconds:
        batch.append(Option("window", write_duration(mapping.maximum_batching_window_in_seconds)))
    options.append(Option("batch", batch, ("BatchSize, MaximumBatchingWindowInSeconds",)))
    options.append(_retry(mapping))
    return options


def _retry(mapping: EventSourceMapping) -> Option:
    for_ever = mapping.maximum_retry_attempts == FOR_EVER
    attempts = Option(
        "attempts",
        "unlimited" if for_ever else mapping.maximum_retry_attempts,
        (
            "MaximumRetryAttempts. A change that fails holds up its lane until it passes, as Lambda holds up the shard."
            if for_ever
            else "MaximumRetryAttempts. A sink that is down is waited for without end and counts no attempt.",
        ),
    )
    bisect = "is always so" if mapping.bisect_batch_on_function_error else "was off, and is always on here"
    says = f"BisectBatchOnFunctionError {bisect}: a batch that raises is taken apart until the change is found."
    options = [attempts]
    if mapping.maximum_record_age_in_seconds != FOR_EVER:
        age = write_duration(mapping.maximum_record_age_in_seconds)
        why = "MaximumRecordAgeInSeconds, for changes that fail; one that is old and works is applied"
        options.append(Option("max_age", age, (why,)))
    return Option("retry", options, (says,))


def _when(mapping: EventSourceMapping, imported: Imported) -> Options:
    says: list[str] = []
    if mapping.filter_criteria_error is not None or (mapping.kms_key_arn and not mapping.filter_criteria):
        says.append(
            "The mapping's filters are encrypted and were not printed: add them here (when: …), or all changes pass."
        )
    patterns: list[Any] = []
    for one in mapping.filter_criteria.get("Filters", ()):
        pattern = _pattern_of(one.get("Pattern", "{}"))
        part = FILTERED_PART.get(imported.type)
        if not pattern:
            return []  # an empty filter passes all, and one of several is enough
        if part is not None and set(pattern) != {part}:
            raise ConfigError(
                f"the filter {json.dumps(sorted(pattern))} asks for more than the record's {part!r}, which is all that "
                "'when' sees: take that out of the filter, and say it by another route"
            )
        patterns.append(pattern if part is None else pattern[part])
    if patterns:
        says.append("FilterCriteria")
        return [Option("when", patterns[0] if len(patterns) == 1 else patterns, tuple(says))]
    return [Option("when", {"eventName": ["INSERT", "MODIFY", "REMOVE"]}, tuple(says))] if says else []


def _pattern_of(text: str) -> dict[str, Any]:
    try:
        pattern = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a filter's pattern is no JSON: {error}") from error
    if not isinstance(pattern, dict):
        raise ConfigError("a filter's pattern is no JSON object")
    return pattern


def _dead_letter(mapping: EventSourceMapping, imported: Imported) -> Option:
    destination = str(mapping.destination_config.get("OnFailure", {}).get("Destination", ""))
    if match := _QUEUE.fullmatch(destination):
        option = {"sqs": "queue", "sns": "topic"}[match[1]]
        return Option(
            "dead_letter",
            {"type": match[1], option: destination},
            (
                "DestinationConfig: the same record as Lambda's for each change, with the change itself under "
                "'millrace'. It cannot be replayed from there; to replay, keep letters in PostgreSQL, S3 or Kafka.",
            ),
        )
    if bucket := _BUCKET.match(destination):
        region = imported.region or "eu-central-1"
        guessed = "" if imported.region else " Say the bucket's region."
        return Option(
            "dead_letter",
            {"type": "s3", "bucket": bucket["bucket"], "region": region},
            (f"DestinationConfig: one object a change; they can be listed and replayed.{guessed}",),
        )
    if topic := kafka_topic(destination):
        return Option("dead_letter", {"type": "kafka", "topic": topic}, ("DestinationConfig",))
    if destination:
        raise ConfigError(f"the on-failure destination {destination} is of a kind that has no counterpart")
    return Option(
        "dead_letter",
        {"type": "sqlite", "path": "dead-letters.db"},
        (
            "The mapping has no on-failure destination, so Lambda would discard. Here nothing is: they are kept in "
            "this file.",
        ),
    )


def _name(text: str) -> str:
    """A text as the name of a pipeline or a route."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63]
    return name if re.match(r"[a-z]", name) else f"m-{name}"[:63]


def _unused(name: str, taken: Mapping[str, object]) -> str:
    number, unused = 2, name
    while unused in taken:
        unused, number = f"{name[:58]}-{number}", number + 1
    return unused
