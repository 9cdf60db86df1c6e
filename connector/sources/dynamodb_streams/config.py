"""What can be said of a DynamoDB Streams source."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connector.config.units import MIB, Duration, Size
from connector.leases.config import LeasesConfig

Table = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{3,40}$")]

ARN = re.compile(
    r"arn:[a-z-]+:dynamodb:(?P<region>[a-z0-9-]+):\d{12}:table/(?P<table>[a-zA-Z0-9_.-]{3,255})/stream/(?P<label>[0-9T:.-]+)"
)
LOCAL_REGION = "ddblocal"
"""What DynamoDB Local writes into its ARNs, whatever the region is."""


class DynamoDBStreamsConfig(BaseModel):
    """A table's stream, or one stream alone."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    table: Table | None = Field(
        default=None,
        description="the table: its latest stream is read, and when that is disabled and another one enabled (for "
        "another view type, say) first the old one to its end and then the new one",
    )
    stream_arn: str | None = Field(
        default=None, description="instead of the table: this one stream; when it is disabled the source ends there"
    )
    region: Region | None = Field(default=None, description="the table's region; unset: as the stream_arn says")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+$",
        description="another address than AWS's own, such as DynamoDB Local's or a VPC endpoint's",
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        description="the profile of AWS's shared configuration files that credentials are taken from; unset: the usual "
        "chain (environment, profile, web identity, container, instance)",
    )
    start: Literal["earliest", "latest"] = Field(
        description="where the shards begin that are there at the very first start: at the oldest record that the "
        "stream still has (24 h), or with what is written from now on; shards that come later are always read whole"
    )
    trimmed: Literal["stop", "skip"] = Field(
        default="stop",
        description="what to do when records were not read within the 24 h for which the stream keeps them: stop the "
        "pipeline, or go on without them (each time is logged and counted)",
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
        "a second",
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
    timeout: Duration = Field(default=10.0, ge=1, le=120, description="how long one request may take")

    @model_validator(mode="before")
    @classmethod
    def _start_is_chosen(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "start" not in raw:
            raise PydanticCustomError(
                "start_missing",
                "start: is yours to choose: earliest or latest. There is no default: one would lose what is in the "
                "stream already, or read all of it, without anybody's wish",
            )
        return raw

    @field_validator("stream_arn")
    @classmethod
    def _is_stream(cls, arn: str | None) -> str | None:
        if arn is not None and not ARN.fullmatch(arn):
            raise ValueError(
                "a stream's ARN is written arn:aws:dynamodb:<region>:<account>:table/<table>/stream/<label>"
            )
        return arn

    @model_validator(mode="after")
    def _is_one_place(self) -> DynamoDBStreamsConfig:
        if (self.table is None) == (self.stream_arn is None):
            raise ValueError("table or stream_arn: one of them, and not both")
        in_arn = match["region"] if self.stream_arn and (match := ARN.fullmatch(self.stream_arn)) else None
        if self.region is None and in_arn in (None, LOCAL_REGION):
            raise ValueError("region: is needed; it is never guessed from the environment")
        if self.region and in_arn and in_arn not in (self.region, LOCAL_REGION):
            raise ValueError(f"region: the stream is in {in_arn}")
        return self

    @property
    def table_name(self) -> str:
        """The table, by its name or by its stream's."""
        return self.table or self._arn["table"]

    @property
    def region_name(self) -> str:
        """The region of all calls."""
        return self.region or self._arn["region"]

    @property
    def _arn(self) -> re.Match[str]:
        match = ARN.fullmatch(self.stream_arn or "")
        assert match is not None, "the validators have seen to it"
        return match
