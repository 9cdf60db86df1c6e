"""A place to run commands in, and a log that is left as it was found."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.cli.letters_harness import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """An embedded configuration; commands set the log up, which is undone at the end."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Place(tmp_path, monkeypatch, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
