"""The OpenSearch sink keeps every sink's promises, on a real OpenSearch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.request import Request, urlopen

import pytest

from connector.change import Change
from connector.sink import Sink
from sinks.opensearch import OpenSearchConfig, OpenSearchSink
from sinks.testing import (
    ImageContract,
    Item,
    MakeSink,
    PoisonContract,
    ReadState,
    UnavailableContract,
    VersionedContract,
    context,
    insert,
)
from tests.servers.opensearch import OpenSearchServer


class TestOpenSearchSink(VersionedContract, ImageContract, PoisonContract, UnavailableContract):
    @pytest.fixture
    def index(self, opensearch_index_prefix: str) -> str:
        return f"{opensearch_index_prefix}items"

    @pytest.fixture
    def make_sink(self, opensearch: OpenSearchServer, index: str) -> MakeSink:
        config = OpenSearchConfig.model_validate(
            {
                "url": opensearch.url,
                "index": index,
                "id": "{pk}",
                "create_index": {
                    "mappings": {"properties": {"n": {"type": "long"}, "nothing": {"type": "keyword"}}},
                    "settings": {"index.number_of_shards": 1, "index.number_of_replicas": 0},
                },
            }
        )
        return lambda: OpenSearchSink(config, context())

    @pytest.fixture
    def read_state(self, opensearch: OpenSearchServer, index: str) -> ReadState:
        async def read() -> Mapping[str, Item]:
            return read_documents(opensearch.url, index)

        return read

    @pytest.fixture
    def poison(self) -> Change:
        return insert("poison", {"n": "not a number"})

    @pytest.fixture
    def unreachable_sink(self) -> Sink:
        config = OpenSearchConfig.model_validate({"url": "http://127.0.0.1:9", "index": "items", "id": "{pk}"})
        return OpenSearchSink(config, context())


def read_documents(url: str, index: str) -> dict[str, Item]:
    """The documents of an index by their ``pk``."""
    request = Request(f"{url}/{index}/_refresh", method="POST")
    with urlopen(request, timeout=30):
        pass
    with urlopen(f"{url}/{index}/_search?size=1000", timeout=30) as response:
        hits = json.load(response)["hits"]["hits"]
    return {hit["_source"]["pk"]: hit["_source"] for hit in hits}
