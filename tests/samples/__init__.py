"""Recorded samples of the formats, and what reads them."""

from __future__ import annotations

from pathlib import Path

from connector.change import Record

FOLDER = Path(__file__).parent


def sample(name: str, *, timestamp_ms: int = 0) -> list[Record]:
    """The records of ``<name>.jsonl``, one a line, at positions 0, 1, 2 …"""
    lines = (FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    return [Record(position, line, timestamp_ms=timestamp_ms) for position, line in enumerate(lines)]


def keyed_sample(name: str) -> list[Record]:
    """The records of ``<name>.jsonl`` where key and value stand in turn, a line each; ``null`` is no bytes at all."""
    lines = [None if line == b"null" else line for line in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [Record(position, value, key) for position, (key, value) in enumerate(pairs)]
