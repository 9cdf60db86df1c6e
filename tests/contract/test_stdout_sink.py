"""The stdout sink keeps every sink's promises."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from connector.change import Change
from sinks.stdout import StdoutConfig, StdoutSink
from sinks.testing import EventContract, MakeSink, PoisonContract, ReadEvents, context, insert


class TestStdoutSink(EventContract, PoisonContract):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        config = StdoutConfig.model_validate({"numbers": "reject"})
        return lambda: StdoutSink(config, context())

    @pytest.fixture
    def read_events(self, capsysbinary: pytest.CaptureFixture[bytes]) -> ReadEvents:
        async def read() -> Sequence[str]:
            return [json.loads(line)["event_id"] for line in capsysbinary.readouterr().out.splitlines()]

        return read

    @pytest.fixture
    def poison(self) -> Change:
        return insert("poison", {"n": 10**37 + 1})
