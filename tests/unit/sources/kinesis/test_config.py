"""What can be said of a Kinesis source, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connector.clock import SystemClock
from connector.sources.kinesis import KinesisConfig, KinesisSource
from connector.sources.kinesis.config import StartAt
from connector.sources.protocol import SourceContext

ARN = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"


def config(**options: Any) -> KinesisConfig:
    return KinesisConfig.model_validate({"stream": "orders", "region": "eu-west-1", "start": "earliest", **options})


def test_a_start_must_be_chosen_and_the_error_says_why() -> None:
    with pytest.raises(ValidationError, match=r"yours to choose.*no default") as error:
        KinesisConfig.model_validate({"stream": ARN})
    assert error.value.errors()[0]["type"] == "start_missing"
    assert "start" in KinesisConfig.model_json_schema()["required"]


def test_a_stream_is_said_by_its_name_or_by_its_arn_which_names_the_region() -> None:
    by_name = config()
    by_arn = KinesisConfig.model_validate({"stream": ARN, "start": "latest"})
    assert (by_name.stream_name, by_name.is_arn, by_name.region_name) == ("orders", False, "eu-west-1")
    assert (by_arn.stream_name, by_arn.is_arn, by_arn.region_name) == ("orders", True, "eu-central-1")


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [("2026-01-31T13:00:00+01:00", 1_769_860_800_000), (1_769_860_800_250, 1_769_860_800_250)],
)
def test_a_start_may_be_a_time(written: str | int, milliseconds: int) -> None:
    start = config(start={"timestamp": written}).start
    assert isinstance(start, StartAt)
    assert start.timestamp_ms == milliseconds


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"},
        {"stream": ""},
        {"stream": "a b"},
        {"stream": ARN},
        {"region": None},
        {"start": "beginning"},
        {"start": {"timestamp": "2026-01-31T12:00:00"}},
        {"start": {"timestamp": "yesterday"}},
        {"start": {"timestamp": 0}},
        {"start": {"timestamp": "1970-01-01T00:00:00Z"}},
        {"trimmed": "ignore"},
        {"endpoint": "kinesis.local"},
        {"prefetch": "1KiB"},
        {"enhanced_fan_out": True},
        {"leases": {"type": "paper"}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)


def test_checkpoints_are_the_pipelines_unless_replicas_share_the_stream(tmp_path: Any) -> None:
    context = SourceContext(pipeline="p", clock=SystemClock())
    assert KinesisSource(config(), context).own_checkpoints() is None
    leases = {"type": "sqlite", "path": str(tmp_path / "leases.db")}
    assert KinesisSource(config(leases=leases), context).own_checkpoints() is not None
