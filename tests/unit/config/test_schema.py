"""The JSON Schema and the reference say what the loader does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from connector.config import models, specs
from connector.config.reference import write_reference
from connector.config.schema import build_schema
from tests.unit.config.fakes import CONFIG, errors_of


def violations(text: str) -> list[str]:
    schema, _ = build_schema()
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_a_schema() -> None:
    schema, broken = build_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [str(error) for error in broken] == [
        "the source 'broken' of an unknown distribution cannot be imported: ImportError: no module named 'gone'"
    ]


FULL = (
    CONFIG
    + """\
        lanes: 8
        batch: {size: 100, bytes: 1MiB, window: 200ms}
        retry: {attempts: 0, backoff: {initial: 1s, max: 1m30s}, max_age: 6h}
        on_poison: hold_key
        breaker: {failures: 3}
        timeout: 5s
    checkpoints: {every: 5s, type: sqlite, path: x.db}
    limits: {changes_in_flight: 10, bytes_in_flight: 1000}
    drain: 0
    read: {records_max: 10, wait: 1s}
    stall_after: 2m
admin: {enabled: "${ADMIN}", host: "::", port: "${PORT}"}
log: {level: "${LEVEL}", format: json, values: true}
"""
)


@pytest.mark.parametrize("text", [CONFIG, FULL])
def test_what_the_loader_takes_the_schema_takes(text: str) -> None:
    assert not errors_of(text, {"ADMIN": "true", "PORT": "1", "LEVEL": "debug"})
    assert not violations(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: place", "type: plaice"),
        ("type: place", "type: place, unknown: 1"),
        ("format: lines", "format: line"),
        ("format: lines", "view: NEW_IMAGE"),
        ("drain: 0", "drain: 5"),
        ("drain: 0", "drain: fast"),
        ("lanes: 8", "lanes: 257"),
        ("lanes: 8", "lane: 8"),
        ("on_poison: hold_key", "on_poison: hold"),
        ("orders:", "Orders:"),
        ("topic: orders.dlq", "topics: orders.dlq"),
        ("    dead_letter: {type: log, topic: orders.dlq}\n", ""),
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(old: str, new: str) -> None:
    text = FULL.replace(old, new, 1)
    assert errors_of(text, {"ADMIN": "true", "PORT": "1", "LEVEL": "debug"})
    assert violations(text)


def test_defaults_are_written_as_people_write_them() -> None:
    schema, _ = build_schema()
    pipeline = schema["$defs"]["PipelineConfig"]["properties"]
    assert pipeline["drain"]["default"] == "30s"
    assert schema["$defs"]["Limits"]["properties"]["bytes_in_flight"]["default"] == "64MiB"
    assert schema["$defs"]["sinks.place"]["properties"]["timeout"]["default"] == "10s"


def core_models() -> Iterator[type[BaseModel]]:
    for module in (models, specs):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel:
                yield value


@pytest.mark.parametrize("model", list(core_models()), ids=lambda model: model.__name__)
def test_every_option_says_what_it_is_for(model: type[BaseModel]) -> None:
    assert model.__doc__
    undescribed = [name for name, field in model.model_fields.items() if not field.description]
    assert not undescribed


def options_of(section: str, reference: str) -> dict[str, list[str]]:
    """The rows of one section of the reference by option."""
    body = reference.split(f"### {section}\n", 1)[1].split("\n### ", 1)[0]
    rows = [line.strip("|").split(" | ") for line in body.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_reference_has_every_option_of_the_core() -> None:
    reference = write_reference(build_schema()[0])
    options = options_of("The file", reference)

    def paths(model: Any, prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from paths(inner, f"{prefix}{name}.")
            elif name in ("pipelines", "routes"):
                below = models.PipelineConfig if name == "pipelines" else models.RouteConfig
                yield from paths(below, f"{prefix}{name}.<name>.")
            else:
                yield f"{prefix}{name}"

    assert list(options) == list(paths(models.Config, ""))


def test_the_reference_tells_type_default_and_meaning() -> None:
    reference = write_reference(build_schema()[0])
    core = options_of("The file", reference)
    assert core["admin.port"] == ["whole number, 0 to 65535", "`9464`", "its port; 0 takes a free one and logs which"]
    assert core["pipelines.<name>.drain"][:2] == ["duration", "`30s`"]
    assert core["pipelines.<name>.limits.bytes_in_flight"][:2] == ["size", "`64MiB`"]
    assert core["pipelines.<name>.dead_letter"][:2] == ["see Dead letters", "**required**"]
    assert core["pipelines.<name>.routes.<name>.on_poison"][0] == "`continue` or `hold_key` or `stop`"
    sink = options_of("Sink `place`", reference)
    assert sink["url"] == ["text", "**required**", "where it is"]
    assert sink["timeout"] == ["duration", "`10s`", "a duration"]
    source = options_of("Source `log`", reference)
    assert source["brokers"][:2] == ["list of text", "**required**"]
    assert source["format"][:2] == ["`lines`", "**required**"]
