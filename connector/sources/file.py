"""The file source: JSON Lines in one file, in the files of a glob, or on standard input."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from connector.change import Position, RecordBatch, ShardId
from connector.checkpoints.protocol import Checkpoint, CheckpointStore
from connector.config.units import MIB, Size
from connector.errors import ConfigError, SourceError
from connector.onethread import OneThread
from connector.sources.logfile import LogFile, Replaced, last_line_end
from connector.sources.protocol import ShardListener, SourceContext
from connector.sources.reading import KeptReading
from connector.sources.stdin import StandardInput

log = structlog.get_logger(__name__)

FILES_MAX = 100_000
FILES_FOLLOWED_MAX = 512
"""Followed files stay open, and a process may not open many."""
LOOK_AGAIN_S = 1.0
"""How often new files of a glob are looked for."""
STDIN = "-"


class FileSourceConfig(BaseModel):
    """JSON Lines: one document a line. Names that end in ``.gz`` are read through gzip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1, description="a file, a glob such as exports/*.jsonl.gz, or - for standard input")
    follow: bool = Field(default=False, description="go on reading what is appended, and new files of a glob")
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="where a file without a checkpoint is read from; a file that appears later is read whole",
    )
    replaced: Literal["stop", "restart"] = Field(
        default="stop",
        description="what to do when a file gets shorter or is replaced by another of its name: stop the pipeline, or "
        "read the new one from its beginning, as a new shard",
    )
    line_bytes_max: Size = Field(default=16 * MIB, description="a longer line is dead-lettered, cut, as undecodable")


class FileSource:
    """Reads files in the order of their names, each to its (present) end before the next.

    A shard is a file, ``file:<path>``, with the path as it was written and normalised; a position is a byte offset
    in the uncompressed data. A file that was replaced goes on as the shard ``file:<path>//2``, so that its positions
    and event ids are never taken for those of the file that was there before. Standard input is a new shard at
    each run (``file:-@<epoch ms>``): it cannot be read twice, so its checkpoints are never used.
    """

    config_model: ClassVar[type[BaseModel]] = FileSourceConfig

    def __init__(self, config: FileSourceConfig, context: SourceContext) -> None:
        if config.path == STDIN and config.start == "latest":
            raise ConfigError("standard input has no end to start from: leave out start: latest", path=("start",))
        self._config = config
        self._context = context
        self._thread = OneThread("file-source")
        self._files: dict[str, LogFile] = {}
        self._stdin: StandardInput | None = None
        self._paused = False
        self._reading: KeptReading[RecordBatch | None] = KeptReading()
        self._looked_at = 0.0

    def own_checkpoints(self) -> CheckpointStore | None:
        """None: the pipeline's store keeps them."""
        return None

    async def open(self, listener: ShardListener, checkpoints: CheckpointStore) -> None:
        """Find the files and where to go on in each. Raises ConfigError where there is none and none may come."""
        self._listener = listener
        self._checkpoints = checkpoints
        if self._config.path == STDIN:
            shard = f"file:-@{self._context.clock.now_ms()}"
            self._stdin = StandardInput(shard, self._config.line_bytes_max)
            await listener.assigned({shard: None})
            return
        found = await self._thread.run(self._find)
        if not found and not self._config.follow:
            raise ConfigError(f"no file matches {self._config.path!r}", path=("path",))
        self._looked_at = self._context.clock.monotonic()
        await self._take(found, start=self._config.start)

    async def read(self, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        """The next lines of one file. None when every file was read to its end and none is followed."""
        if self._paused:
            await self._context.clock.sleep(wait_s)
            return []
        if self._stdin is not None:
            return await self._read_stdin(self._stdin, records_max, wait_s)
        try:
            batch = await self._read_in_thread(lambda: self._read_files(records_max))
        except Replaced as replaced:
            await self._go_on_after(replaced)
            return []
        if batch is not None:
            return [batch]
        if not self._config.follow:
            return None
        if self._context.clock.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = self._context.clock.monotonic()
            found = await self._thread.run(self._find)
            if new := [path for path in found if path not in self._files]:
                await self._take(new, start="earliest")
                return []
        await self._context.clock.sleep(wait_s)
        return []

    async def pause(self) -> None:
        """Read no more until ``resume``."""
        self._paused = True

    async def resume(self) -> None:
        """Go on exactly where reading stopped: nothing was fetched ahead."""
        self._paused = False

    async def ends(self) -> Mapping[ShardId, Position]:
        """The ends of the files at present. A gzip file is read through for it, once."""
        if self._stdin is not None:
            return {self._stdin.shard: self._stdin.seen_end}
        files = list(self._files.values())
        return await self._thread.run(lambda: {file.shard: file.present_end() for file in files})

    async def close(self) -> None:
        """Close the files."""
        await self._reading.settle()
        for file in self._files.values():
            file.close()
        self._thread.stop()

    def describe(self) -> str:
        """One line for people: what was found."""
        return "standard input" if self._stdin is not None else f"{len(self._files)} files"

    def _find(self) -> list[str]:
        """The paths of all files, sorted. Called in the thread."""
        path = self._config.path
        found = glob.glob(path, recursive=True) if glob.has_magic(path) else [path] if os.path.exists(path) else []
        files = sorted({os.path.normpath(each) for each in found if os.path.isfile(each)})
        if found and not files:
            raise ConfigError(f"{path!r} is not a regular file", path=("path",))
        limit = FILES_FOLLOWED_MAX if self._config.follow else FILES_MAX
        if len(files) > limit:
            raise SourceError(f"{path!r} matches {len(files)} files; at most {limit} can be read at once")
        return files

    async def _take(self, paths: Sequence[str], *, start: Literal["earliest", "latest"]) -> None:
        """Make these files ours, from their checkpoints or from ``start``."""
        saved = await self._checkpoints.all()
        assigned: dict[ShardId, Checkpoint | None] = {}
        fixed: dict[ShardId, Checkpoint] = {}
        for path in paths:
            shard = _newest_shard(path, saved)
            checkpoint = saved.get(shard)
            if checkpoint is None and start == "latest":
                # Saved at once: after a crash "latest" would be a later place, and what is between them lost.
                position = await self._thread.run(partial(self._latest, path))
                checkpoint = fixed[shard] = Checkpoint(position)
            self._open_file(path, shard, 0 if checkpoint is None else checkpoint.position)
            assigned[shard] = checkpoint
        if fixed:
            await self._checkpoints.save(fixed)
        self._files = dict(sorted(self._files.items()))
        await self._listener.assigned(assigned)

    def _latest(self, path: str) -> Position:
        file = LogFile(path, "", 0, line_bytes_max=self._config.line_bytes_max, follow=self._config.follow)
        return file.present_end() if file.compressed else last_line_end(path, os.stat(path).st_size)

    def _open_file(self, path: str, shard: ShardId, position: Position) -> None:
        self._files[path] = LogFile(
            path, shard, position, line_bytes_max=self._config.line_bytes_max, follow=self._config.follow
        )

    def _read_files(self, records_max: int) -> RecordBatch | None:
        for file in self._files.values():
            if not file.done and (batch := file.read(records_max)) is not None:
                return batch
        return None

    async def _go_on_after(self, replaced: Replaced) -> None:
        if self._config.replaced == "stop":
            raise SourceError(f"{replaced}; `replaced: restart` reads the new file from its beginning") from replaced
        old = replaced.file
        log.warning("file was replaced, reading the new one from its beginning", shard=old.shard, reason=str(replaced))
        await self._listener.revoked([old.shard])
        old.close()
        before = (await self._checkpoints.load([old.shard])).get(old.shard)
        shard = _next_shard(old.shard)
        self._open_file(old.path, shard, 0)
        await self._listener.assigned({shard: Checkpoint(0, before.clock if before else 0)})

    async def _read_stdin(self, stdin: StandardInput, records_max: int, wait_s: float) -> Sequence[RecordBatch] | None:
        batch = await self._read_in_thread(lambda: stdin.read(records_max, wait_s))
        if batch is None:
            return None if stdin.ended else []
        return [batch]

    async def _read_in_thread(self, function: Callable[[], RecordBatch | None]) -> RecordBatch | None:
        return await self._reading.get(lambda: self._thread.start(function))


def _newest_shard(path: str, saved: Mapping[ShardId, Checkpoint]) -> ShardId:
    """The shard of the path's file that was there last, by the checkpoints. A normalised path never holds ``//2``."""
    first = "file:" + os.fsencode(path).decode("utf-8", "backslashreplace")  # any text, for any store
    generations = [int(shard[len(first) + 2 :]) for shard in saved if re.fullmatch(re.escape(first) + r"//\d+", shard)]
    return f"{first}//{max(generations)}" if generations else first


def _next_shard(shard: ShardId) -> ShardId:
    """The shard of the file that comes after this one under the same path."""
    match = re.fullmatch(r"(file:.+)//(\d+)", shard)
    return f"{match[1]}//{int(match[2]) + 1}" if match else f"{shard}//2"
