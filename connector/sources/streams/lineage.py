"""The shard graph of one stream, put together from its listing page by page: what may begin, and what is left.

    parent ─▶ child          a parent is finished before its child begins, so that the order of a key holds
    found later              begins at its first record, whatever ``start`` says: the parent ended there
    parent not listed        trimmed long ago: the child may begin, once two whole listings have been without it
    not listed any more      it was not finished, and now it is gone: it may begin, and its reader will find nothing

Pure: pages come in, plain answers go out. Listings are not trusted to be consistent (DescribeStream is not): what
is missing counts only after two complete passes in a row, and a finished shard is remembered until its children are
finished, the service has dropped it, and the retention has passed (KCL's adapter 1.5.0 replayed lineages for less).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from connector.sources.streams.api import StreamShard

PASSES_TO_BELIEVE = 2
"""How many complete listings in a row must be without a shard before it counts as gone."""


class _Known(msgspec.Struct):
    id: str
    parents: tuple[str, ...] = ()
    closed: bool = False
    listed_first: int = -1
    """The number of the pass that first saw it; -1: known from a checkpoint only."""
    listed_last: int = -1
    known_since: int = 0
    """The number of the pass in which it became known."""
    remembered: bool = False
    """It had a checkpoint when the process began."""
    begun: bool = False
    finished_ms: int | None = None

    @property
    def done(self) -> bool:
        return self.finished_ms is not None


class Lineage:
    """Of one stream, for as long as it is followed.

    ``remembered`` are the shards with a checkpoint, and when each was finished (None: it is not). ``whole``: every
    shard of the stream is to be read, so that an unknown parent is a loss; False on a first start, where what is gone
    before was never promised.
    """

    def __init__(self, remembered: Mapping[str, int | None], *, whole: bool) -> None:
        self.passes = 0
        """How many complete listings there were."""
        self._ended_passes = 0
        """How many complete listings said that the stream gets no more shards."""
        self.whole = whole
        self._known = {
            id_: _Known(id_, remembered=True, finished_ms=finished_ms) for id_, finished_ms in remembered.items()
        }
        self._settled = 0
        """How many passes there were when the starts of what was there were settled."""
        self._children: dict[str, list[str]] = {}
        self._forgiven: set[str] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, shards: Iterable[StreamShard]) -> None:
        """Take a page of the listing in, at whatever time it comes."""
        for shard in shards:
            known = self._known.get(shard.id)
            if known is None:
                known = self._known[shard.id] = _Known(shard.id)
            if known.listed_first < 0:
                known.listed_first = self.passes
            if not known.parents and shard.parents:
                known.parents = shard.parents
                for parent in shard.parents:
                    self._children.setdefault(parent, []).append(shard.id)
            known.closed |= shard.closed
            known.listed_last = self.passes

    def end_pass(self, *, ended: bool) -> None:
        """A listing was complete. ``ended``: its *first* page said already that the stream gets no more shards."""
        self.passes += 1
        self._ended_passes += ended

    @property
    def ended(self) -> bool:
        """The stream gets no more shards, and all that it has are known."""
        return self._ended_passes >= PASSES_TO_BELIEVE

    def close(self) -> None:
        """The stream is gone: nothing more will be listed of it."""
        self._ended_passes = PASSES_TO_BELIEVE

    def startable(self) -> list[str]:
        """What may begin now and has not, in the order of the listing."""
        return [known.id for known in self._known.values() if self._may_begin(known)]

    def know(self, shard: str) -> _Known:
        """A shard that has a checkpoint, perhaps by another replica that found it before us."""
        known = self._known.get(shard)
        if known is None:
            known = self._known[shard] = _Known(shard, remembered=True, known_since=self.passes)
        return known

    def begin(self, shard: str) -> None:
        """Its reading has begun, here or by another owner."""
        self.know(shard).begun = True

    def unbegin(self, shard: str) -> None:
        """Its reading was given up before its end (a lost lease)."""
        self._known[shard].begun = False

    def finish(self, shard: str, now_ms: int) -> None:
        """Every record of it is finished and its end is saved."""
        known = self.know(shard)
        if known.finished_ms is None:
            known.finished_ms = now_ms

    def finished(self, shard: str) -> bool:
        """Whether nothing of it is left to do."""
        known = self._known.get(shard)
        return known is not None and known.done

    def parents(self, shard: str) -> tuple[str, ...]:
        """Its parents, known or not."""
        known = self._known.get(shard)
        return known.parents if known else ()

    def children(self, shard: str) -> list[str]:
        """The shards that go on from it, as far as they are known."""
        return [child for child in self._children.get(shard, ()) if child in self._known]

    def is_remembered(self, shard: str) -> bool:
        """Whether it had a checkpoint when the process began."""
        known = self._known.get(shard)
        return known is not None and known.remembered

    def settle(self, shards: Iterable[str]) -> None:
        """The starts of all that is listed by now are settled, and these have a checkpoint: what comes from now on was
        found later."""
        self._settled = self.passes
        for shard in shards:
            self._known[shard].remembered = True

    def listed(self) -> list[str]:
        """The shards that were ever listed."""
        return [known.id for known in self._listed()]

    def roots(self) -> list[str]:
        """The listed shards of which no parent is listed, as far as two listings have shown it."""
        return [
            known.id
            for known in self._listed()
            if self._looked_twice(known) and not any(self._is_listed(parent) for parent in known.parents)
        ]

    def open_heads(self) -> tuple[list[str], list[str]]:
        """For ``start: latest``: the shards that are open and do not go on from one that was open in this listing;
        and those that belong to the past (closed, and not after an open one)."""
        future: set[str] = set()
        heads: list[str] = []
        for known in self._in_order():
            if any(parent in future for parent in known.parents):
                future.add(known.id)
            elif not known.closed:
                future.add(known.id)
                heads.append(known.id)
        return heads, [known.id for known in self._listed() if known.id not in future]

    def orphans(self) -> list[str]:
        """Shards that were found later, or after a pause, whose parent is neither listed nor remembered as finished:
        what was in between is lost. Empty where that was never promised (not ``whole``, and it was there at first)."""
        found = []
        for known in self._known.values():
            if known.done or known.begun or known.remembered or known.id in self._forgiven or known.listed_first < 0:
                continue
            if not self.whole and known.listed_first < self._settled:
                continue
            if any(parent not in self._known for parent in known.parents) and self._looked_twice(known):
                found.append(known.id)
        return found

    def forgive(self, shard: str) -> None:
        """Let an orphan begin: it was told, and the configuration says to go on."""
        self._forgiven.add(shard)

    @property
    def needs_pass(self) -> bool:
        """True while another listing, now rather than later, would let something begin or be decided."""
        undecided = self.passes < PASSES_TO_BELIEVE or 0 < self._ended_passes < PASSES_TO_BELIEVE
        return undecided or any(
            not known.done
            and not known.begun
            and (
                (known.listed_last < self.passes - 1 and not self._vanished(known))
                or (any(parent not in self._known for parent in known.parents) and not self._looked_twice(known))
            )
            for known in self._known.values()
        )

    @property
    def expects_children(self) -> bool:
        """True while a shard that was read to its end here is without its children: the listing will soon show them."""
        return not self.ended and any(
            known.done and known.begun and not self._children.get(known.id) for known in self._known.values()
        )

    def vanished(self, shard: str) -> bool:
        """Whether the last two complete listings were without it."""
        return shard not in self._known or self._vanished(self._known[shard])

    def unread(self) -> list[str]:
        """What is known, not finished and not begun."""
        return [known.id for known in self._known.values() if not known.done and not known.begun]

    @property
    def over(self) -> bool:
        """True when the stream gets no more shards and everything that it had is finished."""
        return self.ended and all(known.done for known in self._known.values())

    def forgettable(self, now_ms: int, retention_ms: int) -> list[str]:
        """Finished shards of which nobody will ask any more: their checkpoints may be deleted."""
        return [
            known.id
            for known in self._known.values()
            if known.finished_ms is not None
            and now_ms - known.finished_ms > retention_ms
            and self._vanished(known)
            and ((children := self.children(known.id)) or self.ended)
            and all(self._known[child].done for child in children)
        ]

    def forget(self, shards: Iterable[str]) -> None:
        """Their checkpoints are deleted."""
        for shard in shards:
            del self._known[shard]
            self._children.pop(shard, None)

    def _may_begin(self, known: _Known) -> bool:
        vanished = self._vanished(known)
        if known.done or known.begun or (known.listed_first < 0 and not vanished):
            return False
        for parent in known.parents:
            if (above := self._known.get(parent)) is not None:
                if not above.done:
                    return False
            elif not vanished and not self._settled_without(known):
                return False
        return True

    def _settled_without(self, known: _Known) -> bool:
        """Whether a shard may begin although a parent is not known: it had begun already, or the parent is surely gone
        and that is no loss (or one that was told)."""
        if known.remembered or known.id in self._forgiven:
            return True
        return self._looked_twice(known) and not self.whole and known.listed_first < self._settled

    def _looked_twice(self, known: _Known) -> bool:
        """A complete listing that began after it was first seen was without its parent, beside the one that saw it."""
        return self.passes - known.listed_first >= PASSES_TO_BELIEVE

    def _vanished(self, known: _Known) -> bool:
        return self.passes - 1 - max(known.listed_last, known.known_since - 1) >= PASSES_TO_BELIEVE

    def _is_listed(self, shard: str) -> bool:
        known = self._known.get(shard)
        return known is not None and known.listed_last >= 0

    def _listed(self) -> Iterator[_Known]:
        return (known for known in self._known.values() if known.listed_last >= 0)

    def _in_order(self) -> Iterator[_Known]:
        """Parents before children."""
        seen: set[str] = set()
        stack: list[tuple[_Known, bool]] = [(known, False) for known in reversed(list(self._listed()))]
        while stack:
            known, entered = stack.pop()
            if entered:
                yield known
            elif known.id not in seen:
                seen.add(known.id)
                stack.append((known, True))
                stack += [(self._known[parent], False) for parent in known.parents if self._is_listed(parent)]
