"""Which routes and which pipelines a snapshot is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from connector.config.load import load_text
from connector.config.models import Config
from connector.config.problems import ConfigErrors
from connector.delivery.route import Sifted
from connector.sink import Semantics
from connector.snapshot.protocol import shard_of
from connector.snapshot.routes import keep_items_out, leaves_out_items
from tests.unit.delivery.builders import change

ITEM = change(shard=shard_of("20260131T120000Z-0123abcd", 0))
STREAMED = change(shard="orders/0")


def config(tmp_path: Path, source: dict[str, Any], **options: Any) -> Config:
    sink = {"type": "search", "path": str(tmp_path / "s.db"), "index": "orders", "id": "{pk}", "fields": ["n"]}
    told = {
        "source": source,
        "dead_letter": {"type": "file", "path": str(tmp_path / "letters")},
        "routes": {"search": {"sink": sink}},
        **options,
    }
    return load_text(yaml.safe_dump({"pipelines": {"orders": told}}).encode(), file="x.yaml", folder=tmp_path, env={})


STREAMS = {"type": "dynamodb_streams", "format": "dynamodb", "table": "orders", "region": "eu-central-1"}
EXPORT = "s3://exports/AWSDynamoDB/0134-abc/manifest-summary.json"


def test_items_pass_a_route_by_and_changes_do_not() -> None:
    sieve = keep_items_out(None)
    assert sieve([ITEM, ITEM]) == Sifted((), [ITEM, ITEM])
    assert sieve([STREAMED]) == Sifted([STREAMED])


def test_the_routes_own_filter_still_counts() -> None:
    sieve = keep_items_out(lambda changes: Sifted((), changes))
    assert sieve([STREAMED]) == Sifted((), [STREAMED])


@pytest.mark.parametrize(
    ("written", "semantics", "left_out"),
    [
        (None, Semantics.STATE, False),
        (None, Semantics.EVENT, True),
        (False, Semantics.STATE, True),
        (True, Semantics.EVENT, False),
    ],
)
def test_where_each_change_counts_items_come_only_when_asked_for(
    tmp_path: Path, written: bool | None, semantics: Semantics, left_out: bool
) -> None:
    route = config(tmp_path, {**STREAMS, "start": "latest"}).pipelines["orders"].routes["search"]
    assert leaves_out_items(route.model_copy(update={"snapshot": written}), semantics) is left_out


def test_a_snapshot_is_of_a_table(tmp_path: Path) -> None:
    kafka = {"type": "kafka", "brokers": ["localhost:1"], "topics": ["a"], "group": "g", "format": "dynamodb"}
    kafka["start"] = "earliest"
    with pytest.raises(ConfigErrors, match=r"pipelines\.orders\.snapshot: .*no table that could be read"):
        config(tmp_path, kafka, snapshot="initial")
    assert config(tmp_path, {**STREAMS, "start": "latest"}, snapshot="always").pipelines["orders"].snapshot == "always"


def test_replicas_do_not_each_read_the_table(tmp_path: Path) -> None:
    leases = {"type": "sqlite", "path": str(tmp_path / "leases.db")}
    with pytest.raises(ConfigErrors, match="run `millrace snapshot` once beside them"):
        config(tmp_path, {**STREAMS, "start": "earliest", "leases": leases}, snapshot="initial")


def test_exports_begin_a_pipeline_whose_stream_is_read_whole(tmp_path: Path) -> None:
    scan = {"exports": [EXPORT]}
    with pytest.raises(ConfigErrors, match="start: earliest"):
        config(tmp_path, {**STREAMS, "start": "latest"}, snapshot="initial", scan=scan)
    with pytest.raises(ConfigErrors, match="only begin a pipeline"):
        config(tmp_path, {**STREAMS, "start": "earliest"}, snapshot="always", scan=scan)
    read = config(tmp_path, {**STREAMS, "start": "earliest"}, snapshot="initial", scan=scan)
    assert read.pipelines["orders"].scan.exports == [EXPORT]
