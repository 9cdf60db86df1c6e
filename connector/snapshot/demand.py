"""A snapshot on demand: a pipeline of its own, whose source is the table and whose end is the table's end."""

from __future__ import annotations

import random
from collections.abc import Sequence

from connector.assemble import make_checkpoints, make_dead_letters, make_route, make_source
from connector.clock import Clock
from connector.config.models import PipelineConfig, RouteConfig
from connector.errors import CheckpointError, ConfigError
from connector.pipeline import Pipeline, PipelineOptions
from connector.snapshot.assemble import snapshot_alone
from connector.snapshot.records import ItemFilter


def make_demand(
    name: str,
    config: PipelineConfig,
    clock: Clock,
    *,
    routes: Sequence[str] | None,
    wanted: ItemFilter | None,
    filter_text: str | None,
) -> Pipeline:
    """The pipeline, with all of its routes or only those that are named. Raises ConfigError."""
    chosen = _routes(config, routes)
    source, checkpoints = snapshot_alone(
        name,
        config,
        make_source(name, config, clock),
        clock,
        wanted=wanted,
        what={"routes": sorted(chosen), "filter": filter_text},
    )
    return Pipeline(
        options=PipelineOptions(
            name=name,
            records_max=config.read.records_max,
            read_wait_s=config.read.wait,
            changes_in_flight=config.limits.changes_in_flight,
            bytes_in_flight=config.limits.bytes_in_flight,
            checkpoint_every_s=config.checkpoints.every,
            drain_s=config.drain,
        ),
        source=source,
        source_type=config.source.type,
        codec=config.source.codec_class(),
        checkpoints=checkpoints,
        dead_letters=make_dead_letters(name, config),
        routes=[make_route(name, route, of, clock) for route, of in chosen.items()],
        clock=clock,
        chance=random.Random(),  # noqa: S311 - jitter, nothing secret
    )


def _routes(config: PipelineConfig, names: Sequence[str] | None) -> dict[str, RouteConfig]:
    """Those that are named, whatever they say of snapshots; else all, as they say."""
    if names is None:
        return dict(config.routes)
    if unknown := set(names) - config.routes.keys():
        raise ConfigError(f"there is no route {min(unknown)!r}; there are: {', '.join(sorted(config.routes))}")
    return {name: config.routes[name].model_copy(update={"snapshot": True}) for name in names}


async def position_is_taken(name: str, config: PipelineConfig, clock: Clock) -> bool:
    """Whether the pipeline has followed the stream: changes made while the table is read come with it.

    True also where that cannot be known. Raises ConfigError.
    """
    store = make_checkpoints(name, config, make_source(name, config, clock), exclusive=False)
    try:
        await store.open()
        return bool(await store.all())
    except CheckpointError:
        return True
    finally:
        await store.close()
