"""Opening every lease store on something real, several times over as several processes would."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from connector.leases.dynamodb import DynamoDBLeases
from connector.leases.postgres import PostgresLeases
from connector.leases.protocol import LeaseStore
from connector.leases.sqlite import SQLiteLeases
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.simulation.lease_table import LeaseTable, Rows

MakeStore = Callable[[str], LeaseStore]
"""Makes another process' store of a pipeline's leases (not open yet)."""

STORES = ["model", "sqlite", "postgres", "dynamodb"]


def store_maker(request: pytest.FixtureRequest, kind: str) -> MakeStore:
    """A maker of stores of this kind, on a table that no other test has."""
    if kind == "model":
        tables: dict[str, Rows] = {}
        return lambda pipeline: LeaseTable(tables.setdefault(pipeline, {}))
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / "leases.db"
        return lambda pipeline: SQLiteLeases(path, pipeline)
    if kind == "postgres":
        url: str = request.getfixturevalue("postgres_database")
        return lambda pipeline: PostgresLeases(url, pipeline, timeout_s=30.0)
    server: DynamoDBLocal = request.getfixturevalue("dynamodb_local")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
    patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
    prefix = f"leases-{uuid4().hex[:12]}"
    return lambda pipeline: DynamoDBLeases(
        f"{prefix}-{pipeline}", pipeline, region=server.region, endpoint=server.endpoint, timeout_s=30.0
    )


def on_real_servers() -> list[object]:
    """Every store as a parameter, with the marks of those that need a server."""
    servers = {"postgres", "dynamodb"}
    return [pytest.param(kind, marks=pytest.mark.servers) if kind in servers else kind for kind in STORES]
