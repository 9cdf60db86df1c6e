"""Hostile records through the daemon into the sinks that need no server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sinks.search.query import search
from tests.integration.hostile import readback
from tests.integration.hostile.cases import MARK, Case, events, items, letters, write_lines
from tests.integration.hostile.dynamodb_cases import MATCHED, SQL, all_cases

HERE = frozenset({"embedded", "audit", "print", MATCHED})
BACKTRACKER = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return all_cases()


class Ran:
    """One run until caught up, and where everything is."""

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        self.folder = folder
        self.names = write_lines(folder / "hostile\x1b[31m\u202e.jsonl", cases)
        searched = ["note", SQL, "%s", "{0.__class__}"]
        told: dict[str, Any] = {
            "admin": {"enabled": False},
            "log": {"format": "json", "level": "debug"},
            "pipelines": {
                "hostile": {
                    "source": {"type": "file", "path": "hostile*.jsonl", "format": "dynamodb"},
                    "checkpoints": {"path": "checkpoints.db"},
                    "dead_letter": {"type": "sqlite", "path": "dead.db"},
                    "routes": {
                        "embedded": {
                            "sink": {
                                "type": "search",
                                "path": "search.db",
                                "index": "hostile",
                                "id": "{pk}",
                                "fields": searched,
                            }
                        },
                        "audit": {"sink": {"type": "audit", "url": "sqlite:///audit.db"}},
                        "print": {"sink": {"type": "stdout"}},
                        MATCHED: {
                            "when": {"dynamodb": {"NewImage": {"wild": {"S": [{"wildcard": BACKTRACKER}]}}}},
                            "sink": {"type": "stdout"},
                        },
                    },
                }
            },
        }
        (folder / "millrace.yaml").write_bytes(msgspec.yaml.encode(told))
        self.again()

    def again(self) -> None:
        """Run it (again)."""
        command = [sys.executable, "-m", "connector.cli", "run", "--until-caught-up", "millrace.yaml"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, timeout=120, check=False)
        self.code, self.printed, self.log = done.returncode, done.stdout.splitlines(), done.stderr.decode()


@pytest.fixture(scope="module")
def ran(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("hostile"), cases)


def test_the_daemon_ends_in_order(ran: Ran) -> None:
    assert ran.code == 0, ran.log[-4000:]


def test_every_poison_is_in_the_dead_letters_with_its_reason_and_nothing_else_is(ran: Ran, cases: list[Case]) -> None:
    found = readback.dead_letters(ran.folder / "dead.db", "hostile", ran.names)
    readback.same("dead letters", found, letters(cases, HERE))


def test_what_is_no_poison_arrived_exactly(ran: Ran, cases: list[Case]) -> None:
    documents = readback.embedded_documents(ran.folder / "search.db", "hostile")
    readback.same("documents", documents, items(cases, "embedded"))
    readback.same("audit rows", readback.sqlite_rows(ran.folder / "audit.db", "audit"), events(cases, "audit"))
    readback.same("printed lines", readback.printed(ran.printed, "print"), events(cases, "print"))


def test_a_wildcard_meets_a_megabyte_made_for_it_and_picks_what_matches(ran: Ran) -> None:
    assert set(readback.printed(ran.printed, MATCHED)) == {"matched"}


def test_a_field_named_like_sql_is_searched_like_any_other(ran: Ran) -> None:
    (hit,) = search(ran.folder / "search.db", "hostile", "needle")
    assert hit.document[SQL] == "needle"
    assert not search(ran.folder / "search.db", "hostile", 'x"; DROP TABLE "hostile:documents"; --')
    assert readback.embedded_documents(ran.folder / "search.db", "hostile")


def test_nothing_of_any_item_is_in_the_log_and_nothing_in_it_can_deceive(ran: Ran) -> None:
    assert MARK not in ran.log
    assert MARK not in readback.messages(ran.folder / "dead.db")
    assert ran.log.isascii()
    assert "\x1b" not in ran.log
    assert all(isinstance(msgspec.json.decode(line), dict) for line in ran.log.splitlines())
    assert r"\\u001b[31m\\u202e.jsonl" in ran.log, "the file's own name is told, harmless"


def test_a_replay_of_everything_leaves_no_trace(ran: Ran, cases: list[Case]) -> None:
    (ran.folder / "checkpoints.db").unlink()
    ran.again()
    assert ran.code == 0
    documents = readback.embedded_documents(ran.folder / "search.db", "hostile")
    readback.same("documents", documents, items(cases, "embedded"))
    readback.same("audit rows", readback.sqlite_rows(ran.folder / "audit.db", "audit"), events(cases, "audit"))
    found = readback.dead_letters(ran.folder / "dead.db", "hostile", ran.names)
    readback.same("dead letters", found, letters(cases, HERE))
