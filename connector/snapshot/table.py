"""A DynamoDB table's items by parallel Scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from connector.errors import ConfigError
from connector.snapshot.protocol import BEGIN, ItemPage, ScanFacts
from connector.snapshot.records import item_with_keys
from connector.sources.streams.api import NotFound, Unavailable
from connector.sources.streams.aws import AwsJson

T = TypeVar("T")

_ABSENT = msgspec.Raw()


class _KeyElement(msgspec.Struct):
    name: str = msgspec.field(name="AttributeName")


class _Table(msgspec.Struct):
    key_schema: list[_KeyElement] = msgspec.field(name="KeySchema")
    items: int | None = msgspec.field(name="ItemCount", default=None)


class _Described(msgspec.Struct):
    table: _Table = msgspec.field(name="Table")


class _Capacity(msgspec.Struct):
    units: float = msgspec.field(name="CapacityUnits", default=0.0)


class _Page(msgspec.Struct, gc=False):
    items: list[msgspec.Raw] = msgspec.field(name="Items", default=[])
    last_key: msgspec.Raw = msgspec.field(name="LastEvaluatedKey", default=_ABSENT)
    capacity: _Capacity | None = msgspec.field(name="ConsumedCapacity", default=None)


_described = msgspec.json.Decoder(_Described).decode
_page = msgspec.json.Decoder(_Page).decode


class TableScanner:
    """Scans a table in segments. Reads are consistent: a page must hold all that was written before it was read
    (connector.snapshot.versions), which costs twice the units of other reads. A place is a LastEvaluatedKey as JSON.
    """

    whole_state_at_once = False

    def __init__(
        self,
        table: str,
        *,
        segments: int,
        page_items: int,
        region: str,
        endpoint: str | None,
        profile: str | None,
        timeout_s: float,
    ) -> None:
        self.name = table
        self._segments = segments
        self._page_items = page_items
        self._region = region
        self._key_names: Sequence[str] = ()
        self._aws = AwsJson(
            "dynamodb", region=region, endpoint=endpoint, profile=profile, timeout_s=timeout_s, calls_max=segments
        )
        self._is_open = False

    async def open(self, segments: int | None) -> ScanFacts:
        """Learn the table's key. Raises ConfigError where there is no such table."""
        if not self._is_open:
            await self._aws.open()
            self._is_open = True
        try:
            described = await self._ask("DescribeTable", {"TableName": self.name}, _described)
        except NotFound as error:
            raise ConfigError(f"the table {self.name!r} cannot be scanned: {error}") from error
        self._key_names = sorted(element.name for element in described.table.key_schema)
        self._segments = segments or self._segments
        return ScanFacts(
            segments=self._segments,
            items_estimate=described.table.items,
            server_ms=self._aws.server_ms,
            region=self._region,
        )

    async def key_names(self) -> Sequence[str]:
        """The names of the key's attributes, sorted."""
        if not self._key_names:
            await self.open(None)
        return self._key_names

    def after(self, segment: int) -> int:
        """Segments are independent of each other."""
        return 0

    def version_ms(self, segment: int) -> int | None:
        """The snapshot's own."""
        return None

    async def page(self, segment: int, place: str) -> ItemPage:
        """One Scan."""
        arguments: dict[str, Any] = {
            "TableName": self.name,
            "Segment": segment,
            "TotalSegments": self._segments,
            "ConsistentRead": True,
            "Limit": self._page_items,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if place != BEGIN:
            arguments["ExclusiveStartKey"] = msgspec.Raw(place.encode())
        page = await self._ask("Scan", arguments, _page)
        return ItemPage(
            [item_with_keys(bytes(raw), self._key_names) for raw in page.items],
            None if page.last_key is _ABSENT else bytes(page.last_key).decode(),
            page.capacity.units if page.capacity else 0.0,
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._aws.close()

    async def _ask(self, operation: str, arguments: Mapping[str, Any], decode: Callable[[bytes], T]) -> T:
        content = await self._aws.call(operation, arguments)
        try:
            return decode(content)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{operation}: the answer cannot be read: {error}") from error
