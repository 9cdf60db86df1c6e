"""A codec: a record is a whole number, and each number is an item that is inserted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from connector.change import Change, EventName, Record, ShardId
from connector.codecs.protocol import Decoded, Undecodable
from connector.documents import Numbers
from connector.errors import DecodeError


class NumberImages:
    """An image is the number's digits."""

    def matchable(self, image: bytes) -> dict[str, Any]:
        return {"number": {"N": image.decode()}}

    def values(self, image: bytes) -> dict[str, Any]:
        return {"number": int(image)}

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        return {"number": int(image)}

    def envelope(self, record: Record, index: int) -> dict[str, Any]:
        return {"number": int(record.value or b"0")}


IMAGES = NumberImages()


class NumbersCodec:
    """``b"7"`` → an INSERT of the item whose key is 7."""

    name: ClassVar[str] = "numbers"

    def decode(self, shard: ShardId, records: Sequence[Record]) -> Decoded:
        decoded = Decoded([], [])
        for record in records:
            if record.value is None or not record.value.isdigit():
                error = DecodeError("not_a_number", "the record is not a whole number")
                decoded.undecodable.append(Undecodable(record, error))
                continue
            change = Change(
                event_name=EventName.INSERT,
                key=f'{{"number":{int(record.value)}}}',
                keys={"number": int(record.value)},
                shard=shard,
                record=record,
                images=IMAGES,
                event_id=f"{shard}:{record.position}:0",
                timestamp_ms=record.timestamp_ms,
                new_image=record.value,
            )
            decoded.changes.append(change)
        return decoded
