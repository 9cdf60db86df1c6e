"""From configuration to pipelines: makes each part by its plug-in's class. Makes nothing open; does no I/O."""

from __future__ import annotations

import random

from connector.checkpoints.protocol import CheckpointStore
from connector.checkpoints.sqlite import SQLiteCheckpoints
from connector.clock import Clock
from connector.config.models import RATIO_MIN, DeadLetterLimits, PipelineConfig, RouteConfig
from connector.deadletter.protocol import DeadLetters
from connector.delivery.policy import LetterLimits, OnPoison, RoutePolicy
from connector.pipeline import Pipeline, PipelineOptions, RoutePlan
from connector.sieve import make_sieve
from connector.sink import Sink, SinkContext
from connector.snapshot.assemble import with_snapshot
from connector.snapshot.routes import keep_items_out, leaves_out_items
from connector.sources.protocol import Source, SourceContext


def make_pipeline(name: str, config: PipelineConfig, clock: Clock, *, until_caught_up: bool = False) -> Pipeline:
    """A pipeline with all of its parts. Raises ConfigError for options that do not fit each other."""
    source = make_source(name, config, clock)
    checkpoints = make_checkpoints(name, config, source)
    if config.snapshot != "never":
        source, checkpoints = with_snapshot(name, config, source, checkpoints, clock)
    return Pipeline(
        options=PipelineOptions(
            name=name,
            records_max=config.read.records_max,
            read_wait_s=config.read.wait,
            changes_in_flight=config.limits.changes_in_flight,
            bytes_in_flight=config.limits.bytes_in_flight,
            checkpoint_every_s=config.checkpoints.every,
            drain_s=config.drain,
            stall_after_s=config.stall_after,
            until_caught_up=until_caught_up,
            undecodable_limits=_letter_limits(config.undecodable_limits),
        ),
        source=source,
        source_type=config.source.type,
        codec=config.source.codec_class(),
        checkpoints=checkpoints,
        dead_letters=make_dead_letters(name, config),
        routes=[make_route(name, route, of, clock) for route, of in config.routes.items()],
        clock=clock,
        chance=random.Random(),  # noqa: S311 - jitter, nothing secret
    )


def make_source(name: str, config: PipelineConfig, clock: Clock) -> Source:
    """The pipeline's source."""
    source: Source = config.source.plugin_class(config.source.options, SourceContext(pipeline=name, clock=clock))
    return source


def make_checkpoints(name: str, config: PipelineConfig, source: Source, *, exclusive: bool = True) -> CheckpointStore:
    """The pipeline's checkpoint store: the source's own where it has one and nothing else is asked for.

    ``exclusive=False``: only to look, also while the pipeline runs.
    """
    own = None if config.checkpoints.type == "sqlite" else source.own_checkpoints()
    return own or SQLiteCheckpoints(config.checkpoints.path, name, exclusive=exclusive)


def make_dead_letters(name: str, config: PipelineConfig) -> DeadLetters:
    """The pipeline's dead-letter destination."""
    dead_letters: DeadLetters = config.dead_letter.plugin_class(config.dead_letter.options, name)
    return dead_letters


def make_route(pipeline: str, name: str, config: RouteConfig, clock: Clock) -> RoutePlan:
    """One route's plan; what the user leaves open is as the sink suggests."""
    sink_class = config.sink.plugin_class
    sink: Sink = sink_class(config.sink.options, SinkContext(pipeline=pipeline, route=name, clock=clock))
    sieve = make_sieve(config.when, config.where, sink.semantics)
    return RoutePlan(
        name=name,
        sink_type=config.sink.type,
        sink=sink,
        sieve=keep_items_out(sieve) if leaves_out_items(config, sink.semantics) else sieve,
        policy=RoutePolicy(
            lanes=config.lanes or sink_class.lanes_default,
            batch_size=config.batch.size or sink_class.batch_size_default,
            batch_bytes=config.batch.bytes,
            batch_window_s=config.batch.window,
            retry_attempts=None if config.retry.attempts == "unlimited" else config.retry.attempts,
            backoff_initial_s=config.retry.backoff.initial,
            backoff_max_s=config.retry.backoff.max,
            max_age_s=config.retry.max_age,
            on_poison=OnPoison(config.on_poison),
            letter_limits=_letter_limits(config.dead_letter_limits),
            breaker_failures=config.breaker.failures,
            write_timeout_s=config.timeout,
        ),
    )


def _letter_limits(config: DeadLetterLimits) -> LetterLimits | None:
    if config.max_consecutive is None and config.max_ratio is None:
        return None
    return LetterLimits(
        max_consecutive=config.max_consecutive,
        max_ratio=config.max_ratio,
        window_s=config.window,
        ratio_min=RATIO_MIN,
    )
