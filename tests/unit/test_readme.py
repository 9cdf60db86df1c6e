"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from connector.config.load import load_text
from tests.readme import README, filled, generated

TEXT = README.read_text()


def test_the_generated_parts_are_current() -> None:
    assert filled(TEXT, generated()) == TEXT, "run python -m tests.readme"


def test_its_configuration_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    env = {
        "KAFKA_BROKERS": "localhost:9092",
        "OPENSEARCH_URL": "http://localhost:9200",
        "REDIS_URL": "redis://localhost",
    }
    config = load_text(example.encode(), file="README.md", folder=tmp_path, env=env)
    assert list(config.pipelines["orders"].routes) == ["search", "cache", "audit"]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#][^)]*)\)", TEXT))
def test_its_links_lead_somewhere(target: str) -> None:
    assert (README.parent / target).exists()


def test_its_chapters_are_there() -> None:
    chapters = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    slugs = {re.sub(r"[^a-z -]", "", chapter.lower()).replace(" ", "-") for chapter in chapters}
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= slugs


def test_the_version_is_one() -> None:
    import connector

    project = Path(README.parent / "pyproject.toml").read_bytes()
    assert msgspec.toml.decode(project)["project"]["version"] == connector.__version__
