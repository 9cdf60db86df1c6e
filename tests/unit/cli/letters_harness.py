"""A configuration with everything embedded, and the command line run on it in this process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from connector import cli
from connector.config.load import load
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import StoredLetter
from connector.deadletter.sqlite import SQLiteDeadLetters, SQLiteDeadLettersConfig

CONFIG = """\
log: {{level: error}}
pipelines:
  orders:
    source: {{type: file, path: "{folder}/changes.jsonl", format: dynamodb}}
    checkpoints: {{path: "{folder}/checkpoints.db"}}
    dead_letter: {{type: sqlite, path: "{folder}/letters.db"}}
    routes:
      search:
        sink: {{type: search, path: "{folder}/search.db", index: orders, id: "{{pk}}", fields: [price], {more}}}
      cache:
        sink: {{type: search, path: "{folder}/cache.db", index: orders, id: "{{pk}}", fields: [price]}}
"""


class Place:
    """A folder with a configuration, and what the last command printed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "m.yaml"
        self.out = self.err = ""
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.configure()

    def configure(self, more: str = "numbers: number") -> None:
        """Write the configuration; ``more`` are options of the search route's sink."""
        self.config.write_text(CONFIG.format(folder=self.folder, more=more))
        load(self.config)

    def run(self, *arguments: str) -> int:
        """Run the console script; answer its exit code."""
        self._monkeypatch.setattr(sys, "argv", ["millrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = self._capsys.readouterr()
        self.out, self.err = printed.out, printed.err
        return int(ended.value.code or 0)

    def lines(self) -> list[dict[str, Any]]:
        """What was printed, as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Put letters where the configuration has them."""

        async def append() -> None:
            destination = self._destination()
            await destination.open()
            await destination.append(letters)
            await destination.close()

        asyncio.run(append())

    def stored(self) -> list[StoredLetter]:
        """All letters, whatever became of them."""

        async def read() -> list[StoredLetter]:
            destination = self._destination()
            await destination.open()
            try:
                return [stored async for stored in destination.letters(include_done=True)]
            finally:
                await destination.close()

        return asyncio.run(read())

    def states(self) -> dict[int, str]:
        """Each letter's state by its position."""
        return {stored.letter.position: stored.state.value for stored in self.stored()}

    def _destination(self) -> SQLiteDeadLetters:
        return SQLiteDeadLetters(SQLiteDeadLettersConfig(path=f"{self.folder}/letters.db"), "orders")
