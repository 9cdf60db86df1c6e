"""Kinesis' API: what is asked, what is made of the answers, and how a loss is seen that the service does not tell."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from connector.sources.kinesis.api import ShardBusy
from connector.sources.streams.api import (
    DataTrimmed,
    Denied,
    IteratorExpired,
    NotFound,
    Stream,
    StreamShard,
    Throttled,
    Unavailable,
)
from connector.sources.streams.positions import After, AtTimestamp, Latest, TrimHorizon
from tests.coroutines import asynchronous
from tests.unit.sources.kinesis.aggregate import aggregate
from tests.unit.sources.kinesis.service import (
    ARN,
    CREATED_S,
    RETENTION_H,
    Service,
    page,
    refusal,
    speaking,
    summary,
)

STREAM = Stream(ARN, "orders/2026-09-21T14:13:20")
SHARD = "shardId-000000000007"
RETENTION_MS = RETENTION_H * 3_600_000
LAST = 49_680_535_350_863_635_875_226_129_990_384_863_108_037_904_507_827_388_418


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")


@asynchronous
async def test_a_stream_is_known_by_its_name_and_its_creation_and_says_how_long_it_keeps_records() -> None:
    service = Service()
    async with speaking(service) as api:
        assert await api.streams() == [STREAM]
        assert api.retention_s == RETENTION_H * 3600
    async with speaking(service, stream=ARN) as api:
        assert await api.streams() == [STREAM]
    assert service.asked_for("DescribeStreamSummary") == [{"StreamName": "orders"}, {"StreamARN": ARN}]


@asynchronous
async def test_a_stream_that_is_being_created_is_waited_for() -> None:
    service = Service()
    service.answers["DescribeStreamSummary"] = [summary(status="CREATING")]
    async with speaking(service) as api:
        with pytest.raises(Unavailable, match="still being created"):
            await api.streams()


@asynchronous
async def test_shards_are_listed_page_by_page_from_the_last_one_that_was_seen() -> None:
    service = Service()
    open_, closed = {"StartingSequenceNumber": "1"}, {"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"}
    service.answers["ListShards"] = [
        {
            "Shards": [
                {"ShardId": "s-0", "SequenceNumberRange": closed},
                {"ShardId": "s-1", "SequenceNumberRange": closed, "ParentShardId": "s-0"},
            ],
            "NextToken": "t",
        },
        {
            "Shards": [
                {
                    "ShardId": "s-2",
                    "SequenceNumberRange": open_,
                    "ParentShardId": "s-1",
                    "AdjacentParentShardId": "s-0",
                }
            ]
        },
    ]
    async with speaking(service) as api:
        first = await api.describe(STREAM, None)
        second = await api.describe(STREAM, first.next_after)
    assert list(first.shards) == [StreamShard("s-0", (), True), StreamShard("s-1", ("s-0",), True)]
    assert list(second.shards) == [StreamShard("s-2", ("s-1", "s-0"), False)]
    assert (first.next_after, second.next_after, first.ended) == ("s-1", None, False)
    assert service.asked_for("ListShards") == [
        {"StreamARN": ARN, "MaxResults": 1000},
        {"StreamARN": ARN, "MaxResults": 1000, "ExclusiveStartShardId": "s-1"},
    ]


@asynchronous
async def test_a_stream_that_was_made_anew_is_not_the_one_that_was_read() -> None:
    service = Service()
    service.answers["DescribeStreamSummary"] = [summary(created_s=CREATED_S + 100)]
    service.answers["GetShardIterator"] = [refusal("InvalidArgumentException")]
    async with speaking(service) as api:
        assert (await api.streams())[0].name > STREAM.name
        with pytest.raises(NotFound, match="was deleted"):
            await api.describe(STREAM, None)
        with pytest.raises(NotFound, match="was deleted"):
            await api.iterator(STREAM, SHARD, After(LAST))
    assert service.asked_for("ListShards") == []


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        (TrimHorizon(), {"ShardIteratorType": "TRIM_HORIZON"}),
        (Latest(), {"ShardIteratorType": "LATEST"}),
        (AtTimestamp(1_790_000_000_250), {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1_790_000_000.25}),
        (After(LAST), {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(LAST)}),
        (After(7), {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "7"}),
    ],
)
@asynchronous
async def test_an_iterator_begins_at_a_place(place: Any, asked: dict[str, Any]) -> None:
    service = Service()
    async with speaking(service) as api:
        await api.iterator(STREAM, SHARD, place)
    assert service.asked_for("GetShardIterator") == [{"StreamARN": ARN, "ShardId": SHARD, **asked}]


@asynchronous
async def test_records_come_with_their_numbers_times_and_keys_and_a_null_iterator_ends_the_shard() -> None:
    service = Service()
    service.answers["GetRecords"] = [
        page((LAST, 1_790_000_000.123, b"one"), behind_ms=1500),
        page((LAST + 9, 1_790_000_001.0, aggregate([("a", b"two"), ("b", b"three")])), then=None),
    ]
    async with speaking(service) as api:
        begun = await api.iterator(STREAM, SHARD, TrimHorizon())
        first = await api.records(begun, 1000)
        assert first.next_iterator is not None
        second = await api.records(first.next_iterator, 500)
    (one,) = first.records
    assert (one.position, one.value, one.key, one.timestamp_ms) == (LAST, b"one", b"k", 1_790_000_000_123)
    assert (first.behind_ms, second.behind_ms, second.next_iterator) == (1500, 0, None)
    assert [(each.position, each.part, each.key, each.value) for each in second.records] == [
        (LAST + 9, 0, b"a", b"two"),
        (LAST + 9, 1, b"b", b"three"),
    ]
    assert service.asked_for("GetRecords") == [
        {"ShardIterator": "begun", "Limit": 1000},
        {"ShardIterator": "next", "Limit": 500},
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ProvisionedThroughputExceededException", ShardBusy),
        ("LimitExceededException", Throttled),
        ("KMSThrottlingException", Throttled),
        ("ExpiredIteratorException", IteratorExpired),
        ("ResourceNotFoundException", NotFound),
        ("ResourceInUseException", Unavailable),
        ("InternalFailureException", Unavailable),
        ("AccessDeniedException", Denied),
        ("KMSAccessDeniedException", Denied),
    ],
)
@asynchronous
async def test_a_refusal_has_the_meaning_of_its_name(name: str, kind: type[Exception]) -> None:
    service = Service()
    service.answers["GetRecords"] = [refusal(name)]
    async with speaking(service) as api:
        begun = await api.iterator(STREAM, SHARD, TrimHorizon())
        with pytest.raises(kind, match=name):
            await api.records(begun, 1000)


async def read_behind(service: Service, *pages: dict[str, Any]) -> list[int]:
    """The numbers of what is read behind LAST."""
    service.answers["GetRecords"] = list(pages)
    found: list[int] = []
    async with speaking(service) as api:
        await api.streams()
        iterator: str | None = await api.iterator(STREAM, SHARD, After(LAST))
        for _ in pages:
            assert iterator is not None
            read = await api.records(iterator, 1000)
            found += [record.position for record in read.records]
            iterator = read.next_iterator
    return found


@asynchronous
async def test_where_the_last_record_comes_first_nothing_is_missing() -> None:
    days_ago_s = time.time() - RETENTION_H * 3600
    with capture_logs() as said:
        found = await read_behind(Service(), page(), page((LAST, days_ago_s, b"1")), page((LAST + 5, days_ago_s, b"2")))
    assert found == [LAST, LAST + 5]
    assert said == []


@asynchronous
async def test_where_the_last_record_is_gone_and_what_is_left_is_as_old_as_can_be_records_are_lost() -> None:
    old_s = time.time() - RETENTION_H * 3600 + 60
    with pytest.raises(DataTrimmed, match=r"the oldest one left is 48\.0 h old"):
        await read_behind(Service(), page(behind_ms=60_000), page((LAST + 5, old_s, b"2")))


@asynchronous
async def test_a_shard_that_was_idle_for_longer_than_the_retention_has_lost_nothing_but_it_is_told() -> None:
    with capture_logs() as said:
        found = await read_behind(Service(), page(), page((LAST + 5, time.time() - 60, b"2")))
    assert found == [LAST + 5]
    assert [(each["log_level"], each["shard"]) for each in said] == [("warning", SHARD)]


@asynchronous
async def test_a_place_that_the_service_refuses_is_looked_for_from_the_oldest_record_on() -> None:
    service = Service()
    service.answers["GetShardIterator"] = [refusal("InvalidArgumentException"), {"ShardIterator": "horizon"}]
    old_s = time.time() - RETENTION_H * 3600 + 60
    with pytest.raises(DataTrimmed):
        await read_behind(service, page((LAST + 5, old_s, b"2")))
    assert [each["ShardIteratorType"] for each in service.asked_for("GetShardIterator")] == [
        "AT_SEQUENCE_NUMBER",
        "TRIM_HORIZON",
    ]


@asynchronous
async def test_a_service_that_refuses_everything_loses_nothing() -> None:
    service = Service()
    service.answers["GetShardIterator"] = [refusal("AccessDeniedException")]
    async with speaking(service) as api:
        with pytest.raises(Denied, match="AccessDenied"):
            await api.iterator(STREAM, SHARD, After(LAST))


@asynchronous
async def test_an_iterator_that_is_stuck_behind_the_trim_horizon_is_replaced_once() -> None:
    service = Service()
    service.answers["GetShardIterator"] = [{"ShardIterator": "begun"}, {"ShardIterator": "horizon"}]
    found = await read_behind(
        service,
        page(behind_ms=RETENTION_MS, then="stuck"),
        page(behind_ms=RETENTION_MS, then="on"),
        page(behind_ms=RETENTION_MS - 1, then="on"),
        page((LAST + 5, time.time() - 60, b"2")),
    )
    assert found == [LAST + 5]
    assert [each["ShardIterator"] for each in service.asked_for("GetRecords")] == ["begun", "horizon", "on", "on"]
    assert len(service.asked_for("GetShardIterator")) == 2


@asynchronous
async def test_an_answer_that_cannot_be_read_is_a_passing_failure() -> None:
    service = Service()
    service.answers["GetRecords"] = [{"Records": [{"SequenceNumber": "1"}]}]
    async with speaking(service) as api:
        begun = await api.iterator(STREAM, SHARD, TrimHorizon())
        with pytest.raises(Unavailable, match="cannot be read"):
            await api.records(begun, 1000)
