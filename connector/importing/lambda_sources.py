"""The source of a Lambda event source mapping: a DynamoDB stream, a Kinesis stream, or topics of a Kafka cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from connector.errors import ConfigError
from connector.importing.written import Filled, Option, Options

_ARN = re.compile(r"arn:[a-z-]+:(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<place>.+)")
_CONSUMER = re.compile(r"(?P<stream>.+:stream/[^/]+)/consumer/.+")
_SASL = {
    "BASIC_AUTH": "PLAIN",
    "SASL_SCRAM_256_AUTH": "SCRAM-SHA-256",
    "SASL_SCRAM_512_AUTH": "SCRAM-SHA-512",
}


class Mapping(Protocol):
    """What is asked of a mapping here (connector.importing.lambda_esm.EventSourceMapping)."""

    uuid: str
    event_source_arn: str
    self_managed_event_source: dict[str, Any]
    topics: list[str]
    starting_position: str
    starting_position_timestamp: str | float | None
    source_access_configurations: list[dict[str, str]]
    amazon_managed_kafka_event_source_config: dict[str, Any]
    self_managed_kafka_event_source_config: dict[str, Any]
    provisioned_poller_config: dict[str, Any]


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A source's options, and what must be known of them."""

    type: str
    name: str
    region: str
    options: Options
    says: tuple[str, ...]


def source_of(mapping: Mapping) -> Imported:
    """The source. Raises ConfigError for one that has no counterpart."""
    if mapping.self_managed_event_source:
        return _kafka(mapping, region="")
    match = _ARN.fullmatch(mapping.event_source_arn)
    if match is None:
        raise ConfigError("the mapping names no event source (EventSourceArn, SelfManagedEventSource)")
    make: Callable[[Mapping, re.Match[str]], Imported] | None = {
        "dynamodb": _dynamodb,
        "kinesis": _kinesis,
        "kafka": lambda of, at: _kafka(of, region=at["region"]),
    }.get(match["service"])
    if make is None:
        raise ConfigError(f"a mapping of {match['service']} has no counterpart: Millrace reads change logs, not queues")
    return make(mapping, match)


def kafka_topic(destination: str) -> str:
    """The topic of an on-failure destination in Kafka, or nothing."""
    return destination.removeprefix("kafka://") if destination.startswith("kafka://") else ""


def _dynamodb(mapping: Mapping, match: re.Match[str]) -> Imported:
    table = match["place"].split("/")[1] if match["place"].startswith("table/") else ""
    return Imported(
        type="dynamodb_streams",
        name=table,
        region=match["region"],
        options=[
            Option("type", "dynamodb_streams"),
            Option(
                "stream_arn",
                mapping.event_source_arn,
                ("With table: and region: instead, a stream that is enabled anew later is followed, too.",),
            ),
            Option("format", "dynamodb"),
            _start(mapping),
        ],
        says=_pollers(mapping),
    )


def _kinesis(mapping: Mapping, match: re.Match[str]) -> Imported:
    says = _pollers(mapping)
    stream = mapping.event_source_arn
    if consumer := _CONSUMER.fullmatch(stream):
        stream = consumer["stream"]
        says = (*says, "The mapping had a consumer of its own (enhanced fan-out); here the shards are polled.")
    return Imported(
        type="kinesis",
        name=stream.rpartition("/")[2],
        region=match["region"],
        options=[
            Option("type", "kinesis"),
            Option("stream", stream),
            Option("format", "kinesis-dynamodb", ("If the stream holds a table's changes; else say which format.",)),
            _start(mapping),
        ],
        says=says,
    )


def _kafka(mapping: Mapping, *, region: str) -> Imported:
    managed = not mapping.self_managed_event_source
    config = mapping.amazon_managed_kafka_event_source_config or mapping.self_managed_kafka_event_source_config
    endpoints = mapping.self_managed_event_source.get("Endpoints", {})
    brokers = list(endpoints.get("KAFKA_BOOTSTRAP_SERVERS", ()))
    options = [Option("type", "kafka")]
    if brokers:
        options.append(Option("brokers", brokers))
    else:
        where = f"aws kafka get-bootstrap-brokers --cluster-arn {mapping.event_source_arn}"
        options.append(Option("brokers", [Filled("${KAFKA_BROKERS}")], (f"What this prints: {where}",)))
    options += _access(mapping.source_access_configurations, managed=managed)
    group = str(config.get("ConsumerGroupId") or mapping.uuid or "millrace")
    options += [
        Option("topics", mapping.topics),
        Option("group", group, ("The mapping's own consumer group: what it has committed is where this goes on.",)),
        Option("format", "dynamodb", ("How the records' values are written: dynamodb, kinesis-dynamodb, debezium, …",)),
        _start(mapping, what="a partition for which the group has committed nothing"),
    ]
    says = _pollers(mapping)
    if config.get("SchemaRegistryConfig"):
        says = (*says, "SchemaRegistryConfig has no counterpart: the values must be readable without a registry.")
    topic = mapping.topics[0] if mapping.topics else "kafka"
    return Imported(type="kafka", name=topic, region=region, options=options, says=says)


def _access(configurations: Sequence[dict[str, str]], *, managed: bool) -> Iterator[Option]:
    """The connection's options: how a mapping proves who it is, which Lambda does over TLS only."""
    kinds = {str(one.get("Type")): str(one.get("URI", "")) for one in configurations}
    tls: Options = []
    says: list[str] = []
    if (ca := kinds.get("SERVER_ROOT_CA_CERTIFICATE")) is not None:
        tls.append(Option("ca", Filled("${KAFKA_CA_FILE}"), (f"A file with what the secret {ca} holds.",)))
    if (certificate := kinds.get("CLIENT_CERTIFICATE_TLS_AUTH")) is not None:
        tls.append(Option("cert", Filled("${KAFKA_CERT_FILE}"), (f"Files with what the secret {certificate} holds.",)))
        tls.append(Option("key", Filled("${KAFKA_KEY_FILE}")))
    mechanism = next((_SASL[kind] for kind in kinds if kind in _SASL), None)
    if others := sorted(kind for kind in kinds if kind.startswith(("OAUTHBEARER", "IAM"))):
        says.append(f"{', '.join(others)}: has to be said by hand (sasl: with oauth:, or options:).")
    if managed and not mechanism and not certificate:
        says.append("A cluster that lets clients in by IAM alone cannot be reached: enable SASL/SCRAM or TLS there.")
    if tls or mechanism or managed or says:
        yield Option("tls", tls or {}, tuple(says))
    if mechanism:
        secret = next(kinds[kind] for kind in kinds if kind in _SASL)
        yield Option(
            "sasl",
            [
                Option("mechanism", mechanism),
                Option("username", Filled("${KAFKA_USERNAME}")),
                Option("password", Filled("${KAFKA_PASSWORD}")),
            ],
            (f"Lambda read them from the secret {secret}.",),
        )


def _start(mapping: Mapping, *, what: str = "a shard that was never read from here") -> Option:
    says = f"StartingPosition: where {what} begins."
    match mapping.starting_position:
        case "TRIM_HORIZON":
            return Option("start", "earliest", (says,))
        case "LATEST":
            hint = "What is written between the mapping's end and this beginning is missed; with earliest nothing is."
            return Option("start", "latest", (says, hint))
        case "AT_TIMESTAMP" if mapping.starting_position_timestamp is not None:
            return Option("start", {"timestamp": _timestamp(mapping.starting_position_timestamp)}, (says,))
    raise ConfigError(f"the StartingPosition {mapping.starting_position!r} is none that Lambda has")


def _timestamp(value: str | float) -> str:
    """With its zone, as we want it: the AWS command line prints it so, or (version 1) as seconds."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"the StartingPositionTimestamp {value!r} is no time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _pollers(mapping: Mapping) -> tuple[str, ...]:
    if not mapping.provisioned_poller_config:
        return ()
    return ("ProvisionedPollerConfig: run as many replicas; they share the shards.",)
