"""Which indexes may be written to, and making sure that they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from urllib.parse import quote

import msgspec

from connector.sink import Rejected, Retry
from sinks.opensearch.client import Client, error_of, unavailable

_KNOWN_MAX = 10_000
_NAME_BYTES_MAX = 255
_FORBIDDEN = frozenset(' "*\\<|,>/?#:')


def is_data_chosen(template: str) -> bool:
    """Whether an index template takes its name from each change (no index name holds a brace)."""
    return "{" in template or "}" in template


def name_fault(name: str) -> str | None:
    """What is wrong with an index name, by OpenSearch's own rules (create index API), or None."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX:
        return f"an index name has 1 to {_NAME_BYTES_MAX} bytes"
    if name != name.lower():
        return "an index name must be lowercase"
    if name in (".", "..") or name[0] in "-_+":
        return "an index name must not be . or .. and not begin with - _ or +"
    if not _FORBIDDEN.isdisjoint(name) or any(ord(character) < 32 for character in name):
        return 'an index name must hold no blank, no control character and none of "*\\<|,>/?#:'
    return None


class AllowList:
    """Says of each index name that data has chosen whether it may be written to. Remembers its answers."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [pattern.split("*") for pattern in patterns]
        self._answers: dict[str, Rejected | None] = {}

    def fault(self, name: str) -> Rejected | None:
        """None where the name is valid and allowed; otherwise what its changes are answered."""
        try:
            return self._answers[name]
        except KeyError:
            if len(self._answers) >= _KNOWN_MAX:
                self._answers.clear()
            answer = self._answers[name] = self._judge(name)
            return answer

    def _judge(self, name: str) -> Rejected | None:
        fault = name_fault(name)
        if fault is not None:
            return Rejected("index_invalid", fault)
        if not any(_matches(parts, name) for parts in self._patterns):
            return Rejected("index_not_allowed", "the item chooses an index that allow_indexes does not name")
        return None


def _matches(parts: Sequence[str], name: str) -> bool:
    """Whether the name is the pattern's parts in order with anything between them: in linear time."""
    first, *rest = parts
    if not rest:
        return name == first
    if name.startswith(".") and not first.startswith("."):
        return False  # hidden and system indexes must be named on purpose
    *middle, last = rest
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Indexes:
    """Knows which indexes are there, and creates those that are missing where it is told how.

    An index is looked for before the first write to it, because a versioned delete creates a missing index with
    whatever mapping comes of it (seen on OpenSearch 2.19), and an index action does the same.
    """

    def __init__(self, client: Client, body: bytes | None) -> None:
        self._client = client
        self._body = body
        """What an index is created with; None where creating is not ours to do."""
        self._present: set[str] = set()
        self._lock = asyncio.Lock()

    def all_present(self, names: Iterable[str]) -> bool:
        """Whether all of them are known to be there: the usual case, without a request."""
        return self._present.issuperset(names)

    async def absent(self, names: Iterable[str]) -> frozenset[str]:
        """Those that are not there. Raises SinkUnavailable."""
        return frozenset([name for name in names if not await self._look_for(name)])

    async def create_missing(self, names: Iterable[str]) -> dict[str, Rejected | Retry]:
        """Create those that are missing, if that is ours to do; answer those that the server refuses to create.

        Raises SinkUnavailable.
        """
        refused: dict[str, Rejected | Retry] = {}
        async with self._lock:
            for name in names:
                if await self._look_for(name) or self._body is None:
                    continue
                answer = await self._create(name, self._body)
                if answer is None:
                    self._remember(name)
                else:
                    refused[name] = answer
        return refused

    async def _look_for(self, name: str) -> bool:
        if name in self._present:
            return True
        found = await self.exists(name)
        if found:
            self._remember(name)
        return found

    def _remember(self, name: str) -> None:
        if len(self._present) >= _KNOWN_MAX:
            self._present.clear()
        self._present.add(name)

    async def exists(self, name: str) -> bool:
        """Whether an index or an alias of that name is there."""
        answer = await self._client.request("HEAD", f"/{quote(name, safe='')}")
        if answer.status in (400, 404):  # 400: the server has a rule for names that we do not know
            return False
        if answer.status in (200, 403):  # 403: not ours to know; the bulk will tell, item by item
            return True
        raise unavailable(answer, "looking for the index")

    async def _create(self, name: str, body: bytes) -> Rejected | Retry | None:
        answer = await self._client.request(
            "PUT", f"/{quote(name, safe='')}", body=body, content_type="application/json"
        )
        if answer.status == 200:
            return None
        error_type, reason = error_of(answer)
        if error_type == "resource_already_exists_exception":
            return None
        if answer.status == 400:
            return Rejected(error_type or "index_not_created", reason[:500])
        if answer.status == 403:
            return Retry(error_type or "index_not_created", "these credentials may not create the index")
        raise unavailable(answer, "creating the index")


def creation_body(mappings: dict[str, object], settings: dict[str, object], gc_deletes_s: float) -> bytes:
    """The body that creates an index: the user's own, with ``index.gc_deletes`` unless the user says otherwise."""
    index_settings = settings.get("index")
    nested = isinstance(index_settings, dict) and "gc_deletes" in index_settings
    if not nested and not {"gc_deletes", "index.gc_deletes"} & settings.keys():
        settings = {**settings, "index.gc_deletes": f"{round(gc_deletes_s * 1000)}ms"}
    return msgspec.json.encode({"mappings": mappings, "settings": settings} if mappings else {"settings": settings})
