"""The load generator: records as DynamoDB Streams gives them, the same for the same seed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connector.change import Record
from connector.codecs.dynamodb import DynamoDBCodec

SCRIPT = Path(__file__).parents[3] / "deploy" / "load" / "generate.py"
START_S = 1_790_000_000.0


def the_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = the_script()


def some(count: int, *, seed: int = 1, poison: float = 0.0) -> list[tuple[bytes, bytes]]:
    return list(islice(generate.records(seed, START_S, 100.0, 50, poison), count))


def test_the_same_seed_gives_the_same_records() -> None:
    assert some(500, poison=0.05) == some(500, poison=0.05)
    assert some(500, seed=2) != some(500)


def test_it_knows_nothing_of_millrace() -> None:
    assert "import connector" not in SCRIPT.read_text()
    assert "from connector" not in SCRIPT.read_text()


def test_without_poison_every_record_is_a_change() -> None:
    values = [value for _, value in some(2000)]
    decoded = DynamoDBCodec().decode("s", [Record(position=n, value=value) for n, value in enumerate(values)])
    assert len(decoded.changes) == 2000
    assert decoded.undecodable == []
    for change in decoded.changes:
        change.new_values()
        change.old_values()


def test_each_item_s_history_hangs_together() -> None:
    """What one record leaves behind is what the next one of its key finds."""
    items: dict[str, Any] = {}
    seen = {"INSERT": 0, "MODIFY": 0, "REMOVE": 0}
    for _, value in some(5000):
        record = json.loads(value)
        body = record["dynamodb"]
        key = json.dumps(body["Keys"])
        assert body.get("OldImage") == items.get(key)
        items[key] = body.get("NewImage")
        seen[record["eventName"]] += 1
    assert all(count > 100 for count in seen.values()), seen


def test_records_go_by_customer_and_their_order_shows_in_their_numbers() -> None:
    numbers = []
    for key, value in some(500, poison=0.0):
        record = json.loads(value)
        assert record["dynamodb"]["Keys"]["pk"]["S"] == key.decode()
        numbers.append(int(record["dynamodb"]["SequenceNumber"]))
    assert numbers == sorted(set(numbers))
    assert len(str(numbers[0])) == 21


def test_items_that_expired_say_who_removed_them() -> None:
    removals = [record for record in (json.loads(value) for _, value in some(5000)) if record["eventName"] == "REMOVE"]
    assert any(record.get("userIdentity", {}).get("principalId") == "dynamodb.amazonaws.com" for record in removals)


def test_poison_is_of_every_kind_and_under_keys_of_its_own() -> None:
    values = [value for _, value in some(3000, poison=0.05)]
    for kind in generate.POISON_KINDS:
        assert any(f"ORDER#poison-{kind}".encode() in value for value in values), kind
    decoded = DynamoDBCodec().decode("s", [Record(position=n, value=value) for n, value in enumerate(values)])
    assert decoded.undecodable, "records that are cut off, and unknown events, are not what their format says"
    assert len(decoded.undecodable) + len(decoded.changes) == len(values)


def test_a_file_holds_as_many_lines_as_were_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "changes.jsonl"
    arguments = ["--count", "300", "--out", str(out), "--poison", "0.02", "--start", str(START_S)]
    subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True)
    assert len(out.read_bytes().splitlines()) == 300


@pytest.mark.parametrize(
    "arguments", [[], ["--out", "x"], ["--out", "x", "--brokers", "y"], ["--brokers", "y", "--rate", "0"]]
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    told = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, check=False)
    assert told.returncode == 2
