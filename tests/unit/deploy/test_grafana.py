"""The dashboard and the alerts as files: what they ask for exists, and they can be read."""

from __future__ import annotations

import importlib.util
import json
import re
from types import ModuleType

import pytest
import yaml

from connector.observe.metrics import METRICS, MetricType
from tests.unit.deploy.grafana import ALERTS, DASHBOARD, GRAFANA, alerts, panels


def exposed_names() -> set[str]:
    names = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.type is MetricType.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return names


def test_only_declared_metrics_are_asked_for() -> None:
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    expressions += [rule["expr"] for rule in alerts()]
    expressions += [variable["query"]["query"] for variable in variables if variable["type"] == "query"]
    asked = {name for text in expressions for name in re.findall(r"\b(?:millrace|process)_\w+", text)}
    assert asked <= exposed_names(), asked - exposed_names()


def test_what_is_promised_to_be_watched_is_on_the_dashboard_or_alerted() -> None:
    """Every declared metric is looked at somewhere, but for the few that only explain others."""
    text = DASHBOARD.read_text() + ALERTS.read_text()
    explaining = {"millrace_build_info", "millrace_records_empty_total", "millrace_changes_decoded_total"}
    unseen = {metric.name for metric in METRICS if metric.name not in text} - explaining
    assert unseen <= {"millrace_shard_changes_read_total"}


def test_every_alert_says_what_to_do_and_how_urgent_it_is() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert len(rule["annotations"]["runbook"]) > 80, rule["alert"]


def test_panels_do_not_overlap_and_say_what_they_are_for() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]


def test_the_dashboard_is_what_its_maker_makes() -> None:
    assert DASHBOARD.read_text() == the_maker().dashboard_text(), "run: python grafana/make_dashboard.py"


def the_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboard", GRAFANA / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", ["datasources", "dashboards"])
def test_provisioning_files_are_of_grafana_s_version(folder: str) -> None:
    (file,) = (GRAFANA / "provisioning" / folder).glob("*.yaml")
    told = yaml.safe_load(file.read_text())
    assert told["apiVersion"] == 1
    assert told["datasources" if folder == "datasources" else "providers"]
