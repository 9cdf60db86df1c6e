"""Lines out of blocks of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import SourceError
from connector.sources.lines import CUT_BYTES_KEPT, LineSplitter


def split(data: bytes, block_bytes: int, line_bytes_max: int = 1000) -> LineSplitter:
    lines = LineSplitter(0, line_bytes_max)
    for start in range(0, len(data), block_bytes):
        lines.feed(data[start : start + block_bytes])
    return lines


@given(
    st.lists(st.binary(max_size=30).map(lambda line: b"x" + line.replace(b"\n", b"")), max_size=30), st.integers(1, 50)
)
def test_every_line_is_one_record_at_its_own_offset_however_the_blocks_fall(
    lines: list[bytes], block_bytes: int
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = split(data, block_bytes)
    records = splitter.take(1000)
    assert [record.value for record in records] == lines
    for record in records:
        assert record.value is not None
        assert data[record.position : record.position + len(record.value)] == record.value
    assert splitter.next_position == len(data)


def test_empty_lines_make_no_record_but_the_position_moves_past_them() -> None:
    splitter = split(b"\n\r\n  \nA\n\n", 3)
    assert [(record.position, record.value) for record in splitter.take(10)] == [(6, b"A")]
    assert splitter.next_position == 9


def test_an_unfinished_line_waits_for_its_end_and_is_a_line_when_there_is_no_more() -> None:
    splitter = split(b"one\ntw", 100)
    assert [record.value for record in splitter.take(10)] == [b"one"]
    assert (splitter.next_position, splitter.fed_position) == (4, 6)
    splitter.finish()
    assert [(record.position, record.value) for record in splitter.take(10)] == [(4, b"tw")]
    assert splitter.next_position == 6


@pytest.mark.parametrize("block_bytes", [7, 1000, 100_000])
def test_a_line_over_the_limit_is_cut_says_how_long_it_was_and_moves_no_other_line(block_bytes: int) -> None:
    long = b"{" + b"x" * 20_000
    splitter = split(b"before\n" + long + b"\nafter\n", block_bytes, line_bytes_max=10_000)
    before, cut, after = splitter.take(10)
    assert (before.value, after.value) == (b"before", b"after")
    assert cut.value is not None
    assert cut.value.startswith(long[:CUT_BYTES_KEPT] + b"\x00")
    assert b"20001" in cut.value
    assert len(cut.value) < CUT_BYTES_KEPT + 100
    assert (cut.position, after.position) == (7, 7 + 20_002)


def test_taking_a_few_at_a_time_loses_nothing() -> None:
    splitter = split(b"".join(b"%d\n" % number for number in range(100)), 17)
    taken = []
    while records := splitter.take(7):
        taken += [record.value for record in records]
    assert taken == [b"%d" % number for number in range(100)]


def test_a_byte_order_mark_at_the_beginning_is_no_part_of_the_first_line() -> None:
    assert [record.value for record in split(b'\xef\xbb\xbf{"a":1}\n', 2).take(10)] == [b'{"a":1}']


@pytest.mark.parametrize("first", [b"{\n", b"\n[\n", b"\xef\xbb\xbf{\r\n"])
def test_a_document_over_several_lines_is_refused_with_what_to_do(first: bytes) -> None:
    with pytest.raises(SourceError, match="jq -c"):
        split(first + b'  "a": 1\n}\n', 1000)
