"""Readiness: what is wrong, said so that somebody can act on it."""

from __future__ import annotations

import pytest

from connector.delivery.breaker import BreakerState
from connector.observe.health import Problem, ago, readiness
from connector.observe.snapshot import (
    DestinationSnapshot,
    PipelineSnapshot,
    PipelineState,
    RouteCounts,
    SourceSnapshot,
    StoreSnapshot,
)
from tests.unit.observe.builders import NOW_MS, a_pipeline, a_route, a_shard

MINUTE_MS = 60_000


def problems_of(*snapshots: PipelineSnapshot) -> list[Problem]:
    return readiness(snapshots, NOW_MS)


def the_problem_of(snapshot: PipelineSnapshot) -> Problem:
    problems = problems_of(snapshot)
    assert len(problems) == 1, problems
    return problems[0]


def test_a_pipeline_that_moves_is_ready_though_it_lags() -> None:
    assert problems_of(a_pipeline()) == []


def test_a_daemon_without_pipelines_is_not_ready() -> None:
    assert [problem.component for problem in problems_of()] == ["daemon"]


def test_standing_still_with_lag_is_not_ready_and_says_where_it_waits() -> None:
    shard = a_shard(
        watermark_moved_ms=NOW_MS - 3 * MINUTE_MS,
        routes={"search": RouteCounts(read=100, applied=92, in_flight=8), "cache": RouteCounts(read=100, applied=100)},
    )
    problem = the_problem_of(a_pipeline(shards=[shard]))
    assert problem.component == "pipelines.orders.shards.orders/0"
    assert "nothing has moved for 3 min though there is lag" in problem.reason
    assert "finished up to 92, the end is 110" in problem.reason
    assert "search: 8" in problem.reason
    assert "cache" not in problem.reason


def test_standing_still_with_nothing_in_flight_says_that_nothing_is_being_read() -> None:
    shard = a_shard(watermark_moved_ms=NOW_MS - 3 * MINUTE_MS, routes={"search": RouteCounts(read=9, applied=9)})
    assert "nothing is being read" in the_problem_of(a_pipeline(shards=[shard])).reason


def test_standing_still_with_something_in_flight_is_a_problem_though_the_end_is_not_known() -> None:
    problem = the_problem_of(a_pipeline(shards=[a_shard(end=None, watermark_moved_ms=NOW_MS - 3 * MINUTE_MS)]))
    assert "finished up to 92, read up to 100" in problem.reason


@pytest.mark.parametrize(
    ("what", "shard"),
    [
        ("caught up", a_shard(watermark=110, watermark_moved_ms=NOW_MS - 90 * MINUTE_MS)),
        ("end not known", a_shard(end=None, watermark=100, watermark_moved_ms=NOW_MS - 90 * MINUTE_MS)),
        ("just within the limit", a_shard(watermark_moved_ms=NOW_MS - MINUTE_MS)),
    ],
)
def test_standing_still_is_no_problem_when(what: str, shard: object) -> None:
    assert problems_of(a_pipeline(shards=[shard])) == [], what


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (PipelineState.STARTING, "starting"),
        (PipelineState.DRAINING, "draining"),
        (PipelineState.FAILED, "failed: position 7 is gone"),
    ],
)
def test_a_pipeline_that_does_not_run_is_not_ready(state: PipelineState, word: str) -> None:
    problem = the_problem_of(a_pipeline(state=state, reason="position 7 is gone" if state == "failed" else ""))
    assert (problem.component, problem.pipeline) == ("pipelines.orders", "orders")
    assert problem.reason.startswith(word)


def test_a_pipeline_that_ended_as_it_should_is_no_problem() -> None:
    stale = a_shard(watermark_moved_ms=0)
    store = StoreSnapshot(ok=False, last_error="closed", last_saved_ms=0)
    assert problems_of(a_pipeline(state=PipelineState.STOPPED, shards=[stale], checkpoint_store=store)) == []


def test_an_open_breaker_says_since_when_and_why() -> None:
    route = a_route(breaker=BreakerState.OPEN, unavailable_since_ms=NOW_MS - 90_000, last_error="connection refused")
    problem = the_problem_of(a_pipeline(routes=[route]))
    assert problem.component == "pipelines.orders.routes.search"
    assert "opensearch sink has been unavailable for 90 s" in problem.reason
    assert "the breaker is open" in problem.reason
    assert "connection refused" in problem.reason


def test_a_sink_that_is_down_is_a_problem_before_its_breaker_opens() -> None:
    route = a_route(unavailable_since_ms=NOW_MS - 500, last_error="503")
    assert "unavailable for 500 ms, trying again: 503" in the_problem_of(a_pipeline(routes=[route])).reason


def test_a_half_open_breaker_says_that_it_is_being_tried() -> None:
    assert (
        "one call is trying it" in the_problem_of(a_pipeline(routes=[a_route(breaker=BreakerState.HALF_OPEN)])).reason
    )


def test_a_route_stopped_by_poison_says_which() -> None:
    problem = the_problem_of(a_pipeline(routes=[a_route(stopped_reason="mapping error at orders/0 position 8")]))
    assert problem.reason.startswith("stopped by poison: ")
    assert "position 8" in problem.reason


def test_checkpoints_that_cannot_be_saved_say_for_how_long() -> None:
    store = StoreSnapshot(ok=False, last_error="disk full", last_saved_ms=NOW_MS - 5 * MINUTE_MS)
    problem = the_problem_of(a_pipeline(checkpoint_store=store))
    assert problem.component == "pipelines.orders.checkpoints"
    assert "the last was 5 min ago: disk full" in problem.reason


def test_dead_letters_that_cannot_be_written_are_a_problem() -> None:
    problem = the_problem_of(a_pipeline(dead_letters=DestinationSnapshot(ok=False, last_error="no leader")))
    assert problem.component == "pipelines.orders.dead_letter"
    assert "no leader" in problem.reason


def test_a_source_that_cannot_be_reached_is_a_problem() -> None:
    source = SourceSnapshot(type="kafka", last_error="all brokers are down")
    assert "all brokers are down" in the_problem_of(a_pipeline(source=source)).reason


def test_backpressure_alone_is_no_problem() -> None:
    assert problems_of(a_pipeline(source=SourceSnapshot(type="kafka", paused=True))) == []


def test_problems_of_one_pipeline_do_not_hide_those_of_another() -> None:
    failed = a_pipeline("customers", state=PipelineState.FAILED)
    down = a_pipeline(routes=[a_route("search", unavailable_since_ms=NOW_MS), a_route("cache", stopped_reason="x")])
    assert [problem.component for problem in problems_of(failed, down)] == [
        "pipelines.customers",
        "pipelines.orders.routes.search",
        "pipelines.orders.routes.cache",
    ]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(-5, "0 ms"), (999, "999 ms"), (119_999, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 d")],
)
def test_spans_of_time_read_at_a_glance(milliseconds: int, text: str) -> None:
    assert ago(milliseconds) == text
