"""Keys that are seen again and again are read once: the memory that every codec reads its keys through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Key = tuple[str, Mapping[str, Any]]
"""The canonical text of a key, and its attributes as Python values."""

KEYS_REMEMBERED_MAX = 16_384
RAW_REMEMBERED_MAX = 1024
"""Bytes: longer keys are read anew each time, so that the memory stays within some tens of MB whatever comes."""


class KeyReader:
    """Reads keys by ``read_key``; the same bytes are read once as long as they are remembered."""

    def __init__(self, read_key: Callable[[bytes], Key], remembered_max: int = KEYS_REMEMBERED_MAX) -> None:
        self.remembered: dict[bytes, Key] = {}
        """For the codecs' loops to look into before they call ``read``."""
        self._read_key = read_key
        self._remembered_max = remembered_max

    def read(self, raw: bytes) -> Key:
        """The key in ``raw``, remembered from now on. Raises DecodeError."""
        key = self._read_key(raw)
        if len(raw) <= RAW_REMEMBERED_MAX:
            if len(self.remembered) >= self._remembered_max:
                self.remembered.clear()  # cheaper than keeping an order of use; hot keys are back at once
            self.remembered[raw] = key
        return key
