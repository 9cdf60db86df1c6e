"""The Kubernetes manifests, against Kubernetes's own schemas and against what Millrace needs of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from connector.config.load import load_text
from connector.config.models import Admin

MANIFESTS = Path(__file__).parents[3] / "deploy" / "kubernetes"
SCHEMAS = json.loads((Path(__file__).parent / "schemas" / "kubernetes.json").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
FILES = sorted(path.name for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")
FOREIGN = {"ServiceMonitor"}
"""Kinds that are not Kubernetes's own: the Prometheus operator's."""


def manifest(name: str) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((MANIFESTS / name).read_text())
    return told


DEPLOYMENT = manifest("deployment.yaml")
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("name", [name for name in FILES if manifest(name)["kind"] not in FOREIGN])
def test_each_manifest_is_what_kubernetes_takes(name: str) -> None:
    told = manifest(name)
    schema = {**SCHEMAS["kinds"][told["kind"]], "$defs": SCHEMAS["$defs"]}
    jsonschema.Draft7Validator(schema).validate(told)


def test_a_misspelt_field_would_be_noticed() -> None:
    schema = {**SCHEMAS["kinds"]["Deployment"], "$defs": SCHEMAS["$defs"]}
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "minReadySecond": 3}}
    assert not jsonschema.Draft7Validator(schema).is_valid(wrong)


def test_the_kustomization_holds_every_manifest_but_the_example_secret() -> None:
    assert set(KUSTOMIZATION["resources"]) == set(FILES) - {"secret.example.yaml"}


def test_the_config_map_is_a_configuration() -> None:
    (text,) = manifest("configmap.yaml")["data"].values()
    config = load_text(text.encode(), file="configmap.yaml", env=manifest("secret.example.yaml")["stringData"])
    assert set(config.pipelines["orders"].routes) == {"search", "cache", "audit"}
    assert config.admin.host == "0.0.0.0"
    assert "sqlite" not in text, "its folder is gone with the pod"


def test_a_pod_is_killed_only_after_every_pipeline_could_drain() -> None:
    (text,) = manifest("configmap.yaml")["data"].values()
    config = load_text(text.encode(), file="configmap.yaml", env=manifest("secret.example.yaml")["stringData"])
    longest_s = max(pipeline.drain for pipeline in config.pipelines.values())
    assert POD["terminationGracePeriodSeconds"] >= longest_s + 15


def test_probes_ask_the_right_questions() -> None:
    assert CONTAINER["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert CONTAINER["startupProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    assert CONTAINER["ports"] == [{"name": "admin", "containerPort": Admin().port}]


def test_the_container_may_do_as_little_as_it_needs() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert CONTAINER["securityContext"]["allowPrivilegeEscalation"] is False
    assert CONTAINER["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert CONTAINER["resources"]["limits"]["memory"]
    assert CONTAINER["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_container_starts_as_its_image_would() -> None:
    assert "command" not in CONTAINER, "the image's entry point is millrace"
    (mount,) = (mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "config")
    (file,) = manifest("configmap.yaml")["data"]
    assert CONTAINER["args"] == ["run", f"{mount['mountPath']}/{file}"]


def test_every_mount_has_its_volume() -> None:
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("deployment.yaml", ("spec", "selector", "matchLabels")),
        ("service.yaml", ("spec", "selector")),
        ("poddisruptionbudget.yaml", ("spec", "selector", "matchLabels")),
        ("networkpolicy.yaml", ("spec", "podSelector", "matchLabels")),
    ],
)
def test_everything_selects_the_pods_of_the_deployment(file: str, path: tuple[str, ...]) -> None:
    selected: Any = manifest(file)
    for part in path:
        selected = selected[part]
    assert selected == DEPLOYMENT["spec"]["template"]["metadata"]["labels"]


def test_prometheus_finds_the_service_and_may_reach_it() -> None:
    monitor, service = manifest("servicemonitor.yaml"), manifest("service.yaml")
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    assert monitor["spec"]["endpoints"][0]["port"] == port["name"]
    (allowed,) = manifest("networkpolicy.yaml")["spec"]["ingress"]
    assert allowed["ports"] == [{"protocol": "TCP", "port": port["targetPort"]}]
