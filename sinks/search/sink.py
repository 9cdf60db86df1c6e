"""The embedded search sink: a batch is one transaction, on one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from pydantic import BaseModel

from connector.change import Change, EventName
from connector.documents import encode_document
from connector.errors import DecodeError, DocumentError, TemplateError
from connector.sink import APPLIED, STALE, Needs, Outcome, Rejected, Semantics, SinkContext
from connector.templates import compile_template, places
from sinks.search.config import SearchConfig
from sinks.search.store import Delete, Put, Store, Write, split_paths, texts_of

_FORGET_EVERY_MS_MAX = 60_000


class SearchSink:
    """Keeps each item's last state as a document that can be searched. Older versions never win."""

    config_model: ClassVar[type[BaseModel]] = SearchConfig
    lanes_default: ClassVar[int] = 1
    batch_size_default: ClassVar[int] = 1000

    semantics = Semantics.STATE
    needs = Needs.NEW_IMAGE

    def __init__(self, config: SearchConfig, context: SinkContext) -> None:
        self._config = config
        self._clock = context.clock
        self._id = compile_template(config.id)
        self._paths = split_paths(config.fields)
        self.place_attributes = self._id.attributes
        self._store: Store | None = None
        # SQLite blocks, and has one writer anyway: one thread keeps batches apart without a lock.
        self._thread: ThreadPoolExecutor | None = None
        self._forget_at_ms = 0

    async def open(self) -> None:
        """Open or create the file. Raises ConfigError for a file that is something else, SinkUnavailable."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        config = self._config
        self._store = await asyncio.get_running_loop().run_in_executor(
            self._thread, Store, config.path, config.index, config.fields
        )

    def describe(self) -> str:
        """For ``millrace check``."""
        return f"index {self._config.index} in {self._config.path}, over {', '.join(self._config.fields)}"

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write a batch in one transaction. Raises SinkUnavailable for a locked file or a full disk."""
        assert self._thread is not None, "the sink is not open"
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)

    async def close(self) -> None:
        """Close the file, after the batch that is being written."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        store, self._store = self._store, None
        if store is not None:
            await asyncio.get_running_loop().run_in_executor(thread, store.close)
        thread.shutdown(wait=False)

    def _write(self, batch: Sequence[Change]) -> list[Outcome]:
        assert self._store is not None, "the sink is not open"
        now_ms = self._clock.now_ms()
        gc_ms = int(self._config.gc_deletes * 1000)
        if now_ms >= self._forget_at_ms:
            self._store.forget_deletions(now_ms - gc_ms)
            self._forget_at_ms = now_ms + min(gc_ms, _FORGET_EVERY_MS_MAX)
        outcomes: list[Outcome] = [APPLIED] * len(batch)
        writes: list[Write] = []
        owners: list[int] = []
        for owner, change in enumerate(batch):
            try:
                needed = self._writes(change)
            except (TemplateError, DocumentError, DecodeError) as error:
                outcomes[owner] = Rejected(error.code, error.message)
            except UnicodeEncodeError:
                outcomes[owner] = Rejected("document_not_unicode", "a text holds half a surrogate pair")
            else:
                writes += needed
                owners += [owner] * len(needed)
        if writes:
            for owner, done in zip(owners, self._store.write(writes, now_ms), strict=True):
                # Of a document that moves, the write at the new place comes last, and counts.
                outcomes[owner] = APPLIED if done else STALE
        return outcomes

    def _writes(self, change: Change) -> list[Write]:
        """What a change does: forget the document at its old place, keep it at its new one."""
        if change.event_name is not EventName.REMOVE and change.new_image is None:
            raise DocumentError("image_missing", "the record carries no new image")
        place = places(self._id, change)
        writes: list[Write] = []
        if place.old is not None and place.old != place.new:
            writes.append(Delete(place.old, change.version))
        if place.new is not None:
            document = change.new_document(self._config.numbers)
            assert document is not None, "checked above"
            writes.append(Put(place.new, change.version, encode_document(document), texts_of(document, self._paths)))
        return writes
