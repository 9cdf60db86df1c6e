from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from connector.checkpoints.protocol import Checkpoint
from connector.delivery.ledger import Ledger, Segment
from tests.unit.delivery.builders import ledger

SIZES_AND_GAPS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), min_size=1, max_size=12)


def opened(book: Ledger, next_position: int, pending: int, *, clock: int = 0, newest_ms: int = 0) -> Segment:
    segment = book.open_segment(next_position, 1, newest_ms)
    book.seal(segment, clock)
    segment.pending += pending
    book.release(segment, 0)
    return segment


@given(SIZES_AND_GAPS, st.randoms(use_true_random=False))
def test_the_watermark_is_contiguous_under_any_order_of_finishing(
    runs: list[tuple[int, int]], chance: random.Random
) -> None:
    book = ledger(start=Checkpoint(5, 1))
    position, segments = 5, []
    for number, (size, gap) in enumerate(runs):
        position += gap  # positions are sparse: compaction, transaction markers
        segments.append(opened(book, position, size, clock=10 + number))
    unfinished = [segment for segment in segments for _ in range(segment.pending)]
    chance.shuffle(unfinished)
    for segment in [None, *unfinished]:
        if segment is not None:
            segment.pending -= 1
            book.advance(0)
        done = 0
        while done < len(segments) and segments[done].pending == 0:
            done += 1
        expected = Checkpoint(segments[done - 1].next_position, 9 + done) if done else Checkpoint(5, 1)
        assert book.watermark == expected
        assert book.idle == (done == len(segments))


def test_a_segment_without_changes_moves_the_watermark_over_a_hole() -> None:
    book = ledger(start=Checkpoint(5, 77))
    segment = book.open_segment(900, 0, 0)
    book.seal(segment, book.clock)
    book.release(segment, 0)
    assert book.watermark == Checkpoint(900, 77)
    assert book.unsaved == Checkpoint(900, 77)


def test_an_empty_segment_behind_an_unfinished_one_waits_for_it() -> None:
    book = ledger()
    first = opened(book, 10, 1)
    opened(book, 20, 0)
    assert book.finished_position == 0
    first.pending -= 1
    assert book.advance(0)
    assert book.finished_position == 20


def test_a_segment_is_not_finished_before_every_route_had_its_turn() -> None:
    book = ledger()
    segment = book.open_segment(10, 1, 0)
    segment.pending += 1
    segment.pending -= 1  # one route has finished already what another has not seen yet
    assert not book.advance(0)
    assert not book.idle
    book.release(segment, 0)
    assert book.idle


def test_a_lost_shard_has_nothing_to_save() -> None:
    book = ledger(start=Checkpoint(5))
    opened(book, 10, 0)
    assert book.unsaved is not None
    book.lost = True
    assert book.unsaved is None


def test_what_is_saved_already_is_not_saved_again() -> None:
    book = ledger(start=Checkpoint(5))
    assert book.unsaved is None
    opened(book, 10, 0)
    book.saved = book.watermark
    assert book.unsaved is None


def test_a_clock_that_moved_alone_is_worth_saving() -> None:
    book = ledger(start=Checkpoint(5, 1))
    opened(book, 5, 0, clock=9)
    assert book.unsaved == Checkpoint(5, 9)


def test_the_ledger_starts_from_its_checkpoint() -> None:
    book = ledger(start=Checkpoint(5, 9))
    assert (book.clock, book.read_position, book.finished_position) == (9, 5, 5)
    assert ledger().finished_position == 0


def test_the_watermark_tells_when_it_moved_and_up_to_which_time() -> None:
    book = ledger()
    segment = opened(book, 10, 1, newest_ms=500)
    assert (book.moved_ms, book.done_ms) == (0, 0)
    segment.pending -= 1
    book.advance(42)
    assert (book.moved_ms, book.done_ms) == (42, 500)
    assert not book.advance(43)
    assert book.moved_ms == 42
