"""The compose file, against the Compose Specification and against the other files that it speaks of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from connector.config.models import PipelineConfig
from connector.config.units import parse_duration

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
SCHEMA = Path(__file__).parent / "schemas" / "compose.json"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_it_is_a_compose_file() -> None:
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(COMPOSE)


def test_everything_that_the_issue_names_is_there() -> None:
    wanted = {"millrace", "load", "kafka", "opensearch", "redis", "postgres", "prometheus", "grafana"}
    assert wanted <= set(SERVICES)


def test_every_image_has_a_version() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", service["image"]), name


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_what_is_waited_for_can_become_true() -> None:
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other in waits:
            assert other in SERVICES, name
            if isinstance(waits, dict) and waits[other]["condition"] == "service_healthy":
                # Millrace's own check is in its image.
                assert "healthcheck" in SERVICES[other] or other == "millrace", other


def test_nothing_is_published_beyond_this_machine() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_millrace_has_time_to_drain_and_may_do_little() -> None:
    millrace = SERVICES["millrace"]
    drain_s = PipelineConfig.model_fields["drain"].default
    assert parse_duration(millrace["stop_grace_period"]) > drain_s
    assert millrace["read_only"] is True
    assert millrace["cap_drop"] == ["ALL"]


def test_every_variable_of_the_example_is_set() -> None:
    example = (DEPLOY / "examples" / "kafka-to-opensearch-redis-audit.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", example)) == set(SERVICES["millrace"]["environment"])


def test_the_load_goes_to_the_topic_that_is_read_and_topics_are_made_for_both() -> None:
    example = yaml.safe_load((DEPLOY / "examples" / "kafka-to-opensearch-redis-audit.yaml").read_text())
    pipeline = example["pipelines"]["orders"]
    (made,) = SERVICES["topics"]["command"]
    for topic in (*pipeline["source"]["topics"], pipeline["dead_letter"]["topic"]):
        assert re.search(rf"\b{re.escape(topic)}:\d+", made), topic
    command = SERVICES["load"]["command"]
    assert [command[command.index("--topic") + 1]] == pipeline["source"]["topics"]


def test_prometheus_scrapes_millrace_and_reads_the_alerts() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (target,) = told["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == "millrace:9464"
    assert told["rule_files"] == ["/etc/prometheus/alerts.yml"]
    assert any(mount.endswith(":/etc/prometheus/alerts.yml:ro") for mount in SERVICES["prometheus"]["volumes"])


def test_grafana_finds_its_dashboards_where_they_are_mounted() -> None:
    mounts = {target: source for source, target, _ in (mount.split(":") for mount in SERVICES["grafana"]["volumes"])}
    provisioning = DEPLOY / mounts["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "millrace.yaml").read_text())["providers"]
    dashboards = DEPLOY / mounts[provider["options"]["path"]]
    assert (dashboards / "millrace.json").is_file()
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
