"""What a bulk answer says of each action."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from connector.errors import SinkUnavailable, Throttled
from connector.sink import APPLIED, STALE, Applied, Outcome, Rejected, Retry, Stale

FILTER_PATH = "errors,items.*.status,items.*.error"
"""Keeps answers small. Every item has a status, so items stay at the places of their actions."""

_DETAIL_CHARS_MAX = 500


class BulkRefused(Exception):
    """A whole bulk was refused for what one of its actions holds: it is to be bisected."""


class _Cause(msgspec.Struct):
    type: str = ""
    reason: str | None = None
    caused_by: _Cause | None = None


class _Result(msgspec.Struct):
    status: int
    error: _Cause | None = None


class _Item(msgspec.Struct):
    index: _Result | None = None
    delete: _Result | None = None


class _Bulk(msgspec.Struct):
    errors: bool
    items: list[_Item] = []


_decoder = msgspec.json.Decoder(_Bulk)


def outcomes_of(body: bytes, count: int, *, data_chosen: bool) -> Sequence[Outcome]:
    """One outcome for each of ``count`` actions. ``data_chosen``: items may choose their index.

    Raises SinkUnavailable (Throttled) where an item failed for a reason that is not its own: everything is then
    written again, which versions make harmless. Raises BulkRefused for an answer that makes no sense.
    """
    # A 404 of a delete is no error to OpenSearch (seen on 2.19), so this is the whole answer of a good bulk.
    if body.startswith(b'{"errors":false'):
        return [APPLIED] * count
    try:
        bulk = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SinkUnavailable("the answer to a bulk is not OpenSearch's") from error
    if not bulk.errors:
        return [APPLIED] * count
    if len(bulk.items) != count:
        raise BulkRefused(f"a bulk of {count} actions was answered with {len(bulk.items)} items")
    outcomes: list[Outcome] = []
    throttled: Throttled | None = None
    for item in bulk.items:
        outcome = _outcome_of(item, data_chosen=data_chosen)
        if isinstance(outcome, Throttled):
            throttled = outcome
        elif isinstance(outcome, SinkUnavailable):
            raise outcome
        else:
            outcomes.append(outcome)
    if throttled is not None:
        raise throttled
    return outcomes


def _outcome_of(item: _Item, *, data_chosen: bool) -> Outcome | SinkUnavailable:
    result = item.index or item.delete
    if result is None:
        raise BulkRefused("an item of the answer is of no known kind")
    status, error = result.status, result.error or _Cause()
    if status < 300 or (status == 404 and result.error is None):
        return APPLIED
    if status == 409:
        return STALE
    if error.type == "cluster_block_exception":  # 403 or 429: read-only, or the disk's watermark is passed
        return SinkUnavailable(f"OpenSearch blocks writes: {detail_of(error)}")
    if status == 429:
        return Throttled(f"OpenSearch rejects writes: {error.type}")
    if status >= 500:
        return Retry(error.type or f"status_{status}", detail_of(error))
    if item.delete is not None and error.type == "index_not_found_exception":
        return APPLIED
    if _is_for_an_operator(status, error):
        if data_chosen:
            # One item's choice must not stop the others.
            return Retry(error.type or f"status_{status}", detail_of(error))
        return SinkUnavailable(f"OpenSearch answered {status} {error.type}: {detail_of(error)}")
    return Rejected(error.type or f"status_{status}", detail_of(error))


def _is_for_an_operator(status: int, error: _Cause) -> bool:
    """Faults of an index or of permissions: any change would meet them, and they pass when somebody mends them."""
    return (
        status in (401, 403)
        or error.type in ("index_not_found_exception", "index_closed_exception", "validation_exception")
        or (error.type == "illegal_argument_exception" and (error.reason or "").startswith("pipeline with id ["))
    )


_VALUES = (
    re.compile(r"\.? ?Preview of field's value: .*", re.DOTALL),
    re.compile(r" in document with id .*", re.DOTALL),
    re.compile(r"For input string: .*", re.DOTALL),
    re.compile(r" *The prefix of the first immense term is: '\[[^\]]*\]\.*'"),
    re.compile(r"date field \[.*", re.DOTALL),
)
"""Where OpenSearch's reasons quote what is in a document."""


def detail_of(error: _Cause) -> str:
    """The server's reason without the values that it quotes; with its cause where it says only ``failed to parse``."""
    reason = error.reason or ""
    if reason == "failed to parse" and error.caused_by is not None:
        reason = f"{reason}: {error.caused_by.reason or error.caused_by.type}"
    for pattern in _VALUES:
        reason = pattern.sub("", reason)
    return reason[:_DETAIL_CHARS_MAX]


def worse(first: Outcome, second: Outcome) -> Outcome:
    """The outcome of a change that took two actions: rejected, retry, stale, applied, in this order."""
    return first if _SEVERITY[type(first)] >= _SEVERITY[type(second)] else second


_SEVERITY: dict[type[Outcome], int] = {Applied: 0, Stale: 1, Retry: 2, Rejected: 3}
