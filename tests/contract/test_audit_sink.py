"""The audit sink keeps the contract of every sink, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connector.change import Change
from connector.sink import Sink
from sinks.audit import AuditSink
from sinks.audit.config import AuditSinkConfig
from sinks.testing import (
    MakeSink,
    PoisonContract,
    ReadEvents,
    UnavailableContract,
    UniqueEventContract,
    context,
    insert,
)


def audit_sink(url: str, **more: Any) -> AuditSink:
    return AuditSink(AuditSinkConfig.model_validate({"url": url, **more}), context())


class AuditContract(UniqueEventContract, PoisonContract):
    @pytest.fixture
    def poison(self) -> Change:
        return insert("p", event_id="x" * 1025, version=7)


class TestAuditInSQLite(AuditContract):
    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> MakeSink:
        return lambda: audit_sink(f"sqlite:///{tmp_path}/audit.db")

    @pytest.fixture
    def read_events(self, tmp_path: Path) -> ReadEvents:
        async def read() -> list[str]:
            with sqlite3.connect(tmp_path / "audit.db") as connection:
                return [event_id for (event_id,) in connection.execute("SELECT event_id FROM audit ORDER BY rowid")]

        return read


class TestAuditInPostgreSQL(AuditContract, UnavailableContract):
    @pytest.fixture
    def make_sink(self, postgres_database: str) -> MakeSink:
        return lambda: audit_sink(postgres_database)

    @pytest.fixture
    def read_events(self, postgres_database: str) -> ReadEvents:
        async def read() -> list[str]:
            with psycopg.connect(postgres_database) as connection:
                return [event_id for (event_id,) in connection.execute("SELECT event_id FROM audit ORDER BY ctid")]

        return read

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        return audit_sink("postgresql://nobody@127.0.0.1:1/nothing", timeout="2s")
