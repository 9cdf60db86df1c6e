"""What is the file's own about dead letters; the rest is in the contract suite."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from connector.deadletter.file import FileDeadLetters, FileDeadLettersConfig
from connector.errors import ConfigError, DeadLetterError
from tests.coroutines import asynchronous
from tests.unit.deadletter.letters import letter, positions


def at(path: Path | str) -> FileDeadLetters:
    return FileDeadLetters(FileDeadLettersConfig(path=str(path)), "orders")


@asynchronous
async def test_a_line_that_a_crash_cut_off_is_passed_over_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    destination = at(path)
    await destination.open()
    await destination.append([letter(1), letter(2)])
    await destination.close()
    os.truncate(path, path.stat().st_size - 20)
    destination = at(path)
    await destination.open()
    assert await positions(destination) == [1]
    await destination.append([letter(2), letter(3)])
    assert await positions(destination) == [1, 2, 3]
    await destination.close()


@asynchronous
async def test_lines_of_somebody_else_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'hello\n\n{"type":"letter"}\n{"a":' + b"[" * 100_000 + b'\n\xff\n{"type":"mark","ids":1}\n')
    destination = at(path)
    await destination.open()
    await destination.append([letter(1)])
    assert await positions(destination) == [1]
    await destination.close()


@asynchronous
async def test_a_full_disk_is_an_error_that_may_pass(tmp_path: Path) -> None:
    destination = at("/dev/full")
    await destination.open()
    with pytest.raises(DeadLetterError, match="No space left"):
        await destination.append([letter(1)])
    await destination.close()


@asynchronous
async def test_a_place_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "dead.jsonl"):
        with pytest.raises(ConfigError, match="cannot be kept"):
            await at(path).open()


@asynchronous
async def test_processes_that_write_at_the_same_time_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    script = (
        "import asyncio, sys\n"
        "from tests.unit.deadletter.letters import letter\n"
        "from tests.unit.deadletter.test_file import at\n"
        "async def main(first):\n"
        "    destination = at(sys.argv[1])\n"
        "    await destination.open()\n"
        "    for position in range(first, first + 50):\n"
        "        await destination.append([letter(position, message='x' * 10_000)])\n"
        "asyncio.run(main(int(sys.argv[2])))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(first)]) for first in (0, 1000)]
    for writer in writers:
        assert await asyncio.to_thread(writer.wait) == 0
    destination = at(path)
    await destination.open()
    assert sorted(await positions(destination)) == [*range(50), *range(1000, 1050)]
    await destination.close()
