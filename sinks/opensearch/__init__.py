"""OpenSearch: items as documents. ``config`` → ``encode`` → ``sink`` (write) → ``outcomes``."""

from sinks.opensearch.config import OpenSearchConfig
from sinks.opensearch.sink import OpenSearchSink

__all__ = ["OpenSearchConfig", "OpenSearchSink"]
