"""The recorded samples of DynamoDB's change log are what DynamoDB Local writes today."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connector.codecs.dynamodb import DynamoDBCodec
from tests.samples import sample
from tests.samples.recorder import VIEWS, record
from tests.servers.dynamodb_local import DynamoDBLocal
from tests.unit.codecs.builders import decode
from tests.unit.codecs.builders import record as as_record

CHANGES_EACH_TIME = {"eventID", "ApproximateCreationDateTime", "SequenceNumber"}


def lasting(value: Any) -> Any:
    """What of a record is the same in every recording."""
    if isinstance(value, dict):
        return {name: type(v) if name in CHANGES_EACH_TIME else lasting(v) for name, v in value.items()}
    return value


@pytest.mark.parametrize("view", VIEWS)
def test_a_fresh_recording_equals_the_sample(dynamodb_local: DynamoDBLocal, view: str) -> None:
    fresh = record(dynamodb_local, view)
    kept = [msgspec.json.decode(line.value or b"") for line in sample(f"dynamodb_{view.lower()}")]

    assert [lasting(entry) for entry in fresh] == [lasting(entry) for entry in kept]


def test_a_fresh_recording_is_decoded(dynamodb_local: DynamoDBLocal) -> None:
    entries = record(dynamodb_local, "NEW_AND_OLD_IMAGES")
    records = [as_record(entry, position=position) for position, entry in enumerate(entries)]
    changes = decode(DynamoDBCodec(), *records).changes

    assert [change.event_name for change in changes] == ["INSERT", "MODIFY", "REMOVE"]
    assert changes[0].new_values() == changes[1].old_values()
