"""What can be said of a Kafka source, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connector.errors import ConfigError
from connector.sources.kafka.config import KafkaSourceConfig, StartAt, consumer_properties

BASE = {"brokers": ["a:9092"], "topics": ["orders.changes"], "group": "g"}


def config(**options: Any) -> KafkaSourceConfig:
    return KafkaSourceConfig.model_validate({**BASE, "start": "earliest", **options})


def test_a_start_must_be_chosen_and_the_error_says_why() -> None:
    with pytest.raises(ValidationError, match=r"yours to choose.*no default") as error:
        KafkaSourceConfig.model_validate(BASE)
    assert error.value.errors()[0]["type"] == "start_missing"
    assert "start" in KafkaSourceConfig.model_json_schema()["required"]


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T13:00:00+01:00", 1_769_860_800_000),
        ("2026-01-31T12:00:00.250Z", 1_769_860_800_250),
        (1_769_860_800_000, 1_769_860_800_000),
        (0, 0),
    ],
)
def test_a_start_may_be_a_time(written: str | int, milliseconds: int) -> None:
    start = config(start={"timestamp": written}).start
    assert isinstance(start, StartAt)
    assert start.timestamp_ms == milliseconds


@pytest.mark.parametrize("written", ["2026-01-31T12:00:00", "yesterday", -1, 1.5, True, None])
def test_a_time_without_a_zone_or_sense_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        config(start={"timestamp": written})


@pytest.mark.parametrize(
    "wrong",
    [
        {"topics": []},
        {"topics": ["a", "a"]},
        {"topics": ["^orders.*"]},
        {"topics": "orders"},
        {"group": ""},
        {"start": "beginning"},
        {"out_of_range": "skip"},
        {"prefetch": "10KiB"},
        {"session_timeout": "10m"},
        {"session_timeout": "10ms"},
        {"strat": "earliest"},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)


def test_the_promise_does_not_rest_on_the_client_s_defaults() -> None:
    made = consumer_properties(config(prefetch="8MiB", session_timeout="9s"))
    assert made["enable.auto.commit"] is False
    assert made["enable.auto.offset.store"] is False
    assert made["auto.offset.reset"] == "error"
    assert made["isolation.level"] == "read_committed"
    assert made["partition.assignment.strategy"] == "cooperative-sticky"
    assert (made["queued.max.messages.kbytes"], made["fetch.max.bytes"]) == (8192, 8 * 1024 * 1024)
    assert (made["session.timeout.ms"], made["heartbeat.interval.ms"]) == (9000, 3000)


@pytest.mark.parametrize("name", ["enable.auto.commit", "group.protocol", "auto.commit.interval.ms", "isolation.level"])
def test_options_cannot_weaken_the_promise(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        consumer_properties(config(options={name: "x"}))
    assert refused.value.path == ("options", name)
