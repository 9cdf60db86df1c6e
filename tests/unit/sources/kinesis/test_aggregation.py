"""Records aggregated by the Kinesis Producer Library."""

from __future__ import annotations

from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.change import Record
from connector.sources.kinesis.aggregation import MAGIC, user_records
from tests.unit.sources.kinesis.aggregate import aggregate, field, message, sealed

KEYS_AND_DATA = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=300)), min_size=1, max_size=20)


@given(KEYS_AND_DATA)
def test_what_was_aggregated_comes_apart_again_in_its_order(told: list[tuple[str, bytes]]) -> None:
    whole = Record(42, aggregate(told), b"any", 1_790_000_000_123, (("h", b"v"),))
    records = user_records(whole)

    assert [(record.key, record.value) for record in records] == [(key.encode(), data) for key, data in told]
    assert [record.part for record in records] == list(range(len(told)))
    assert {(record.position, record.timestamp_ms, record.headers) for record in records} == {
        (42, 1_790_000_000_123, (("h", b"v"),))
    }


def test_a_message_written_by_amazons_library_comes_apart() -> None:
    """As aws_kinesis_agg 1.2.3 wrote it, with explicit hash keys."""
    value = bytes.fromhex(
        "f3899ac20a03706b300a03706b311201311201321a0b080010001a0564617461301a0b080110011a0564617461311a0b080010001a05"
        "6461746132cbd14cfcbfbf45098cec7fa59d36613d"
    )
    records = user_records(Record(1, value))
    assert [(record.key, record.value) for record in records] == [
        (b"pk0", b"data0"),
        (b"pk1", b"data1"),
        (b"pk0", b"data2"),
    ]


def test_tags_and_fields_that_are_not_known_are_passed_over() -> None:
    part = field(1, 0) + field(3, b"data") + field(4, field(1, b"tag")) + b"\x7d\x00\x00\x00\x00"
    body = field(1, b"pk") + field(3, part) + b"\x79" + bytes(8) + field(99, 7)
    (record,) = user_records(Record(1, sealed(body)))
    assert (record.key, record.value) == (b"pk", b"data")


def test_two_records_of_one_position_have_two_places() -> None:
    first, second = user_records(Record(7, aggregate([("a", b"1"), ("b", b"2")])))
    assert (first.place("s/0"), second.place("s/0")) == ("s/0:7", "s/0:7.1")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b'{"plain": 1}',
        MAGIC,
        MAGIC + b"too short",
        MAGIC + message([("a", b"1")]) + bytes(16),
        aggregate([("a", b"1")])[:-1],
        sealed(b"\x08"),
        sealed(field(1, b"pk")[:-1]),
        sealed(field(3, field(1, 0) + field(3, b"data"))),
        sealed(field(1, b"pk") + field(3, field(1, 0))),
        sealed(field(1, b"pk") + field(3, field(3, b"data"))),
        sealed(field(1, b"pk") + b"\x0b"),
        sealed(b"\x08" + b"\xff" * 11),
    ],
)
def test_what_only_looks_aggregated_is_somebodys_own_record(value: bytes | None) -> None:
    record = Record(1, value)
    assert user_records(record) == [record]


@given(st.binary(max_size=200))
def test_no_message_is_too_strange(body: bytes) -> None:
    whole = Record(1, sealed(body))
    records = user_records(whole)
    assert records == [whole] or all(record.position == 1 for record in records)


def test_the_seal_is_the_messages_md5() -> None:
    assert aggregate([("a", b"1")])[-16:] == md5(message([("a", b"1")])).digest()
