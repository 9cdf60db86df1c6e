"""What the real servers ask of pytest itself: a marker, a clear word on what was skipped, and healthy servers."""

import os
from collections import Counter
from typing import NoReturn

import pytest

from tests.servers.process import ServerMissing, ServerProcess

SERVER_FIXTURES = frozenset(
    {"kafka", "opensearch", "redis_server", "redis_cluster", "postgres", "dynamodb_local", "prometheus"}
)

_started = pytest.StashKey[list[ServerProcess]]()


def skip_or_fail(missing: ServerMissing) -> NoReturn:
    """End the test that wanted this server: skipped, or failed where `MILLRACE_SERVERS` is `required`."""
    if os.environ.get("MILLRACE_SERVERS") == "required":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


def revive_after_tests(config: pytest.Config, *processes: ServerProcess) -> None:
    """Bring these back after each test that leaves them paused or dead."""
    config.stash.setdefault(_started, []).extend(processes)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a real server, before `-m` selects."""
    for item in items:
        if isinstance(item, pytest.Function) and not SERVER_FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.servers)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Revive servers before the test's own fixtures tidy up in them."""
    for process in item.config.stash.get(_started, []):
        process.revive()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests went without their server, and how to change that."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if "servers" in report.keywords and isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("tests skipped for want of a real server", sep="-", yellow=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:5} {reason}")
        terminalreporter.line("tests/servers/install.sh installs what they need.")
