"""The command line's frame: what it prints, and with which code it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connector import cli
from connector.cli.exit_codes import MEANINGS, ExitCode
from connector.config.models import Config
from connector.errors import SourceError
from tests.unit.config import fakes
from tests.unit.config.fakes import CONFIG


@pytest.fixture(autouse=True)
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the console script in this process; answer its exit code."""
    monkeypatch.setattr(sys, "argv", ["millrace", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_right_configuration_is_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(CONFIG)
    assert run(monkeypatch, "validate", str(file)) == ExitCode.OK
    assert capsys.readouterr().out == f"{file}: ok (1 pipeline, 2 routes)\n"


def test_every_mistake_of_every_file_is_printed_and_the_code_says_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(CONFIG)
    wrong.write_text(CONFIG.replace("orders:\n", "other:\n", 1) + "    drain: 7\n    limits: 8\n")
    assert run(monkeypatch, "validate", str(right), str(wrong), str(tmp_path / "gone.yaml")) == ExitCode.CONFIG_WRONG
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in lines[:-1]] == [
        "gone.yaml",
        "wrong.yaml:19:12",
        "wrong.yaml:20:13",
    ]
    assert lines[-1] == "3 errors"


def test_a_shown_configuration_has_defaults_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(
        CONFIG.replace("url: redis://cache.internal", "url: redis://:hunter2@cache\n          token: hunter3")
    )
    assert run(monkeypatch, "validate", "--show", str(file)) == ExitCode.OK
    out = capsys.readouterr().out
    assert "hunter" not in out
    assert "redis://***@cache" in out
    assert "changes_in_flight: 50000" in out


def test_escape_codes_in_a_configuration_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(CONFIG + '"\\e[2J\\u202e": 1\n')
    assert run(monkeypatch, "validate", str(file)) == ExitCode.CONFIG_WRONG
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\u202e" not in err
    assert "\\u001b[2J\\u202e: unknown option" in err


def test_the_schema_command_prints_the_schema_and_the_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "schema") == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out.startswith('{\n  "$schema": "https://json-schema.org/draft/2020-12/schema"')
    assert printed.err.startswith("left out: the source 'broken'")
    assert run(monkeypatch, "schema", "--markdown") == ExitCode.OK
    assert "| `admin.port` |" in capsys.readouterr().out


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "version") == ExitCode.OK
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\S* \(Python \d\S*\)\n", capsys.readouterr().out)


def test_an_unknown_command_is_a_wrong_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "vaildate") == ExitCode.CONFIG_WRONG


def test_another_error_of_ours_is_a_failure_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> dict[str, Config]:
        raise SourceError("the topic is gone")

    monkeypatch.setattr("connector.config.load.load_all", fail)
    assert run(monkeypatch, "validate", "m.yaml") == ExitCode.FAILURE
    assert capsys.readouterr().err == "the topic is gone\n"


def test_an_interrupt_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> dict[str, Config]:
        raise KeyboardInterrupt

    monkeypatch.setattr("connector.config.load.load_all", interrupted)
    assert run(monkeypatch, "validate", "m.yaml") == ExitCode.INTERRUPTED


def test_help_tells_every_exit_code() -> None:
    assert set(MEANINGS) == set(ExitCode)
    text = " ".join(CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).output.split())
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning.replace('`', '')}" in text


def test_every_command_says_what_it_does() -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__


HEAVY = ["pydantic", "yaml", "boto3", "confluent_kafka", "aiohttp", "redis", "psycopg", "opensearchpy", "sqlalchemy"]


def test_starting_imports_nothing_heavy() -> None:
    script = f"import sys, connector.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
