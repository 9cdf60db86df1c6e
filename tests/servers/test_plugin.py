"""What a test run says where a server cannot be had: these tests hide the servers from a pytest of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def run_without_servers(folder: Path, test: str, *options: str, required: bool = False) -> tuple[int, str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = servers: needs real servers\n")
    (folder / "test_it.py").write_text(test)
    plugins = ["-p", "tests.servers.plugin", "-p", "tests.servers.fixtures", "-p", "no:cacheprovider"]
    environment = {"PATH": "/nonexistent", "PYTHONPATH": str(REPOSITORY)} | (
        {"MILLRACE_SERVERS": "required"} if required else {}
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, "test_it.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout


def test_without_a_server_its_tests_are_skipped_and_the_summary_says_why(tmp_path: Path) -> None:
    status, said = run_without_servers(tmp_path, "def test_a(redis_server): ...\ndef test_b(redis_database): ...\n")
    assert status == 0
    assert "tests skipped for want of a real server" in said
    assert "    2 redis-server is not installed: apt-get install redis-server" in said


def test_where_servers_are_required_a_missing_one_is_a_failure(tmp_path: Path) -> None:
    status, said = run_without_servers(tmp_path, "def test_a(redis_server): ...\n", required=True)
    assert status == 1
    assert "skipped, though MILLRACE_SERVERS=required: redis-server is not installed" in said


def test_where_servers_are_required_no_other_reason_to_skip_their_tests_counts(tmp_path: Path) -> None:
    test = "import pytest\n@pytest.mark.skip('too slow')\ndef test_a(redis_server): ...\n"
    status, said = run_without_servers(tmp_path, test, required=True)
    assert status == 1
    assert "too slow" in said


def test_skips_that_have_nothing_to_do_with_servers_are_left_alone(tmp_path: Path) -> None:
    status, said = run_without_servers(tmp_path, "import pytest\ndef test_a(): pytest.skip('no')\n", required=True)
    assert status == 0
    assert "real server" not in said


@pytest.mark.parametrize(("selection", "chosen"), [("servers", "test_a"), ("not servers", "test_b")])
def test_tests_that_use_a_server_carry_the_marker(tmp_path: Path, selection: str, chosen: str) -> None:
    test = "def test_a(kafka_topic): ...\ndef test_b(): ...\n"
    _, said = run_without_servers(tmp_path, test, "-m", selection, "--collect-only", "-q")
    assert [line for line in said.splitlines() if "::" in line] == [f"test_it.py::{chosen}"]
