"""A third party's source, codec and sink, found by their entry points and used like our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import Run

CONFIG = """\
pipelines:
  countdown:
    source: {type: countdown, start: 10, format: numbers}
    dead_letter: {type: file, path: letters.jsonl}
    routes:
      odd:
        sink: {type: lines, path: out.txt}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(CONFIG)
    return path


def test_a_third_party_s_plug_ins_make_a_valid_configuration(millrace: Run, site: Path, config: Path) -> None:
    result = millrace("validate", config.name, site=site)
    assert (result.stdout, result.stderr) == ("m.yaml: ok (1 pipeline, 1 route)\n", "")
    assert result.returncode == 0


def test_without_their_distribution_they_are_unknown(millrace: Run, config: Path) -> None:
    result = millrace("validate", config.name)
    assert result.returncode == 2
    assert "m.yaml:3:20: pipelines.countdown.source.type: 'countdown' is not installed (known: " in result.stderr
    assert "m.yaml:3:50: pipelines.countdown.source.format: 'numbers' is not installed" in result.stderr
    assert "m.yaml:7:22: pipelines.countdown.routes.odd.sink.type: 'lines' is not installed" in result.stderr


def test_their_own_models_and_constructors_check_their_options(millrace: Run, site: Path, config: Path) -> None:
    config.write_text(CONFIG.replace("start: 10", "start: 0, step: 2"))
    result = millrace("validate", config.name, site=site)
    assert result.returncode == 2
    assert "source.start: must be at least 1" in result.stderr
    assert "source.step: unknown option" in result.stderr
    config.write_text(CONFIG.replace("out.txt", "out/"))
    result = millrace("validate", config.name, site=site)
    assert result.stderr == "m.yaml:7:35: pipelines.countdown.routes.odd.sink.path: names a folder, not a file\n"


def test_the_schema_and_the_list_of_plug_ins_have_them(millrace: Run, site: Path) -> None:
    schema = json.loads(millrace("schema", site=site).stdout)
    assert schema["$defs"]["sources.countdown"]["properties"]["start"]["description"] == "the first number"
    assert "numbers" in schema["$defs"]["sources.countdown"]["properties"]["format"]["anyOf"][0]["enum"]
    listed = millrace("version", "--plugins", site=site).stdout
    assert listed.count("millrace-example 1.2.3") == 3


def test_they_run_in_the_daemon_and_go_on_from_their_checkpoint(
    millrace: Run, site: Path, config: Path, tmp_path: Path
) -> None:
    config.write_text("admin: {enabled: false}\n" + CONFIG)
    for _ in range(2):
        result = millrace("run", "--until-caught-up", config.name, site=site)
        assert result.returncode == 0, result.stderr
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines == [f'INSERT {{"number":{number}}}' for number in range(10, 0, -1)]
