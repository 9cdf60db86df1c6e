"""An export's manifests and data files, in the shapes that DynamoDB's developer guide documents."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
from typing import Any

import msgspec
import pytest

from connector.errors import ConfigError, SourceError
from connector.snapshot.datafile import FILE_BROKE, DataFileReader
from connector.snapshot.manifests import DataFile, Summary, check_order, place_in_s3, read_files, read_summary
from connector.snapshot.protocol import Item

ADDRESS = "s3://exports/nightly/AWSDynamoDB/01345678901234-abc12345/manifest-summary.json"
FULL: dict[str, Any] = {
    "version": "2020-06-30",
    "exportArn": "arn:aws:dynamodb:us-east-1:123456789012:table/orders/export/01234567890123-a1b2c3d4",
    "startTime": "2020-11-04T07:28:34.028Z",
    "endTime": "2020-11-04T07:33:43.897Z",
    "tableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/orders",
    "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
    "exportTime": "2020-11-04T07:28:34.028Z",
    "s3Bucket": "exports",
    "s3Prefix": "nightly",
    "s3SseAlgorithm": "AES256",
    "s3SseKmsKeyId": None,
    "manifestFilesS3Key": "nightly/AWSDynamoDB/01345678901234-abc12345/manifest-files.json",
    "billedSizeBytes": 0,
    "itemCount": 8,
    "outputFormat": "DYNAMODB_JSON",
}


def summary(**changed: Any) -> Summary:
    return read_summary(msgspec.json.encode({**FULL, **changed}), ADDRESS, "orders")


def incremental(begin: str, end: str) -> Summary:
    return summary(exportType="INCREMENTAL_EXPORT", exportTime=None, exportFromTime=begin, exportToTime=end)


def a_file(*lines: Any, **changed: Any) -> tuple[bytes, DataFile]:
    content = gzip.compress(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    told = {"itemCount": len(lines), "md5Checksum": digest, "etag": "x-1", "dataFileS3Key": "data/a.json.gz", **changed}
    (file,) = read_files(msgspec.json.encode(told) + b"\n", ADDRESS)
    return content, file


def reader(content: bytes, file: DataFile, *, full: bool = True) -> DataFileReader:
    return DataFileReader(io.BytesIO(content), file, ["pk"], full=full)


def an_item(number: int) -> dict[str, Any]:
    return {"Item": {"pk": {"S": str(number)}, "n": {"N": str(number)}}}


def test_an_address_is_a_bucket_and_a_key() -> None:
    assert place_in_s3(ADDRESS) == (
        "exports",
        "nightly/AWSDynamoDB/01345678901234-abc12345/manifest-summary.json",
    )


def test_a_full_export_is_of_its_export_time() -> None:
    assert summary().full
    assert summary().made_ms == 1_604_474_914_028


def test_an_incremental_one_is_of_the_end_of_its_time() -> None:
    one = incremental("2020-11-04T07:28:34.028Z", "2020-11-05T07:28:34Z")
    assert not one.full
    assert one.made_ms == 1_604_561_314_000


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"outputFormat": "ION"}, "format ION cannot be read"),
        ({"tableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/customers"}, "another table"),
        ({"exportTime": None}, "no time"),
        ({"exportTime": "yesterday"}, "not the summary"),
        ({"manifestFilesS3Key": 7}, "not the summary"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        summary(**changed)


def test_incremental_exports_follow_a_full_one_without_a_gap() -> None:
    first = incremental("2020-11-04T07:28:34.028Z", "2020-11-05T00:00:00Z")
    second = incremental("2020-11-05T00:00:00Z", "2020-11-06T00:00:00Z")
    check_order([summary(), first, second], ["full", "first", "second"])
    with pytest.raises(ConfigError, match="second: begins at"):
        check_order([summary(), second], ["full", "second"])
    with pytest.raises(ConfigError, match="must be a full one"):
        check_order([first], ["first"])
    with pytest.raises(ConfigError, match="must be a full one"):
        check_order([summary(), summary()], ["full", "full"])


def test_files_without_items_are_left_out() -> None:
    lines = [{"itemCount": 0, "dataFileS3Key": "a"}, {"itemCount": 2, "dataFileS3Key": "b"}]
    files = read_files(b"\n".join(map(msgspec.json.encode, lines)), ADDRESS)
    assert [file.key for file in files] == ["b"]
    with pytest.raises(ConfigError, match="not a list"):
        read_files(b"nothing", ADDRESS)


def test_a_file_is_read_in_pages_and_from_any_line() -> None:
    content, file = a_file(*map(an_item, range(5)))
    one = reader(content, file)
    assert [len(one.read(2)[0]) for _ in range(2)] == [2, 2]
    assert one.read(2) == ([Item(b'{"pk":{"S":"4"}}', b'{"pk":{"S":"4"},"n":{"N":"4"}}')], True)
    again = reader(content, file)
    again.skip_to(4)
    items, over = again.read(10)
    assert [item.keys for item in items] == [b'{"pk":{"S":"4"}}']
    assert over


def test_an_incremental_file_tells_what_was_deleted() -> None:
    content, file = a_file(
        {
            "Metadata": {"WriteTimestampMicros": {"N": "1680109764000000"}},
            "Keys": {"pk": {"S": "a"}},
            "NewImage": {"pk": {"S": "a"}, "n": {"N": "1"}},
            "OldImage": {"pk": {"S": "a"}},
        },
        {"Metadata": {}, "Keys": {"pk": {"S": "b"}}, "OldImage": {"pk": {"S": "b"}}},
    )
    items, over = reader(content, file, full=False).read(10)
    assert over
    assert items == [
        Item(b'{"pk":{"S":"a"}}', b'{"pk":{"S":"a"},"n":{"N":"1"}}'),
        Item(b'{"pk":{"S":"b"}}', None),
    ]


def test_a_file_that_is_not_what_its_manifest_says_ends_the_snapshot() -> None:
    content, file = a_file(an_item(1), an_item(2), itemCount=3)
    with pytest.raises(SourceError, match="has 2 items, its manifest says 3"):
        reader(content, file).read(10)
    content, file = a_file(an_item(1), md5Checksum="x")
    with pytest.raises(SourceError, match="damaged"):
        reader(content, file).read(10)
    content, file = a_file({"Other": {}})
    with pytest.raises(SourceError, match="line 1 is not an item"):
        reader(content, file).read(10)
    content, file = a_file(an_item(1))
    with pytest.raises(SourceError, match="shorter"):
        reader(content, file).skip_to(2)


def test_a_connection_that_breaks_is_no_end() -> None:
    content, file = a_file(*map(an_item, range(50)))
    with pytest.raises(FILE_BROKE):
        reader(content[:-20], file).read(100)
