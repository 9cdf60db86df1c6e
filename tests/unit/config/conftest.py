"""What the tests of configurations share."""

from __future__ import annotations

import pytest

from tests.unit.config import fakes


@pytest.fixture(autouse=True)
def fake_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fakes are installed."""
    fakes.install(monkeypatch)
