"""What may be written under ``leases:``, and which store it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from connector.config.secrets import shown
from connector.leases.config import LeasesConfig, PostgresLeasesConfig, lease_store
from connector.leases.dynamodb import DynamoDBLeases
from connector.leases.postgres import PostgresLeases
from connector.leases.sqlite import SQLiteLeases


class Source(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    leases: LeasesConfig


def read(**options: Any) -> LeasesConfig:
    return Source.model_validate({"leases": options}, context={"written": True}).leases


def test_each_type_makes_its_store(tmp_path: Path) -> None:
    assert isinstance(lease_store(read(type="sqlite", path=str(tmp_path / "leases.db")), "orders"), SQLiteLeases)
    assert isinstance(lease_store(read(type="postgres", url="postgresql://u:p@h/d"), "orders"), PostgresLeases)
    assert isinstance(lease_store(read(type="dynamodb"), "orders"), DynamoDBLeases)


def test_a_dynamodb_table_is_the_pipelines_own_and_where_the_source_is() -> None:
    store = lease_store(read(type="dynamodb"), "orders", region="eu-west-1", endpoint="http://x:1", profile="p")
    assert vars(store) | {
        "_table": "millrace-orders",
        "_region": "eu-west-1",
        "_endpoint": "http://x:1",
        "_profile": "p",
    } == vars(store)


def test_a_table_in_another_region_is_not_at_the_sources_endpoint() -> None:
    config = read(type="dynamodb", table="shared-by-none", region="us-east-1")
    store = lease_store(config, "orders", region="eu-west-1", endpoint="http://x:1")
    assert vars(store) | {"_table": "shared-by-none", "_region": "us-east-1", "_endpoint": None} == vars(store)


def test_the_fail_over_time_has_a_unit_and_bounds_a_call() -> None:
    assert read(type="sqlite", path="x").duration == 10.0
    config = read(type="sqlite", path="x", duration="30s", handover="2m", steal=False)
    assert (config.duration, config.handover, config.steal, config.call_timeout_s) == (30.0, 120.0, False, 10.0)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "redis"},
        {"type": "sqlite"},
        {"type": "sqlite", "path": ""},
        {"type": "sqlite", "path": "x", "duration": "100ms"},
        {"type": "sqlite", "path": "x", "duration": 10},
        {"type": "sqlite", "path": "x", "url": "y"},
        {"type": "dynamodb", "table": "no spaces"},
        {"type": "postgres", "url": "mysql://h/d"},
        {"type": "postgres", "url": "postgresql://[broken"},
        {"type": "postgres", "url": "postgresql://h/d", "table": 'x"; drop'},
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(**options)


def test_a_password_is_never_shown() -> None:
    config = read(type="postgres", url="postgresql://u:s3cret@h/d")
    assert isinstance(config, PostgresLeasesConfig)
    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(shown(config))
    with pytest.raises(ValidationError) as caught:
        read(type="postgres", url="oracle://u:s3cret@h/d")
    assert "s3cret" not in str(caught.value)
