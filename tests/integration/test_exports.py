"""A pipeline that begins with exports in S3: a full one, an incremental one, then the stream."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.daemon import DaemonProcess, wait_until
from tests.integration.table_harness import CREDENTIALS, Table, embedded
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.servers.moto import MotoServer

pytestmark = [pytest.mark.servers]

Item = dict[str, Any]
FILES = 3


class Bucket:
    """Exports as DynamoDB writes them."""

    def __init__(self, server: MotoServer) -> None:
        self.name = f"exports-{uuid4().hex[:8]}"
        self._s3 = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key_id,
            aws_secret_access_key=server.secret_access_key,
        )
        place = {"LocationConstraint": server.region}
        self._s3.create_bucket(Bucket=self.name, CreateBucketConfiguration=place)

    def export(self, table: Table, lines: Sequence[Item], **told: Any) -> str:
        """Write one; returns the address of its summary."""
        folder = f"nightly/AWSDynamoDB/{uuid4().hex[:14]}"
        files = []
        for number in range(FILES):
            part = lines[number::FILES]
            content = gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in part))
            key = f"{folder}/data/{uuid4().hex}.json.gz"
            self._s3.put_object(Bucket=self.name, Key=key, Body=content)
            digest = base64.b64encode(hashlib.md5(content).digest()).decode()
            files.append({"itemCount": len(part), "md5Checksum": digest, "etag": "x-1", "dataFileS3Key": key})
        listed = "".join(json.dumps(file) + "\n" for file in files)
        self._s3.put_object(Bucket=self.name, Key=f"{folder}/manifest-files.json", Body=listed.encode())
        summary = {
            "version": "2020-06-30",
            "tableArn": f"arn:aws:dynamodb:eu-central-1:123456789012:table/{table.name}",
            "s3Bucket": self.name,
            "s3Prefix": "nightly",
            "manifestFilesS3Key": f"{folder}/manifest-files.json",
            "itemCount": len(lines),
            "outputFormat": "DYNAMODB_JSON",
            **told,
        }
        key = f"{folder}/manifest-summary.json"
        self._s3.put_object(Bucket=self.name, Key=key, Body=json.dumps(summary).encode())
        return f"s3://{self.name}/{key}"


@pytest.fixture
def table(dynamodb_local: DynamoDBLocal) -> Iterator[Table]:
    made = Table(dynamodb_local, stream=False)
    yield made
    made.client.delete_table(TableName=made.name)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key(item: Item) -> Item:
    return {"pk": item["pk"], "sk": item["sk"]}


def changed_since(before: Sequence[Item], after: Sequence[Item]) -> list[Item]:
    """The lines of an incremental export."""
    old = {json.dumps(key(item)): item for item in before}
    new = {json.dumps(key(item)): item for item in after}
    lines: list[Item] = []
    for name in old.keys() | new.keys():
        if old.get(name) == new.get(name):
            continue
        line: Item = {"Metadata": {"WriteTimestampMicros": {"N": "1680109764000000"}}, "Keys": json.loads(name)}
        if name in old:
            line["OldImage"] = old[name]
        if name in new:
            line["NewImage"] = new[name]
        lines.append(line)
    return lines


def config(table: Table, server: MotoServer, folder: Path, exports: list[str]) -> dict[str, Any]:
    search = {"type": "search", "path": str(folder / "search.db"), "index": "orders", "id": "{pk}|{sk}"}
    pipeline = {
        "source": table.source(start="earliest"),
        "snapshot": "initial",
        "scan": {"exports": exports, "s3_endpoint": server.endpoint, "page_items": 50},
        "checkpoints": {"path": str(folder / "checkpoints.db"), "every": "200ms"},
        "dead_letter": {"type": "file", "path": str(folder / "letters.jsonl")},
        "routes": {"search": {"sink": {**search, "fields": ["note"]}}},
    }
    return {"pipelines": {"orders": pipeline}}


def state_of(daemon: DaemonProcess) -> str:
    try:
        found = daemon.pipeline()["snapshot"]
    except OSError:
        return "unreachable"
    return str(found["state"]) if found else "none"


def test_exports_and_then_the_stream_are_the_table(table: Table, moto_server: MotoServer, tmp_path: Path) -> None:
    items = 300
    table.fill(items)
    bucket = Bucket(moto_server)
    first = table.items()
    made = datetime.now(UTC)
    full = bucket.export(table, [{"Item": item} for item in first], exportTime=iso(made - timedelta(hours=2)))
    # None of this is in a stream: only the exports tell of it.
    table.change(items, seed=1)
    second = table.items()
    lines = changed_since(first, second)
    assert any("NewImage" not in line for line in lines)
    times = {"exportFromTime": iso(made - timedelta(hours=2)), "exportToTime": iso(made)}
    incremental = bucket.export(table, lines, exportType="INCREMENTAL_EXPORT", **times)
    table.enable_stream()
    survivors = sorted(item["sk"]["N"] for item in second)
    for number in random.Random(2).sample(survivors, 40):
        table.client.delete_item(TableName=table.name, Key=table.key(int(number)))
    table.change(items, seed=3)

    daemon = DaemonProcess(
        tmp_path, "orders", config(table, moto_server, tmp_path, [full, incremental]), environment=CREDENTIALS
    )
    try:
        daemon.start()
        wait_until(lambda: state_of(daemon) == "done", 60, "the exports are read")
        truth = table.revisions()
        wait_until(lambda: embedded(tmp_path / "search.db", "orders") == truth, 60, "the index is the table")
        assert daemon.residues() == {0}
        assert daemon.stop() == 0
        # Once it was made, the exports are not asked for again.
        daemon.start()
        wait_until(lambda: state_of(daemon) == "done", 60, "it is remembered")
        assert daemon.stop() == 0
    finally:
        daemon.end()
    assert {0, 1, 3} <= set(truth.values())


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"outputFormat": "ION"}, "export in DynamoDB JSON"),
        ({"exportTime": iso(datetime.now(UTC) - timedelta(hours=30))}, "Make a new export"),
    ],
)
def test_an_export_that_cannot_begin_a_pipeline_stops_it_with_a_reason(
    table: Table, moto_server: MotoServer, tmp_path: Path, told: dict[str, Any], says: str
) -> None:
    table.fill(25)
    address = Bucket(moto_server).export(
        table, [{"Item": item} for item in table.items()], **{"exportTime": iso(datetime.now(UTC)), **told}
    )
    table.enable_stream()
    daemon = DaemonProcess(tmp_path, "orders", config(table, moto_server, tmp_path, [address]), environment=CREDENTIALS)
    try:
        daemon.start()
        assert daemon.wait(60) == 2
    finally:
        daemon.end()
    assert says in daemon.log.read_text()


def test_exports_behind_a_stream_that_was_read_already_are_refused(
    table: Table, moto_server: MotoServer, tmp_path: Path
) -> None:
    table.fill(25)
    address = Bucket(moto_server).export(
        table, [{"Item": item} for item in table.items()], exportTime=iso(datetime.now(UTC))
    )
    table.enable_stream()
    with_export = config(table, moto_server, tmp_path, [address])
    without = config(table, moto_server, tmp_path, [])
    without["pipelines"]["orders"]["snapshot"] = "never"
    before = DaemonProcess(tmp_path, "before", without, environment=CREDENTIALS)
    daemon = DaemonProcess(tmp_path, "orders", with_export, environment=CREDENTIALS)
    try:
        before.start()
        wait_until(lambda: before.ready() and bool(before.pipeline()["shards"]), 60, "the stream is read")
        assert before.stop() == 0
        daemon.start()
        assert daemon.wait(60) == 2
    finally:
        before.end()
        daemon.end()
    assert "nobody has read yet" in daemon.log.read_text()
