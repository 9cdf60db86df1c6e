"""Items as records that the stream's codec reads like any other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connector.change import Change, EventName
from connector.codecs.dynamodb import DynamoDBCodec
from connector.errors import SourceError
from connector.filters import compile_when, parse_pattern
from connector.snapshot.protocol import Item, is_snapshot_shard, segment_of, shard_of
from connector.snapshot.records import RecordMaker, item_with_keys
from tests.simulation.loop import EPOCH_MS

SNAPSHOT = "20260131T120000Z-0123abcd"
IMAGE = {"sk": {"N": "7"}, "total": {"N": "12.50"}, "pk": {"S": 'customer "é"'}, "tags": {"SS": ["a"]}}


def decode(*items: Item, maker: RecordMaker | None = None) -> list[Change]:
    maker = maker or RecordMaker(SNAPSHOT, region="eu-central-1")
    decoded = DynamoDBCodec().decode(shard_of(SNAPSHOT, 0), maker.records(items, 100, EPOCH_MS))
    assert not decoded.undecodable
    return decoded.changes


def an_item(image: dict[str, Any] = IMAGE) -> Item:
    return item_with_keys(msgspec.json.encode(image), ["pk", "sk"])


def test_an_item_is_an_insert_with_its_whole_image() -> None:
    (change,) = decode(an_item())
    assert change.event_name is EventName.INSERT
    assert change.keys == {"pk": 'customer "é"', "sk": 7}
    assert msgspec.json.decode(change.new_image or b"") == IMAGE
    assert change.old_image is None
    assert change.timestamp_ms == EPOCH_MS


def test_an_event_id_names_the_snapshot_and_the_key() -> None:
    (change,) = decode(an_item())
    assert change.event_id == f"snapshot:{SNAPSHOT}:{change.key}"


def test_an_item_has_the_key_of_the_streams_records_of_it() -> None:
    stream = {"eventName": "REMOVE", "dynamodb": {"Keys": {"sk": {"N": "7"}, "pk": IMAGE["pk"]}}}
    (record,) = RecordMaker(SNAPSHOT, region="").records([an_item()], 0, EPOCH_MS)
    record.value = msgspec.json.encode(stream)
    (removal,) = DynamoDBCodec().decode("orders/0", [record]).changes
    assert removal.key == decode(an_item())[0].key


def test_patterns_can_tell_a_snapshots_records() -> None:
    (change,) = decode(an_item())
    assert compile_when([parse_pattern({"eventSource": ["millrace:snapshot"]})])(change)
    assert compile_when([parse_pattern({"dynamodb": {"NewImage": {"tags": {"SS": ["a"]}}}})])(change)


def test_an_item_that_is_known_to_be_gone_is_a_removal() -> None:
    (change,) = decode(Item(msgspec.json.encode({"pk": {"S": "a"}}), None))
    assert change.event_name is EventName.REMOVE


def test_items_that_are_not_wanted_are_left_out_and_positions_follow_each_other() -> None:
    maker = RecordMaker(SNAPSHOT, region="", wanted=lambda image: image["sk"] != {"N": "8"})
    items = [an_item({**IMAGE, "sk": {"N": str(number)}}) for number in (7, 8, 9)]
    assert [(change.keys["sk"], change.position) for change in decode(*items, maker=maker)] == [(7, 100), (9, 101)]


@pytest.mark.parametrize("image", [b"[]", b"{", b'{"pk": {"S": "a"}}'])
def test_an_item_without_its_key_ends_the_snapshot(image: bytes) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        item_with_keys(image, ["pk", "sk"])


@pytest.mark.parametrize("shard", ["snapshot/2026-01-31T12:00:00.000/shardId-0001", "snapshot/3", "orders/0"])
def test_a_table_may_be_named_snapshot(shard: str) -> None:
    assert not is_snapshot_shard(shard)


def test_a_snapshots_shards_are_known_by_their_names() -> None:
    assert is_snapshot_shard(shard_of(SNAPSHOT, 12))
    assert segment_of(shard_of(SNAPSHOT, 12)) == 12
