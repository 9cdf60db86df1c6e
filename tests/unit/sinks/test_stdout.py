"""The stdout sink: what a line says, and readers that go away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from decimal import Decimal

import pytest

from sinks.stdout import StdoutConfig, StdoutSink
from sinks.testing import BASE_VERSION, context, modify, write

_WRITES_TWICE = """
import asyncio
from connector.errors import SinkUnavailable
from sinks.stdout import StdoutConfig, StdoutSink
from sinks.testing import context, insert
import sys

async def main():
    sink = StdoutSink(StdoutConfig(), context())
    await sink.open()
    sys.stdin.readline()  # the reader has gone away by now
    for _ in range(2):
        try:
            await sink.write([insert("a", {"text": "x" * 100})])
        except SinkUnavailable as error:
            print(error, file=sys.stderr)
    await sink.close()

asyncio.run(main())
"""


def test_a_line_says_what_happened_to_which_item(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    exact = Decimal("0.12345678901234567890123456789012345678")
    change = modify("a", {"n": exact}, old={"n": 1}, version=7, timestamp_ms=1_700_000_000_123)
    asyncio.run(write(lambda: StdoutSink(StdoutConfig(), context(route="tap")), [change]))
    line = capsysbinary.readouterr().out.decode()
    assert str(exact) in line
    assert json.loads(line, parse_float=Decimal) == {
        "event_name": "MODIFY",
        "key": {"pk": "a"},
        "version": BASE_VERSION + 7,
        "route": "tap",
        "shard": "contract/0",
        "position": 7,
        "event_id": "contract/0:7:0",
        "time": "2023-11-14T22:13:20.123+00:00",
        "new": {"pk": "a", "n": exact},
        "old": {"pk": "a", "n": 1},
    }


def test_a_reader_that_goes_away_makes_the_sink_unavailable_and_the_exit_stays_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITES_TWICE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    complaints = process.stderr.read().splitlines()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert complaints == [
        "standard output cannot be written to (BrokenPipeError)",
        "standard output is closed: its reader has gone away",
    ]


_IS_NOT_READ = """
import asyncio
from sinks.stdout import StdoutConfig, StdoutSink
from sinks.testing import context, insert
import sys

async def main():
    sink = StdoutSink(StdoutConfig(), context())
    await sink.open()
    writing = asyncio.ensure_future(sink.write([insert("a", {"text": "x" * 1_000_000})]))
    done, _ = await asyncio.wait([writing], timeout=1)
    print(len(done), "written", file=sys.stderr)
    writing.cancel()
    await sink.close()

asyncio.run(main())
"""


def test_a_reader_that_reads_no_more_does_not_keep_the_process_from_ending() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _IS_NOT_READ], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "0 written\n"
    finally:
        process.kill()
        process.communicate()


_WRITES_TWO_ROUTES = """
import asyncio
from sinks.stdout import StdoutConfig, StdoutSink
from sinks.testing import context, insert

async def main():
    sinks = [StdoutSink(StdoutConfig(), context(route=route)) for route in ("one", "two")]
    for sink in sinks:
        await sink.open()
    changes = [insert(f"{number}", {"text": "x" * 10_000}) for number in range(100)]
    await asyncio.gather(*(sink.write(changes) for sink in sinks))
    for sink in sinks:
        await sink.close()

asyncio.run(main())
"""


def test_long_lines_of_two_routes_do_not_run_into_each_other() -> None:
    done = subprocess.run([sys.executable, "-c", _WRITES_TWO_ROUTES], capture_output=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((line["route"], int(line["key"]["pk"])) for line in lines) == [
        (route, number) for route in ("one", "two") for number in range(100)
    ]
