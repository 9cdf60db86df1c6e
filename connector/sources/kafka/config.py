"""What can be said of a Kafka source."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connector.brokers import Cluster, Properties, cluster_properties, with_options
from connector.config.units import MIB, Duration, Size

Topic = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]

REFUSED = frozenset(
    {
        "auto.commit.enable",
        "auto.commit.interval.ms",
        "offset.store.method",
        "group.protocol",
        "group.remote.assignor",
        "consume.callback.max.messages",
    }
)


class StartAt(BaseModel):
    """The first record that was written at or after a time."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    timestamp: str | int = Field(
        description="a time with its zone (2026-01-31T12:00:00Z), or milliseconds since 1970 as a number"
    )

    @field_validator("timestamp")
    @classmethod
    def _readable(cls, value: str | int) -> str | int:
        _milliseconds(value)
        return value

    @property
    def timestamp_ms(self) -> int:
        """Epoch milliseconds."""
        return _milliseconds(self.timestamp)


class KafkaSourceConfig(Cluster):
    """Topics of a Kafka cluster, read as a member of a consumer group."""

    topics: list[Topic] = Field(min_length=1, description="the topics to read")
    group: str = Field(min_length=1, max_length=255, description="the consumer group, which also keeps the checkpoints")
    start: Literal["earliest", "latest"] | StartAt = Field(
        description="where a partition is read from that the group has no offset for: earliest, latest or a timestamp"
    )
    out_of_range: Literal["stop", "earliest", "latest"] = Field(
        default="stop",
        description="what to do when the records at the checkpoint are gone (retention): stop the pipeline, or go on "
        "at the earliest or latest record, which skips what is gone",
    )
    session_timeout: Duration = Field(default=45.0, description="how long the group waits for a silent member")
    max_poll_interval: Duration = Field(
        default=300.0, description="how long a member may not ask for records before the group takes its shards"
    )
    prefetch: Size = Field(default=16 * MIB, ge=MIB, description="records fetched ahead, in bytes of memory")
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="whether records of aborted transactions are left out"
    )

    @model_validator(mode="before")
    @classmethod
    def _start_is_chosen(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "start" not in raw:
            raise PydanticCustomError(
                "start_missing",
                "start: is yours to choose: earliest, latest, or {timestamp: 2026-01-31T12:00:00Z}. There is no "
                "default: one would lose what is in the topic already, or read all of it, without anybody's wish",
            )
        return raw

    @field_validator("topics")
    @classmethod
    def _distinct(cls, topics: list[str]) -> list[str]:
        if len(set(topics)) != len(topics):
            raise ValueError("a topic is named twice")
        return topics

    @model_validator(mode="after")
    def _timeouts_fit(self) -> KafkaSourceConfig:
        if not 1.0 <= self.session_timeout <= self.max_poll_interval:
            raise ValueError("session_timeout is at least 1s and at most max_poll_interval")
        return self


def consumer_properties(config: KafkaSourceConfig) -> Properties:
    """The consumer's properties. Raises ConfigError for an option that may not be set."""
    prefetch_kib = config.prefetch // 1024
    ours: Properties = cluster_properties(config) | {
        "group.id": config.group,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": round(config.session_timeout * 1000),
        "heartbeat.interval.ms": min(3000, round(config.session_timeout * 1000 / 3)),
        "max.poll.interval.ms": round(config.max_poll_interval * 1000),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Where a partition starts is always resolved to an offset here: nothing may be skipped without being said.
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": config.isolation,
        "queued.max.messages.kbytes": prefetch_kib,
        "fetch.max.bytes": min(config.prefetch, 50 * MIB),
        # A full queue holds fetching up for this long: the default of a second would starve a small queue.
        "fetch.queue.backoff.ms": 10,
        "allow.auto.create.topics": False,
    }
    return with_options(ours, config.options, REFUSED)


def _milliseconds(value: str | int) -> int:
    if isinstance(value, int):
        if value < 0:
            raise ValueError("a timestamp is not negative")
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("a timestamp is written like 2026-01-31T12:00:00Z, or as milliseconds since 1970") from None
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs its zone: 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00")
    return round(moment.timestamp() * 1000)
