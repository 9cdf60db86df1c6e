"""The metadata of a commit."""

from __future__ import annotations

import pytest

from connector.checkpoints.kafka import Metadata, read_metadata, write_metadata


@pytest.mark.parametrize("metadata", [Metadata(), Metadata(2**63 - 1), Metadata(5, 0), Metadata(0, 12)])
def test_what_is_written_is_read(metadata: Metadata) -> None:
    assert read_metadata(write_metadata(metadata)) == metadata


@pytest.mark.parametrize(
    "foreign",
    [None, "", "millrace:2:5", "millrace:1:", "millrace:1:-5", "x", "millrace:1:5:6:7", "millrace:1:" + "9" * 50],
)
def test_what_another_program_wrote_says_nothing_about_a_clock(foreign: str | None) -> None:
    assert read_metadata(foreign) == Metadata()
