"""The file source on real files."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connector.checkpoints.protocol import Checkpoint
from connector.errors import ConfigError, SourceError
from connector.sources.file import FileSource, FileSourceConfig
from tests.coroutines import asynchronous
from tests.unit.sources.harness import CONTEXT, Listener, MemoryCheckpoints, Reading


class Opened:
    """A file source with everything around it."""

    def __init__(self, path: Path | str, checkpoints: MemoryCheckpoints | None = None, **options: Any) -> None:
        self.source = FileSource(FileSourceConfig(path=str(path), **options), CONTEXT)
        self.listener = Listener()
        self.checkpoints = checkpoints or MemoryCheckpoints()
        self.reading = Reading(self.source)

    async def __aenter__(self) -> Opened:
        await self.source.open(self.listener, self.checkpoints)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.close()

    async def save(self) -> None:
        """What a pipeline does when everything that was read is finished."""
        positions = self.reading.next_positions
        await self.checkpoints.save({shard: Checkpoint(at, clock=7) for shard, at in positions.items()})


def lines(first: int, last: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % number for number in range(first, last))


def values(first: int, last: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(first, last)]


@asynchronous
async def test_a_file_is_read_to_its_end_and_then_the_source_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_bytes(lines(0, 1000) + b'{"n":1000}')
    async with Opened(path) as opened:
        assert await opened.source.ends() == {f"file:{path}": path.stat().st_size}
        await opened.reading.to_the_end(records_max=77)
        assert opened.reading.values == values(0, 1001)
        assert opened.reading.next_positions == await opened.source.ends()
        assert opened.listener.told == [("assigned", {f"file:{path}": None})]


@asynchronous
async def test_reading_goes_on_at_the_checkpoint_in_a_plain_and_in_a_gzip_file(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(lines(0, 300))
    packed.write_bytes(gzip.compress(lines(0, 100)) + gzip.compress(lines(100, 300)))
    checkpoints = MemoryCheckpoints()
    for path in (plain, packed):
        async with Opened(path, checkpoints) as opened:
            await opened.reading.until(120, records_max=40)
            await opened.save()
        async with Opened(path, checkpoints) as opened:
            assert opened.listener.owned[f"file:{path}"] == checkpoints.saved[f"file:{path}"]
            await opened.reading.to_the_end()
            assert opened.reading.values == values(120, 300)
            assert opened.reading.next_positions == await opened.source.ends() == {f"file:{path}": len(lines(0, 300))}


@asynchronous
async def test_the_files_of_a_glob_are_read_one_after_the_other_by_name(tmp_path: Path) -> None:
    for name in ("part-2", "part-0", "part-1"):
        (tmp_path / name).write_bytes(lines(int(name[-1]) * 10, int(name[-1]) * 10 + 10))
    async with Opened(tmp_path / "part-*") as opened:
        await opened.reading.to_the_end(records_max=3)
        assert opened.reading.values == values(0, 30)


@asynchronous
async def test_a_followed_file_gives_whole_lines_only_and_new_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(lines(0, 2) + b'{"n":')
    async with Opened(tmp_path / "*.jsonl", follow=True, start="latest") as opened:
        await opened.reading.for_a_while()
        assert opened.reading.values == []
        assert await opened.source.ends() == {f"file:{path}": len(lines(0, 2))}
        with path.open("ab") as file:
            file.write(b"2}\n")
        await opened.reading.until(1)
        (tmp_path / "two.jsonl").write_bytes(lines(3, 5))
        await opened.reading.until(3)
        assert opened.reading.values == values(2, 5), "a file that appears later is read whole, whatever start says"
        assert not opened.reading.ended


@asynchronous
async def test_latest_is_a_place_that_is_kept_over_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(0, 5))
    checkpoints = MemoryCheckpoints()
    async with Opened(path, checkpoints, follow=True, start="latest"):
        pass
    with path.open("ab") as file:
        file.write(lines(5, 8))
    async with Opened(path, checkpoints, follow=True, start="latest") as opened:
        await opened.reading.until(3)
        assert opened.reading.values == values(5, 8)


@asynchronous
async def test_a_file_that_got_shorter_stops_the_source_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(0, 10))
    async with Opened(path, follow=True) as opened:
        await opened.reading.until(10)
        path.write_bytes(lines(10, 12))
        with pytest.raises(SourceError, match="replaced: restart"):
            await opened.reading.for_a_while()


@pytest.mark.parametrize("how", ["cut", "renamed"])
@asynchronous
async def test_a_replaced_file_goes_on_as_a_new_shard_with_the_old_clock(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(0, 10))
    async with Opened(path, follow=True, replaced="restart") as opened:
        await opened.reading.until(10)
        await opened.save()
        if how == "renamed":
            with path.open("ab") as file:
                file.write(lines(10, 11))
            os.rename(path, tmp_path / "log.1")
        path.write_bytes(lines(11, 12))
        await opened.reading.until(11 if how == "cut" else 12)
        shard = f"file:{path}"
        assert opened.reading.records[f"{shard}//2"][0].value == values(11, 12)[0]
        assert opened.reading.records[shard][-1].value == values(0, 11)[9 if how == "cut" else 10]
        assert opened.listener.told[1:] == [("revoked", [shard]), ("assigned", {f"{shard}//2": Checkpoint(0, clock=7)})]
        await opened.save()
    async with Opened(path, opened.checkpoints, follow=True, replaced="restart") as again:
        assert list(again.listener.owned) == [f"{shard}//2"]


@asynchronous
async def test_a_file_in_which_no_line_starts_at_the_checkpoint_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100 + b"\n")
    checkpoints = MemoryCheckpoints()
    checkpoints.saved[f"file:{path}"] = Checkpoint(50)
    async with Opened(path, checkpoints) as opened:
        with pytest.raises(SourceError, match=r"no line of .* starts at the saved position 50"):
            await opened.reading.to_the_end()


@asynchronous
async def test_a_gzip_file_that_was_cut_off_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "changes.gz"
    path.write_bytes(gzip.compress(lines(0, 5000))[:-100])
    async with Opened(path) as opened:
        with pytest.raises(SourceError, match="cannot be read on"):
            await opened.reading.to_the_end()


@asynchronous
async def test_a_paused_source_gives_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(0, 100))
    async with Opened(path) as opened:
        await opened.reading.until(10, records_max=10)
        await opened.source.pause()
        await opened.reading.for_a_while()
        assert opened.reading.count == 10
        await opened.source.resume()
        await opened.reading.to_the_end()
        assert opened.reading.values == values(0, 100)


@asynchronous
async def test_what_a_cancelled_read_has_fetched_is_given_to_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(0, 2000))
    async with Opened(path) as opened:
        for _ in range(100):
            reading = asyncio.create_task(opened.reading.once(records_max=10))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await opened.reading.to_the_end(records_max=10)
        assert opened.reading.values == values(0, 2000)


@asynchronous
async def test_standard_input_is_a_new_shard_at_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    with os.fdopen(out) as stdin, os.fdopen(into, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stdin)
        async with Opened("-") as opened:
            await opened.reading.for_a_while()
            writer.write(lines(0, 3) + b'{"n":3}')
            await opened.reading.until(3)
            writer.close()
            await opened.reading.to_the_end()
            assert opened.reading.values == values(0, 4)
            (shard,) = opened.listener.owned
            assert shard.startswith("file:-@")


@asynchronous
async def test_a_path_that_matches_nothing_is_refused_unless_files_may_come(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file matches"):
        async with Opened(tmp_path / "absent-*"):
            pass
    async with Opened(tmp_path / "absent", follow=True) as opened:
        await opened.reading.for_a_while(2)
        (tmp_path / "absent").write_bytes(lines(0, 2))
        await opened.reading.until(2)


@asynchronous
async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        async with Opened(tmp_path):
            pass


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValidationError):
        FileSourceConfig.model_validate({"path": "x", "folow": True})
