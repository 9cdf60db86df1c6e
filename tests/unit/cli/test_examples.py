"""Every example configuration keeps to the JSON Schema of what is really installed, so that editors can be trusted."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from connector.config.schema import build_schema

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "deploy").rglob("examples/*.yaml"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_keeps_to_the_schema(example: Path) -> None:
    schema, broken = build_schema()
    assert not broken
    errors = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(example.read_text()))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []
