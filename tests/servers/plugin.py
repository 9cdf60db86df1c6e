"""What the real servers ask of pytest itself: a marker, a clear word on what was skipped, and healthy servers.

With `MILLRACE_SERVERS=required` in the environment, a test that uses a server may not be skipped for any reason.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest

from tests.servers.process import ServerMissing, ServerProcess

SERVER_FIXTURES = frozenset(
    {
        "kafka",
        "opensearch",
        "redis_server",
        "redis_cluster",
        "postgres",
        "dynamodb_local",
        "kinesis_local",
        "moto_server",
        "prometheus",
    }
)

_started = pytest.StashKey[list[ServerProcess]]()


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test that starts a server of its own where that is missing, as the fixtures do."""
    try:
        return (yield)
    except ServerMissing as missing:
        item.add_marker(pytest.mark.servers)
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test that needs servers into a failure where they are required."""
    report = yield
    if os.environ.get("MILLRACE_SERVERS") == "required" and (reason := _skipped_because(report)):
        report.outcome = "failed"
        report.longrepr = f"skipped, though MILLRACE_SERVERS=required: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests went without their server, and how to change that."""
    reasons = Counter(filter(None, map(_skipped_because, terminalreporter.getreports("skipped"))))
    if reasons:
        terminalreporter.section("tests skipped for want of a real server", sep="-", yellow=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:5} {reason}")
        terminalreporter.line("tests/servers/install.sh installs what they need.")


def _skipped_because(report: pytest.TestReport) -> str | None:
    """Why a test that needs servers was skipped; None for any other report."""
    if not report.skipped or "servers" not in report.keywords or not isinstance(report.longrepr, tuple):
        return None
    return report.longrepr[2].removeprefix("Skipped: ")
