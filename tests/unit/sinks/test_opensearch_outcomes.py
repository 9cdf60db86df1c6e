"""What a bulk answer says of each change: answers as OpenSearch 2.19 gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, STALE, Applied, Outcome, Rejected, Retry, Stale
from sinks.opensearch.outcomes import BulkRefused, outcomes_of, worse


def item(status: int, type: str = "", reason: str = "", *, verb: str = "index", caused_by: Any = None) -> Any:
    result: dict[str, Any] = {"status": status}
    if type:
        result["error"] = {"type": type, "reason": reason, "caused_by": caused_by}
    return {verb: result}


def outcomes(*items: Any, data_chosen: bool = False) -> list[Outcome]:
    body = json.dumps({"errors": True, "items": items}).encode()
    return list(outcomes_of(body, len(items), data_chosen=data_chosen))


def test_an_answer_without_errors_is_not_looked_into() -> None:
    assert outcomes_of(b'{"errors":false,"items":[', 3, data_chosen=False) == [APPLIED] * 3
    assert outcomes_of(b'{"took":1,"errors":false,"items":[]}', 3, data_chosen=False) == [APPLIED] * 3


def test_a_delete_that_finds_nothing_is_applied() -> None:
    found = outcomes(item(404, verb="delete"), item(404, "index_not_found_exception", "no such index", verb="delete"))
    assert found == [APPLIED, APPLIED]


def test_a_version_conflict_is_stale() -> None:
    assert outcomes(item(201), item(409, "version_conflict_engine_exception", "x")) == [APPLIED, STALE]


def test_a_mapping_error_is_rejected_and_its_reason_holds_no_value() -> None:
    reason = "failed to parse field [n] of type [long] in document with id 'b'. Preview of field's value: 'secret'"
    cause = {"type": "illegal_argument_exception", "reason": 'For input string: "secret"'}
    assert outcomes(item(400, "mapper_parsing_exception", reason, caused_by=cause)) == [
        Rejected("mapper_parsing_exception", "failed to parse field [n] of type [long]")
    ]


@pytest.mark.parametrize(
    ("reason", "cause", "detail"),
    [
        (
            "failed to parse",
            "field name cannot be an empty string",
            "failed to parse: field name cannot be an empty string",
        ),
        ("failed to parse", 'For input string: "secret"', "failed to parse: "),
        ("failed to parse date field [secret] with format [x]", "", "failed to parse "),
        (
            "immense term in field=\"k\".  The prefix of the first immense term is: '[115, 101, 99]...', too long",
            "",
            'immense term in field="k"., too long',
        ),
    ],
)
def test_reasons_are_cut_where_they_quote_values(reason: str, cause: str, detail: str) -> None:
    caused_by = {"type": "t", "reason": cause} if cause else None
    (outcome,) = outcomes(item(400, "illegal_argument_exception", reason, caused_by=caused_by))
    assert outcome == Rejected("illegal_argument_exception", detail)


def test_a_full_queue_throttles_the_whole_sink() -> None:
    with pytest.raises(Throttled):
        outcomes(item(201), item(429, "rejected_execution_exception", "queue full"), item(400, "x", "y"))


@pytest.mark.parametrize("status", [403, 429])
def test_a_write_block_makes_the_sink_unavailable(status: int) -> None:
    with pytest.raises(SinkUnavailable, match="read-only") as raised:
        outcomes(item(429, "rejected_execution_exception", "x"), item(status, "cluster_block_exception", "read-only"))
    assert not isinstance(raised.value, Throttled)


def test_a_server_error_of_one_item_is_retried() -> None:
    assert outcomes(item(503, "unavailable_shards_exception", "primary not active")) == [
        Retry("unavailable_shards_exception", "primary not active")
    ]


@pytest.mark.parametrize(
    ("status", "type", "reason"),
    [
        (404, "index_not_found_exception", "no such index"),
        (400, "index_closed_exception", "closed"),
        (403, "security_exception", "no permissions"),
        (400, "illegal_argument_exception", "pipeline with id [x] does not exist"),
    ],
)
def test_what_an_operator_mends_is_no_changes_fault(status: int, type: str, reason: str) -> None:
    with pytest.raises(SinkUnavailable, match=type):
        outcomes(item(201), item(status, type, reason))
    # An index that an item has chosen must not stop all the others.
    assert outcomes(item(201), item(status, type, reason), data_chosen=True) == [APPLIED, Retry(type, reason)]


def test_an_answer_that_fits_no_question_is_refused() -> None:
    with pytest.raises(BulkRefused):
        outcomes_of(json.dumps({"errors": True, "items": [item(201)]}).encode(), 2, data_chosen=False)
    with pytest.raises(SinkUnavailable):
        outcomes_of(b"<html>", 1, data_chosen=False)


def test_the_worse_of_two_outcomes_counts() -> None:
    in_order: list[Outcome] = [Applied(), Stale(), Retry("x"), Rejected("y")]
    for place, better in enumerate(in_order):
        for worse_one in in_order[place:]:
            assert worse(better, worse_one) == worse_one
            assert worse(worse_one, better) == worse_one
