"""Hostile configurations and unreachable servers through the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAPS = r"""admin: {enabled: no, port: 012}
log: {level: info, level: debug}
bomb: &a [x, x, x, x, x, x, x, x, x]
bomb_2: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]
bomb_3: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]
bomb_4: [*c, *c, *c, *c, *c, *c, *c, *c, *c]
object: !!python/object/apply:os.system ["touch made"]
pipelines:
  hostile:
    source: {type: file, path: "x.jsonl", format: dynamodb}
    stall_after: 12:30:45
    drain: 2026-01-31
    dead_letter: {type: sqlite, path: "dead.db"}
    routes:
      print: {sink: {type: stdout}}
"""
WRONG_LINES = {
    1: "write 'no' in quotes, or false",
    2: "already, in line 2",
    3: "an anchor",
    4: "an anchor",
    6: "an alias",
    7: "a tag",
    11: "put them in quotes",
    12: "put it in quotes",
}

OPTIONS = r"""pipelines:
  hostile:
    source: {type: file, path: "x.jsonl", format: dynamodb}
    dead_letter: {type: sqlite, path: "dead.db"}
    routes:
      sql:
        sink: {type: audit, url: "sqlite:///audit.db", table: 'x"; drop table audit; --'}
      percent:
        sink: {type: search, path: "search.db", index: '%s"; drop', id: "{pk}", fields: ["a\0"]}
      path:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "../x", id: "{pk}"}
      all:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "*", id: "{pk}"}
      two:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "a,b", id: "{pk}"}
      hidden:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "_x", id: "{pk}"}
      upper:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "Orders", id: "{pk}"}
      free:
        sink: {type: opensearch, url: "http://127.0.0.1:1", index: "{index}", id: "{pk}"}
      template:
        sink: {type: redis, url: "redis://127.0.0.1:1", invalidate: ["{0.__class__", "{$__class__}"]}
      unset:
        sink: {type: redis, url: "${MILLRACE_TEST_UNSET}", invalidate: ["x:{pk}"]}
      password:
        sink: {type: redis, url: "redis:/somebody:hunter2-url@127.0.0.1", invalidate: ["x:{pk}"]}
      from_outside:
        sink: {type: audit, url: "${MILLRACE_TEST_SECRET}"}
      wildcard:
        when: {eventName: [{wildcard: "a**b"}]}
        sink: {type: stdout}
      expression:
        when: {eventName: [{regex: "(a+)+$"}]}
        sink: {type: stdout}
"""
WRONG_ROUTES = (
    *("sql", "percent", "path", "all", "two", "hidden", "upper", "free", "template"),
    *("unset", "password", "from_outside", "wildcard", "expression"),
)

UNREACHABLE = r"""admin: {enabled: false}
pipelines:
  hostile:
    source:
      type: kafka
      brokers: ["127.0.0.1:1"]
      topics: [orders]
      group: hostile
      start: earliest
      format: dynamodb
      sasl: {mechanism: PLAIN, username: somebody, password: "${MILLRACE_TEST_SECRET}"}
      tls: {}
    dead_letter: {type: kafka, topic: orders.dead}
    routes:
      search:
        sink:
          type: opensearch
          url: "http://127.0.0.1:1"
          auth: {username: somebody, password: "${MILLRACE_TEST_SECRET}"}
          index: orders
          id: "{pk}"
      cache:
        sink: {type: redis, url: "redis://somebody:${MILLRACE_TEST_SECRET}@127.0.0.1:1/0", invalidate: ["x:{pk}"]}
      audit:
        sink: {type: audit, url: "postgresql://somebody:${MILLRACE_TEST_SECRET}@127.0.0.1:1/orders"}
"""
SECRET = "hunter2-from-outside"


def millrace(folder: Path, command: str, config: str) -> tuple[int, str]:
    """Run a command on this configuration; its exit code, and all that it said."""
    (folder / "millrace.yaml").write_text(config)
    environment = {**os.environ, "MILLRACE_TEST_SECRET": SECRET, "COLUMNS": "500"}
    done = subprocess.run(
        [sys.executable, "-m", "connector.cli", command, "millrace.yaml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["validate", "run"])
def test_every_trap_of_yaml_is_told_at_its_line_and_nothing_is_run(tmp_path: Path, command: str) -> None:
    code, said = millrace(tmp_path, command, TRAPS)
    assert code == 2
    assert "Traceback" not in said
    for line, advice in WRONG_LINES.items():
        told = [text for text in said.splitlines() if f"millrace.yaml:{line}:" in text]
        assert any(advice in text for text in told), (line, advice, told)
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "dead.db").exists()


def test_every_wrong_option_is_told_and_no_secret_with_it(tmp_path: Path) -> None:
    code, said = millrace(tmp_path, "validate", OPTIONS)
    assert code == 2
    assert "Traceback" not in said
    missing = [route for route in WRONG_ROUTES if f"pipelines.hostile.routes.{route}." not in said]
    assert not missing, said
    assert "MILLRACE_TEST_UNSET is not set" in said
    assert "hunter2" not in said
    assert "\0" not in said


def test_servers_that_cannot_be_reached_are_told_without_the_secrets_that_lead_there(tmp_path: Path) -> None:
    code, said = millrace(tmp_path, "check", UNREACHABLE)
    assert code == 4
    assert "Traceback" not in said
    for part in ("search", "cache", "audit", "source"):
        assert part in said
    assert SECRET not in said
    assert not [line for line in said.splitlines() if line.startswith("%")], "the Kafka client talks past the log"
