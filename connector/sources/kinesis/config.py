"""What can be said of a Kinesis source."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connector.config.units import MIB, Duration, Size
from connector.leases.config import LeasesConfig

Region = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{3,40}$")]

NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
ARN = re.compile(r"arn:[a-z-]+:kinesis:(?P<region>[a-z0-9-]+):\d{12}:stream/(?P<name>[a-zA-Z0-9_.-]{1,128})")


class StartAt(BaseModel):
    """The first record that was written at or after a time."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    timestamp: str | int = Field(
        description="a time with its zone (2026-01-31T12:00:00Z), or milliseconds since 1970 as a number; not in the "
        "future"
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


class KinesisConfig(BaseModel):
    """A stream of Kinesis Data Streams: a table's changes (``format: kinesis-dynamodb``), or any other format's."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    stream: str = Field(
        description="the stream, by its name or its ARN; if it is deleted and made anew it is another stream, which is "
        "read from its first record on"
    )
    region: Region | None = Field(default=None, description="the stream's region; unset: as its ARN says")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+$",
        description="another address than AWS's own, such as a VPC endpoint's or a local implementation's",
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        description="the profile of AWS's shared configuration files that credentials are taken from; unset: the usual "
        "chain (environment, profile, web identity, container, instance)",
    )
    start: Literal["earliest", "latest"] | StartAt = Field(
        description="where the shards begin that are there at the very first start: at the oldest record that the "
        "stream still has, with what is written from now on, or at a time; shards that come later are always read whole"
    )
    trimmed: Literal["stop", "skip"] = Field(
        default="stop",
        description="what to do when records were not read within the stream's retention (24 hours, if it was not "
        "raised): stop the pipeline, or go on without them (each time is logged and counted)",
    )
    discover_every: Duration = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="how often the stream's shards are listed; when one ends its children are looked for at once",
    )
    idle_every: Duration = Field(
        default=1.0,
        ge=0.2,
        le=60,
        description="how long at most a shard without new records is left alone; one with records is asked five times "
        "a second, which is all that Kinesis allows to all readers of a shard together",
    )
    calls_at_once: int = Field(
        default=16, ge=1, le=256, description="how many requests may be under way at once, over all shards"
    )
    prefetch: Size = Field(default=16 * MIB, ge=MIB, description="records read ahead, in bytes, over all shards")
    leases: LeasesConfig | None = Field(
        default=None,
        description="where replicas agree on who reads which shard, and keep the checkpoints; unset: one process reads "
        "all shards, with the pipeline's checkpoints",
    )
    timeout: Duration = Field(default=20.0, ge=1, le=120, description="how long one request may take")

    @model_validator(mode="before")
    @classmethod
    def _start_is_chosen(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "start" not in raw:
            raise PydanticCustomError(
                "start_missing",
                "start: is yours to choose: earliest, latest, or {timestamp: 2026-01-31T12:00:00Z}. There is no "
                "default: one would lose what is in the stream already, or read all of it, without anybody's wish",
            )
        return raw

    @field_validator("stream")
    @classmethod
    def _is_stream(cls, stream: str) -> str:
        if not NAME.fullmatch(stream) and not ARN.fullmatch(stream):
            raise ValueError("a stream is written by its name, or arn:aws:kinesis:<region>:<account>:stream/<name>")
        return stream

    @model_validator(mode="after")
    def _region_is_known(self) -> KinesisConfig:
        in_arn = match["region"] if (match := ARN.fullmatch(self.stream)) else None
        if self.region is None and in_arn is None:
            raise ValueError("region: is needed; it is never guessed from the environment")
        if self.region and in_arn and in_arn != self.region:
            raise ValueError(f"region: the stream is in {in_arn}")
        return self

    @property
    def stream_name(self) -> str:
        """The stream's name, out of its ARN or as it is."""
        return self.stream.rpartition("/")[2]

    @property
    def is_arn(self) -> bool:
        """Whether the stream is said by its ARN."""
        return ARN.fullmatch(self.stream) is not None

    @property
    def region_name(self) -> str:
        """The region of all calls."""
        if self.region is not None:
            return self.region
        match = ARN.fullmatch(self.stream)
        assert match is not None, "the validators have seen to it"
        return match["region"]


def _milliseconds(value: str | int) -> int:
    if isinstance(value, int):
        if value <= 0:
            raise ValueError("a timestamp is later than 1970")
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("a timestamp is written like 2026-01-31T12:00:00Z, or as milliseconds since 1970") from None
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs its zone: 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00")
    if moment.timestamp() < 1:
        raise ValueError("a timestamp is later than 1970")
    return round(moment.timestamp() * 1000)
