"""The dashboard and the alerts as data, for the tests that read them and those that run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

GRAFANA = Path(__file__).parents[3] / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "millrace.json"
ALERTS = GRAFANA / "alerts.yml"


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
