"""Whether a pipeline's source and options allow the snapshot that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from connector.config.models import PipelineConfig
    from connector.snapshot.source import ScannableSource


def can_be_scanned(source: Any) -> TypeGuard[ScannableSource]:
    """Whether a source's table can be read whole."""
    return callable(getattr(source, "table_scanner", None))


def misfit(config: PipelineConfig, source: Any) -> str | None:
    """Why the pipeline's ``snapshot`` cannot be, in words; None where it can."""
    if not can_be_scanned(source):
        return f"the source {config.source.type!r} has no table that could be read"
    if getattr(config.source.options, "leases", None) is not None:
        return (
            "each of the replicas that share the leases would read the whole table: leave it at never, and run "
            "`millrace snapshot` once beside them"
        )
    if config.scan.exports and config.snapshot == "always":
        return "exports can only begin a pipeline: snapshot: initial"
    if config.scan.exports and getattr(config.source.options, "start", "earliest") != "earliest":
        return "behind exports the stream has to be read from its beginning: source.start: earliest"
    return None
