"""Changes → the lines of a bulk body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from connector.change import Change, EventName
from connector.documents import Numbers, encode_document
from connector.errors import DecodeError, DocumentError, TemplateError
from connector.sink import Outcome, Rejected
from connector.templates import Template, compile_template, places_many
from sinks.opensearch.indexes import AllowList

_ID_BYTES_MAX = 512

_IMAGE_MISSING = Rejected("image_missing", "the record carries no new image")
_ID_INVALID = Rejected("id_invalid", f"a document's id has at most {_ID_BYTES_MAX} bytes")
_NOT_UNICODE = Rejected("document_not_unicode", "a text holds half a surrogate pair")
_TOO_DEEP = Rejected("document_too_deep", "the item is nested too deep")

_json = msgspec.json.Encoder().encode


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a document is."""

    index: str
    id: str
    routing: str | None


class Actions(msgspec.Struct):
    """A batch, encoded. The four lists of actions run in parallel."""

    outcomes: list[Outcome | None]
    """By change: what is known without asking the server, else None."""
    lines: list[bytes]
    """By action: its one or two lines, each with its line feed."""
    owners: list[int]
    """By action: the place of its change in the batch. Grows."""
    indexes: list[str]
    """By action: the index that it goes to."""
    deletes: list[bool]
    """By action: whether it is a delete."""

    def keep(self, places: Sequence[int]) -> None:
        """Drop all actions but those at these places."""
        self.lines = [self.lines[place] for place in places]
        self.owners = [self.owners[place] for place in places]
        self.indexes = [self.indexes[place] for place in places]
        self.deletes = [self.deletes[place] for place in places]


class Encoder:
    """Knows a sink's templates and policies; keeps nothing of the changes."""

    def __init__(
        self,
        *,
        index: str,
        id: str,
        routing: str | None,
        allow: AllowList | None,
        numbers: Numbers,
        include: Sequence[str] | None,
        exclude: Sequence[str],
        line_bytes_max: int,
    ) -> None:
        self._index: str | Template = index if allow is None else compile_template(index)
        self._id = compile_template(id)
        self._routing = None if routing is None else compile_template(routing)
        self._allow = allow
        self._numbers = numbers
        self._include = include
        self._exclude = frozenset(exclude)
        self.line_bytes_max = line_bytes_max
        """An action longer than this is rejected as ``too_large``: the server would break the connection."""
        self._templates = [part for part in (self._index, self._id, self._routing) if isinstance(part, Template)]
        self.attributes = frozenset[str]().union(*(template.attributes for template in self._templates))
        """The item attributes that decide where a document goes."""

    def encode(self, batch: Sequence[Change]) -> Actions:
        """The batch as bulk actions, deletes and documents in the order of the changes."""
        actions = Actions([None] * len(batch), [], [], [], [])
        for owner, change in enumerate(batch):
            actions.outcomes[owner] = self._add(change, owner, actions)
        return actions

    def _add(self, change: Change, owner: int, actions: Actions) -> Outcome | None:
        """Append a change's actions; or append nothing and answer why it is rejected."""
        removed = change.event_name is EventName.REMOVE
        if not removed and change.new_image is None:
            return _IMAGE_MISSING
        document = b""
        new: Place | None
        old: Place | None
        try:
            if self.attributes <= change.keys.keys():
                new = old = self._place_by_key(change)
            else:
                new, old = self._places(change)
            if not removed:
                document = self._document(change)
        except (TemplateError, DocumentError, DecodeError) as error:
            return Rejected(error.code, error.message)
        except UnicodeEncodeError:
            return _NOT_UNICODE
        except RecursionError:
            return _TOO_DEEP
        target = old if removed else new
        assert target is not None, "a change has a place, or its template has raised"
        fault = self._fault(target)
        if fault is not None:
            return fault
        if len(document) > self.line_bytes_max:
            return Rejected("too_large", f"the document has {len(document)} bytes")
        # An old place that may not be written to was never written to.
        if removed or (old is not None and old != target and self._fault(old) is None):
            assert old is not None
            self._append(actions, owner, old, _line(b"delete", old, change.version), is_delete=True)
        if not removed:
            line = b"%b%b\n" % (_line(b"index", target, change.version), document)
            self._append(actions, owner, target, line, is_delete=False)
        return None

    def _place_by_key(self, change: Change) -> Place:
        """The place that the key alone decides: the usual case, where nothing ever moves."""
        keys = change.keys
        return Place(
            self._index if isinstance(self._index, str) else self._index.render(keys, change),
            self._id.render(keys, change),
            None if self._routing is None else self._routing.render(keys, change),
        )

    def _places(self, change: Change) -> tuple[Place | None, Place | None]:
        """Where the document goes, and where it was (None where that is unknown or nowhere)."""
        found = places_many(self._templates, change)
        news = [place.new for place in found]
        olds = [place.old for place in found]
        return self._place(news), self._place(olds)

    def _place(self, texts: Sequence[str | None]) -> Place | None:
        """The texts of the templates, in their order, put together."""
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            return None
        remaining = iter(known)
        return Place(
            self._index if isinstance(self._index, str) else next(remaining),
            next(remaining),
            None if self._routing is None else next(remaining),
        )

    def _fault(self, place: Place) -> Rejected | None:
        """Checked here, because one such action makes OpenSearch refuse the whole bulk."""
        if len(place.id) * 4 > _ID_BYTES_MAX and len(place.id.encode()) > _ID_BYTES_MAX:
            return _ID_INVALID
        return None if self._allow is None else self._allow.fault(place.index)

    def _document(self, change: Change) -> bytes:
        document = change.new_document(self._numbers)
        assert document is not None, "checked by the caller"
        if self._include is not None or self._exclude:
            document = self._selected(document)
        return encode_document(document)

    def _selected(self, document: dict[str, Any]) -> dict[str, Any]:
        names = document.keys() if self._include is None else self._include
        return {name: document[name] for name in names if name in document and name not in self._exclude}

    @staticmethod
    def _append(actions: Actions, owner: int, place: Place, line: bytes, *, is_delete: bool) -> None:
        actions.lines.append(line)
        actions.owners.append(owner)
        actions.indexes.append(place.index)
        actions.deletes.append(is_delete)


def _line(verb: bytes, place: Place, version: int) -> bytes:
    routing = b"" if place.routing is None else b',"routing":' + _json(place.routing)
    return b'{"%b":{"_index":%b,"_id":%b%b,"version":%d,"version_type":"external_gte"}}\n' % (
        verb,
        _json(place.index),
        _json(place.id),
        routing,
        version,
    )


def bodies(lines: Sequence[bytes], bytes_max: int) -> Iterator[tuple[int, int]]:
    """Cut lines into bodies of at most ``bytes_max`` (one line may be longer): the ranges, in order."""
    cuts, size = [0], 0
    for place, line in enumerate(lines):
        if size and size + len(line) > bytes_max:
            cuts.append(place)
            size = 0
        size += len(line)
    if lines:
        cuts.append(len(lines))
    return pairwise(cuts)
