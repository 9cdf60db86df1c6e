"""What can be said of leases: which table, and how long an owner may be silent. Sources embed ``LeasesConfig``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connector.config.units import Duration, Secret
from connector.leases.protocol import LeaseStore
from connector.postgres import TABLE_NAME, readable_url


class LeaseTerms(BaseModel):
    """What is agreed between the replicas: all of a pipeline must be told the same."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    duration: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        default=10.0,
        description="the fail-over time: how long an owner may be silent before another replica takes its shards; "
        "each lease is renewed three times in it",
    )
    handover: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        default=60.0,
        description="how long a replica that was asked for a shard may take to finish what it has read of it",
    )
    steal: bool = Field(
        default=True,
        description="whether a replica asks the most loaded one for a shard when that has two more than itself",
    )

    @property
    def call_timeout_s(self) -> float:
        """How long one call of the store may take: a heartbeat that comes later is of no use."""
        return max(1.0, self.duration / 3)


class DynamoDBLeasesConfig(LeaseTerms):
    """A DynamoDB table with KCL's attributes, made with on-demand billing where it is missing."""

    type: Literal["dynamodb"]
    table: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{3,255}$")] | None = Field(
        default=None, description="the table, of this pipeline alone; millrace-<pipeline> where none is named"
    )
    region: str | None = Field(default=None, min_length=1, description="the table's region; the source's by default")
    endpoint: str | None = Field(default=None, min_length=1, description="another endpoint than the region's own")
    profile: str | None = Field(default=None, min_length=1, description="a profile of the AWS configuration files")


class PostgresLeasesConfig(LeaseTerms):
    """A table in PostgreSQL, which pipelines may share."""

    type: Literal["postgres"]
    url: Secret = Field(description="postgresql://user:password@host/database")
    table: str = Field(
        default="millrace_leases",
        pattern=TABLE_NAME,
        description="the table's name, which may begin with a schema's; made where it is missing",
    )

    @field_validator("url")
    @classmethod
    def _readable(cls, url: Secret) -> Secret:
        return readable_url(url)


class SQLiteLeasesConfig(LeaseTerms):
    """A SQLite file on a local disk, for processes of one machine."""

    type: Literal["sqlite"]
    path: str = Field(min_length=1, description="the SQLite file; pipelines may share it")


LeasesConfig = Annotated[DynamoDBLeasesConfig | PostgresLeasesConfig | SQLiteLeasesConfig, Field(discriminator="type")]
"""``leases: {type: dynamodb | postgres | sqlite, …}``."""


def lease_store(
    config: DynamoDBLeasesConfig | PostgresLeasesConfig | SQLiteLeasesConfig,
    pipeline: str,
    *,
    region: str | None = None,
    endpoint: str | None = None,
    profile: str | None = None,
) -> LeaseStore:
    """The configured store, not open yet. Region, endpoint and profile are the source's own: they hold for a lease
    table that says nothing about them. A table that names its own region or profile is not at the source's endpoint."""
    if isinstance(config, SQLiteLeasesConfig):
        from connector.leases.sqlite import SQLiteLeases

        return SQLiteLeases(config.path, pipeline)
    if isinstance(config, PostgresLeasesConfig):
        from connector.leases.postgres import PostgresLeases

        return PostgresLeases(
            config.url.get_secret_value(), pipeline, table=config.table, timeout_s=config.call_timeout_s
        )
    from connector.leases.dynamodb import DynamoDBLeases

    elsewhere = config.region is not None or config.profile is not None
    return DynamoDBLeases(
        config.table or f"millrace-{pipeline}",
        pipeline,
        region=config.region or region,
        endpoint=config.endpoint or (None if elsewhere else endpoint),
        profile=config.profile or profile,
        timeout_s=config.call_timeout_s,
    )
