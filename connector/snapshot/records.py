"""Items as records: what the stream would have said if each had just been inserted, so that the codec of the stream,
filters, dead letters and replays take them like any other change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from connector.change import Position, Record
from connector.errors import SourceError
from connector.snapshot.protocol import Item

EVENT_SOURCE = "millrace:snapshot"
"""``eventSource`` of a snapshot's records, for patterns that tell them from the stream's (``aws:dynamodb``)."""

_decode_item = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

ItemFilter = Callable[[dict[str, Any]], bool]
"""Whether an item (typed JSON) is wanted."""


def item_with_keys(image: bytes, key_names: Sequence[str]) -> Item:
    """An item with its key cut out. ``key_names`` sorted. Raises SourceError for an item without its key."""
    try:
        attributes = _decode_item(image)
        keys = _encode({name: attributes[name] for name in key_names})
    except (msgspec.DecodeError, KeyError) as error:
        raise SourceError(f"an item of the snapshot cannot be read: {type(error).__name__}: {error}") from error
    return Item(keys, image)


class RecordMaker:
    """Makes the records of one snapshot."""

    def __init__(self, snapshot: str, *, region: str, wanted: ItemFilter | None = None) -> None:
        self._snapshot = snapshot
        self._head = f'","eventSource":"{EVENT_SOURCE}","awsRegion":'.encode() + _encode(region) + b',"eventID":'
        self._wanted = wanted

    def records(self, items: Sequence[Item], position: Position, time_ms: int) -> list[Record]:
        """One record for each item that is wanted, from this position on."""
        seconds, rest = divmod(time_ms, 1000)
        assert not rest, "a snapshot's time is a whole second: formats may carry no more"
        made: list[Record] = []
        for item in items:
            unwanted = self._wanted is not None and item.image is not None and not self._wanted(_decode(item.image))
            if unwanted:
                continue
            made.append(Record(position + len(made), self._value(item, seconds), timestamp_ms=time_ms))
        return made

    def _value(self, item: Item, seconds: int) -> bytes:
        name = b"INSERT" if item.image is not None else b"REMOVE"
        event_id = _encode(f"snapshot:{self._snapshot}:{item.keys.decode()}")
        image = b"" if item.image is None else b',"NewImage":' + item.image
        return b"".join(
            (
                b'{"eventName":"',
                name,
                self._head,
                event_id,
                b',"dynamodb":{"ApproximateCreationDateTime":',
                str(seconds).encode(),
                b',"Keys":',
                item.keys,
                image,
                b"}}",
            )
        )
