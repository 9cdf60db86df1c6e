"""DynamoDB Streams, read from DynamoDB Local: the source alone, and the daemon while somebody writes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connector.checkpoints.protocol import SHARD_END, Checkpoint
from connector.errors import ConfigError, SourceError
from connector.sources.dynamodb_streams.api import DynamoDBStreamsApi
from connector.sources.dynamodb_streams.config import DynamoDBStreamsConfig
from connector.sources.streams.api import Denied, NotFound, Stream
from connector.sources.streams.positions import After, Latest, TrimHorizon
from tests.coroutines import asynchronous
from tests.daemon import DaemonProcess, wait_until
from tests.integration.dynamodb_harness import Table, Writer, environment, opened
from tests.samples.recorder import lambda_shape
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.unit.sources.harness import MemoryCheckpoints


@pytest.fixture
def table(dynamodb_local: DynamoDBLocal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    environment(dynamodb_local, monkeypatch)
    made = Table(dynamodb_local)
    yield made
    made.drop()


def numbers(values: list[bytes | None]) -> list[int]:
    """The orders that records are about."""
    return [int(msgspec.json.decode(value or b"")["dynamodb"]["Keys"]["sk"]["S"][6:]) for value in values]


@asynchronous
async def test_a_table_is_read_from_its_first_record_and_on_from_a_checkpoint(table: Table) -> None:
    table.put(*range(30))
    async with opened(table) as first:
        await first.reading.until(30)
        assert numbers(first.reading.values) == list(range(30))
        (shard,) = first.listener.owned
        assert shard.startswith(f"{table.name}/20")
        checkpoints = first.checkpoints
        checkpoints.saved[shard] = Checkpoint(first.reading.next_positions[shard], 5)
    table.put(*range(30, 40))
    async with opened(table, checkpoints) as second:
        await second.reading.until(10)
        assert numbers(second.reading.values) == list(range(30, 40))
        assert second.listener.owned[shard] == checkpoints.saved[shard]


@asynchronous
async def test_a_record_is_byte_for_byte_what_the_service_sent_and_equals_what_boto3_makes_of_it(table: Table) -> None:
    table.put(1)
    async with opened(table) as source:
        await source.reading.until(1)
        (value,) = source.reading.values
    described = table.streams.describe_stream(StreamArn=table.arn())["StreamDescription"]
    iterator = table.streams.get_shard_iterator(
        StreamArn=table.arn(), ShardId=described["Shards"][0]["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = table.streams.get_records(ShardIterator=iterator)["Records"]
    assert msgspec.json.decode(value or b"") == lambda_shape(record)


@asynchronous
async def test_latest_begins_with_what_is_written_from_now_on_and_stays_there_over_a_crash(table: Table) -> None:
    table.put(1, 2, 3)
    async with opened(table, start="latest") as source:
        while not source.listener.owned:
            await source.reading.once()
        (checkpoint,) = source.checkpoints.saved.values()
        assert checkpoint.position < 0, "the moment is saved before anything was read"
        await source.reading.for_a_while(10)
        table.put(4)
        await source.reading.until(1)
        assert numbers(source.reading.values) == [4]
        checkpoints = source.checkpoints
    async with opened(table, checkpoints, start="latest") as again:
        await again.reading.until(1)
        assert 4 in numbers(again.reading.values), "it was not checkpointed"


@asynchronous
async def test_another_view_type_is_another_stream_which_is_read_after_the_first_one(table: Table) -> None:
    table.put(*range(10))
    async with opened(table, discover_every=1.0) as source:
        await source.reading.until(5, records_max=5)
        table.switch("KEYS_ONLY")
        table.put(*range(10, 20))
        await source.reading.until(20)
        assert numbers(source.reading.values) == list(range(20))
        first, second = source.reading.records
        assert source.listener.ended_shards == [first]
        told = [(what, shards) for what, shards in source.listener.told if what == "assigned"]
        assert [list(shards) for _, shards in told] == [[first], [second]]  # type: ignore[call-overload]


@asynchronous
async def test_a_stream_that_was_replaced_while_nobody_read_is_finished_first(table: Table) -> None:
    table.put(*range(5))
    checkpoints = MemoryCheckpoints()
    async with opened(table, checkpoints) as source:
        await source.reading.until(3, records_max=3)
        (shard,) = source.listener.owned
        checkpoints.saved[shard] = Checkpoint(source.reading.next_positions[shard])
    table.switch("NEW_IMAGE")
    table.put(*range(5, 8))
    async with opened(table, checkpoints) as again:
        await again.reading.until(5)
        assert numbers(again.reading.values) == [3, 4, 5, 6, 7]


@asynchronous
async def test_a_single_stream_ends_the_source_when_it_is_disabled(table: Table) -> None:
    table.put(*range(5))
    arn = table.arn()
    table.disable()
    async with opened(table, stream_arn=arn) as source:
        await source.reading.to_the_end()
        assert numbers(source.reading.values) == list(range(5))
        assert [one.position for one in source.checkpoints.saved.values()] == [SHARD_END]


@asynchronous
async def test_a_disabled_stream_without_a_successor_is_waited_with_and_told(table: Table) -> None:
    table.put(1)
    table.disable()
    async with opened(table) as source:
        async with asyncio.timeout(30):
            while "waiting for a new one" not in source.source.last_error:
                await source.reading.once()
        assert source.source.assigned_all


@asynchronous
async def test_a_missing_table_and_one_without_a_stream_are_told_at_once(table: Table) -> None:
    with pytest.raises(ConfigError, match="has no stream"):
        async with opened(table, name="no-such-table"):
            pass
    with pytest.raises(ConfigError, match="not found"):
        async with opened(table, stream_arn=table.arn().replace("/20", "/19")):
            pass


@asynchronous
async def test_a_stream_with_an_unfinished_checkpoint_that_is_gone_stops_the_source(table: Table) -> None:
    table.put(1)
    checkpoints = MemoryCheckpoints()
    checkpoints.saved[f"{table.name}/2020-01-01T00:00:00.000/shardId-00000001577836800000-aaaaaaaa"] = Checkpoint(7)
    async with opened(table, checkpoints, discover_every=1.0) as source:
        with pytest.raises(SourceError, match="gone before it was read to its end"):
            await source.reading.until(10)
    checkpoints.saved[f"{table.name}/2020-01-01T00:00:00.000/shardId-00000001577836800000-aaaaaaaa"] = Checkpoint(7)
    async with opened(table, checkpoints, discover_every=1.0, trimmed="skip") as source:
        await source.reading.until(1)
        async with asyncio.timeout(30):
            while not source.source.skipped:
                await source.reading.once()
        assert all(not shard.startswith(f"{table.name}/2020") for shard in checkpoints.saved)


@asynchronous
async def test_the_service_answers_as_the_simulation_s_model_does(table: Table) -> None:
    """What the model (tests.simulation.streams.model) takes for granted, where DynamoDB Local does the same."""
    table.put(1, 2, 3)
    config = DynamoDBStreamsConfig(
        table=table.name, region=table.server.region, endpoint=table.server.endpoint, start="earliest"
    )
    api = DynamoDBStreamsApi(config)
    await api.open()
    try:
        (stream,) = await api.streams()
        page = await api.describe(stream, None)
        (shard,) = page.shards
        assert (shard.parents, shard.closed, page.next_after, page.ended) == ((), False, None, False)
        assert (await api.describe(stream, shard.id)).shards == [], "a listing goes on after a shard"

        async def read(place: TrimHorizon | Latest | After) -> list[int]:
            records = await api.records(await api.iterator(stream, shard.id, place), 1000)
            assert records.next_iterator is not None, "the end of the records is not the end of an open shard"
            return [record.position for record in records.records]

        first, second, third = await read(TrimHorizon())
        assert await read(After(first)) == [second, third]
        assert await read(After(third)) == [], "an empty page, with a next iterator"
        assert await read(Latest()) == []
        one = await api.records(await api.iterator(stream, shard.id, TrimHorizon()), 1)
        assert [record.position for record in one.records] == [first]
        assert one.next_iterator is not None
        assert [record.position for record in (await api.records(one.next_iterator, 1)).records] == [second]
        with pytest.raises(NotFound):
            await api.iterator(stream, shard.id[:-1] + "x", TrimHorizon())
        with pytest.raises(NotFound):
            await api.describe(Stream(stream.id.replace(table.name, "nobody"), "nobody/1"), None)
        with pytest.raises(Denied, match="Invalid ShardIterator"):
            await api.records("nonsense", 1)

        table.disable()
        page = await api.describe(stream, None)
        assert (page.shards[0].closed, page.ended) == (True, True)
        last = await api.records(await api.iterator(stream, shard.id, After(second)), 1000)
        assert ([record.position for record in last.records], last.next_iterator) == ([third], None)
        table.dynamodb.update_table(
            TableName=table.name, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        )
        streams = await api.streams()
        assert streams[0] == stream
        assert streams[1].name > stream.name, "a later stream sorts later, and the old one is still listed"
    finally:
        await api.close()


def _config(table: Table, folder: Path, **source: Any) -> dict[str, Any]:
    return {
        "pipelines": {
            "orders": {
                "source": {
                    "type": "dynamodb_streams",
                    "format": "dynamodb",
                    "table": table.name,
                    "region": table.server.region,
                    "endpoint": table.server.endpoint,
                    "start": "earliest",
                    "discover_every": "1s",
                    "idle_every": "200ms",
                    **source,
                },
                "checkpoints": {"every": "200ms", **({} if source else {"path": str(folder / "checkpoints.db")})},
                "dead_letter": {"type": "sqlite", "path": str(folder / "letters.db")},
                "routes": {
                    "search": {
                        "sink": {
                            "type": "search",
                            "path": str(folder / "search.db"),
                            "index": "orders",
                            "id": "{pk}|{sk}",
                            "fields": ["text"],
                        }
                    },
                    "audit": {"sink": {"type": "audit", "url": f"sqlite:///{folder / 'audit.db'}"}},
                },
            }
        }
    }


def _documents(folder: Path) -> dict[str, dict[str, Any]]:
    with sqlite3.connect(folder / "search.db") as connection:
        rows = connection.execute('SELECT id, document FROM "orders:documents" WHERE document IS NOT NULL').fetchall()
    return {id_: msgspec.json.decode(document) for id_, document in rows}


def _audited(folder: Path) -> dict[str, list[str]]:
    """The audit table's event names by document id, in the order of their versions."""
    found: dict[str, list[str]] = {}
    with sqlite3.connect(folder / "audit.db") as connection:
        for keys, name in connection.execute("SELECT keys, event_name FROM audit ORDER BY length(version), version"):
            key = msgspec.json.decode(keys)
            found.setdefault(f"{key['pk']}|{key['sk']}", []).append(name)
    return found


def _all_audited(folder: Path, writer: Writer) -> bool:
    try:
        return sum(len(events) for events in _audited(folder).values()) >= writer.count
    except sqlite3.OperationalError:
        return False


def test_the_daemon_keeps_sinks_equal_to_a_table_while_it_is_written_killed_and_switched(
    table: Table, tmp_path: Path
) -> None:
    writer = Writer(table, seed=1)
    daemon = DaemonProcess(tmp_path, "streams", _config(table, tmp_path))
    try:
        daemon.start()
        for how in ("kill", "stop", "switch"):
            writing = threading.Thread(target=writer.write, args=(250,))
            writing.start()
            wait_until(daemon.ready, 60, "ready")
            writing.join(120)
            match how:
                case "kill":
                    daemon.kill()
                    daemon.start()
                case "stop":
                    assert daemon.stop() == 0
                    daemon.start()
                case "switch":
                    table.switch("NEW_AND_OLD_IMAGES")
        writer.write(100)
        wait_until(lambda: _all_audited(tmp_path, writer), 60, "every change is in the audit table")
        wait_until(lambda: all(shard["lag_records"] == 0 for shard in daemon.pipeline()["shards"]), 60, "lag is zero")
        assert daemon.residues() == {0}
        assert b'millrace_checkpoint_retention_used_ratio{pipeline="orders"' in daemon.get("/metrics")[1]
        assert daemon.stop() == 0
        assert _documents(tmp_path) == table.items()
        assert _audited(tmp_path) == writer.written
    finally:
        daemon.end()


def test_a_batch_job_ends_when_the_stream_is_read_to_its_tip(table: Table, tmp_path: Path) -> None:
    writer = Writer(table, seed=2)
    writer.write(200)
    daemon = DaemonProcess(tmp_path, "batch", _config(table, tmp_path))
    try:
        daemon.start("--until-caught-up")
        assert daemon.wait(120) == 0
        assert _documents(tmp_path) == table.items()
        assert _audited(tmp_path) == writer.written
    finally:
        daemon.end()


def test_two_replicas_with_leases_hand_a_shard_on_when_one_is_killed(table: Table, tmp_path: Path) -> None:
    leases = {"type": "sqlite", "path": str(tmp_path / "leases.db"), "duration": "2s"}
    config = _config(table, tmp_path, leases=leases)
    writer = Writer(table, seed=3)
    first, second = (DaemonProcess(tmp_path, name, config) for name in ("first", "second"))
    try:
        first.start()
        wait_until(first.ready, 60, "ready")
        wait_until(lambda: len(first.pipeline()["shards"]) == 1, 60, "the first one has the shard")
        second.start()
        writer.write(150)
        wait_until(second.ready, 60, "ready")
        first.kill()
        writer.write(150)
        wait_until(lambda: _all_audited(tmp_path, writer), 60, "the second one goes on")
        assert second.residues() == {0}
        assert second.stop() == 0
        assert _documents(tmp_path) == table.items()
        assert _audited(tmp_path) == writer.written
    finally:
        first.end()
        second.end()
