"""A route's filter on whole batches: what goes on, what is dropped, what cannot be judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from connector.change import Change, EventName, Record
from connector.codecs.dynamodb import DynamoDBCodec
from connector.delivery.route import Sifted
from connector.filters import Pattern, parse_pattern
from connector.sieve import make_sieve
from connector.sink import Semantics

STATE, EVENT = Semantics.STATE, Semantics.EVENT


def record(name: str, position: int, new: Any = None, old: Any = None) -> Record:
    body: dict[str, Any] = {"Keys": {"pk": {"S": str(position)}}}
    if new is not None:
        body["NewImage"] = new
    if old is not None:
        body["OldImage"] = old
    return Record(position, orjson.dumps({"eventName": name, "eventID": str(position), "dynamodb": body}))


def decoded(*records: Record) -> list[Change]:
    found = DynamoDBCodec().decode("log/0", records)
    assert not found.undecodable
    return found.changes


def paid(status: str) -> dict[str, Any]:
    return {"status": {"S": status}}


def positions(sifted: Sifted) -> tuple[list[int], list[int], list[int]]:
    return (
        [change.position for change in sifted.taken],
        [change.position for change in sifted.filtered],
        [refusal.change.position for refusal in sifted.refused],
    )


def sift(
    changes: Sequence[Change],
    *,
    when: Sequence[Pattern] | None = None,
    where: Sequence[Pattern] | None = None,
    semantics: Semantics = STATE,
) -> Sifted:
    sieve = make_sieve(when, where, semantics)
    assert sieve is not None
    return sieve(changes)


WHERE = [parse_pattern({"status": {"S": ["PAID"]}})]
WHEN_IMAGE = [parse_pattern({"dynamodb": {"NewImage": {"status": {"S": ["PAID"]}}}})]
WHEN_NAME = [parse_pattern({"eventName": ["INSERT", "REMOVE"]})]


def test_a_route_without_filters_has_no_sieve() -> None:
    assert make_sieve(None, None, STATE) is None
    assert make_sieve([], [], STATE) is None


def test_event_names_are_picked_without_looking_into_images() -> None:
    changes = decoded(record("INSERT", 1), record("MODIFY", 2), record("REMOVE", 3))
    assert positions(sift(changes, when=WHEN_NAME)) == ([1, 3], [2], [])


def test_a_batch_that_passes_whole_is_handed_on_as_it_is() -> None:
    changes = decoded(record("INSERT", 1), record("REMOVE", 2))
    assert sift(changes, when=WHEN_NAME).taken is changes


def test_when_picks_by_image() -> None:
    changes = decoded(record("MODIFY", 1, paid("PAID")), record("MODIFY", 2, paid("DRAFT")), record("REMOVE", 3))
    assert positions(sift(changes, when=WHEN_IMAGE)) == ([1], [2, 3], [])


def test_an_item_that_no_longer_belongs_goes_on_as_a_removal() -> None:
    changes = decoded(
        record("MODIFY", 1, paid("PAID")),
        record("MODIFY", 2, paid("DRAFT"), paid("PAID")),
        record("MODIFY", 3, paid("DRAFT"), paid("DRAFT")),
        record("INSERT", 4, paid("DRAFT")),
        record("MODIFY", 5, paid("DRAFT")),
    )
    sifted = sift(changes, where=WHERE)
    assert positions(sifted) == ([1, 2, 5], [3, 4], [])
    assert [change.event_name for change in sifted.taken] == [EventName.MODIFY, EventName.REMOVE, EventName.REMOVE]


def test_for_an_event_sink_what_does_not_belong_is_dropped() -> None:
    changes = decoded(record("MODIFY", 1, paid("DRAFT"), paid("PAID")), record("REMOVE", 2, None, paid("PAID")))
    assert positions(sift(changes, where=WHERE, semantics=EVENT)) == ([2], [1], [])


def test_an_image_that_the_stream_does_not_carry_is_a_refusal() -> None:
    sifted = sift(decoded(record("MODIFY", 1), record("MODIFY", 2, paid("PAID"))), where=WHERE)
    assert positions(sifted) == ([2], [], [1])
    (refusal,) = sifted.refused
    assert refusal.code == "image_missing"
    assert "PAID" not in refusal.message


GARBAGE = {"status": {"S": "PAID", "N": "1"}}
NOT_AN_ITEM = {"status": "PAID"}


@pytest.mark.parametrize("image", [GARBAGE, NOT_AN_ITEM])
@pytest.mark.parametrize("filters", [{"when": WHEN_IMAGE}, {"where": WHERE}, {"when": WHEN_IMAGE, "where": WHERE}])
def test_an_image_that_turns_out_to_be_garbage_never_leaves_the_filter(image: Any, filters: dict[str, Any]) -> None:
    changes = decoded(record("MODIFY", 1, paid("PAID")), record("MODIFY", 2, image), record("MODIFY", 3, paid("PAID")))
    taken, filtered, refused = positions(sift(changes, **filters))
    assert taken[0] == 1
    assert taken[-1] == 3
    assert sorted([*taken, *filtered, *refused]) == [1, 2, 3]


@pytest.mark.parametrize("filters", [{"when": WHEN_IMAGE}, {"where": WHERE}])
def test_an_image_that_cannot_be_decoded_is_a_refusal_with_the_decoders_code(filters: dict[str, Any]) -> None:
    broken = Record(
        1,
        b'{"eventName": "MODIFY", "eventID": "1", "dynamodb": {"Keys": {"pk": {"S": "1"}}, "NewImage": {"status": '
        b'{"S": 1e999}}}}',
    )
    found = DynamoDBCodec().decode("log/0", [broken, record("MODIFY", 2, paid("PAID"))])
    assert len(found.changes) == 2, "images are not read at the door"
    sifted = sift(found.changes, **filters)
    assert positions(sifted) == ([2], [], [1])
    (refusal,) = sifted.refused
    assert refusal.code == "number_range"
    assert refusal.message
