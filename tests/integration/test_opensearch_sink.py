"""The OpenSearch sink against a real OpenSearch: what the server really does at the edges."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import APPLIED, STALE, Applied, Outcome, Rejected
from sinks.opensearch import OpenSearchConfig, OpenSearchSink
from sinks.testing import BASE_VERSION, context, insert, modify, opened, remove
from tests.servers.opensearch import OpenSearchServer

CREATE = {"settings": {"number_of_replicas": 0}, "mappings": {"properties": {"n": {"type": "long"}}}}


class House:
    """One test's indexes on the server."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.prefix = prefix

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    def exists(self, index: str) -> bool:
        try:
            self.ask("HEAD", self.prefix + index)
        except HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def documents(self, index: str) -> dict[str, Any]:
        self.ask("POST", f"{self.prefix}{index}/_refresh")
        hits = self.ask("GET", f"{self.prefix}{index}/_search?size=100&version=true")["hits"]["hits"]
        return {hit["_id"]: hit for hit in hits}

    def sink(self, index: str = "items", **config: Any) -> OpenSearchSink:
        settings = {"url": self.url, "index": self.prefix + index, "id": "{pk}", **config}
        if "{" in index:
            settings["allow_indexes"] = [self.prefix + "*"]
        return OpenSearchSink(OpenSearchConfig.model_validate(settings), context())

    def write(self, sink: OpenSearchSink, *batches: Sequence[Change]) -> list[Outcome]:
        async def run() -> list[Outcome]:
            async with opened(sink):
                return [outcome for batch in batches for outcome in await sink.write(batch)]

        return asyncio.run(run())


@pytest.fixture
def house(opensearch: OpenSearchServer, opensearch_index_prefix: str) -> House:
    return House(opensearch.url, opensearch_index_prefix)


def test_an_index_is_created_with_its_mapping_and_remembers_deletions(house: House) -> None:
    sink = house.sink(create_index=CREATE, gc_deletes="2h")
    house.write(sink)
    told = house.ask("GET", house.prefix + "items?flat_settings=true")[house.prefix + "items"]
    assert told["mappings"] == {"properties": {"n": {"type": "long"}}}
    assert told["settings"]["index.gc_deletes"] == "7200000ms"
    assert "has been created" in sink.describe()
    house.write(sink := house.sink(create_index=CREATE))
    assert "exists, deletions are remembered for 7200000ms" in sink.describe()
    assert "opensearch 2." in sink.describe()


def test_an_index_that_is_refused_is_said_at_the_start(house: House) -> None:
    with pytest.raises(ConfigError, match="mapper_parsing_exception"):
        house.write(house.sink(create_index={"mappings": {"properties": {"n": {"type": "no such type"}}}}))


def test_a_removal_does_not_create_an_index(house: House) -> None:
    assert house.write(house.sink(), [remove("a", version=2), remove("b", version=3)]) == [APPLIED] * 2
    assert not house.exists("items")
    assert house.write(house.sink(create_index=CREATE, index="{pk}"), [remove("a", version=2)]) == [APPLIED]
    assert not house.exists("a")


def test_a_removal_after_an_insert_counts_in_a_missing_index_too(house: House) -> None:
    batch = [insert("a", {"n": 1}, version=1), insert("b", {"n": 1}, version=2), remove("a", version=3)]
    assert house.write(house.sink(), batch) == [APPLIED] * 3
    assert [*house.documents("items")] == ["b"]


def test_items_choose_indexes_that_are_created_when_first_needed(house: House) -> None:
    batch = [
        insert("1", {"team": "red", "n": 1}, version=1),
        insert("2", {"team": "blue", "n": 2}, version=2),
        insert("3", {"team": "Red", "n": 3}, version=3),
        insert("4", {"team": "*", "n": 4}, version=4),
    ]
    outcomes = house.write(house.sink("items-{team}", create_index=CREATE), batch)
    assert outcomes[:2] == [APPLIED] * 2
    assert [outcome.reason for outcome in outcomes[2:] if isinstance(outcome, Rejected)] == ["index_invalid"] * 2
    assert [*house.documents("items-red")] == ["1"]
    assert [*house.documents("items-blue")] == ["2"]


def test_an_item_that_moves_house_is_only_at_its_new_place(house: House) -> None:
    sink = house.sink("items-{team}", id="{team}.{pk}", routing="{team}")
    outcomes = house.write(
        sink,
        [insert("a", {"team": "red"}, version=1), insert("b", {"team": "red"}, version=2)],
        [modify("a", {"team": "blue"}, old={"team": "red"}, version=3)],
        [modify("a", {"team": "blue"}, old={"team": "red"}, version=3)],
        [insert("a", {"team": "red"}, version=1)],
    )
    assert outcomes == [APPLIED, APPLIED, APPLIED, APPLIED, STALE]
    assert [*house.documents("items-red")] == ["red.b"]
    (moved,) = house.documents("items-blue").values()
    assert (moved["_id"], moved["_routing"], moved["_version"]) == ("blue.a", "blue", BASE_VERSION + 3)
    assert house.write(sink, [remove("a", old={"team": "blue"}, version=4)]) == [APPLIED]
    assert house.documents("items-blue") == {}


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (insert("p", {"n": "text"}), "mapper_parsing_exception"),
        (insert("p", {"n": {"an": "object"}}), "mapper_parsing_exception"),
        (insert("p", {"b": 128}), "mapper_parsing_exception"),
        (insert("p", {"_id": "x"}), "mapper_parsing_exception"),
        (insert("p", {"": 1}), "mapper_parsing_exception"),
        (insert("p", {f"field{n}": 1 for n in range(1001)}), "illegal_argument_exception"),
        (insert("p", {"k": "x" * 33_000}), "illegal_argument_exception"),
        (insert("x" * 513), "id_invalid"),
    ],
)
def test_a_poison_item_is_rejected_alone(house: House, poison: Change, reason: str) -> None:
    properties = {"n": {"type": "long"}, "b": {"type": "byte"}, "k": {"type": "keyword"}}
    sink = house.sink(create_index={"mappings": {"properties": properties}})
    before, outcome, after = house.write(sink, [insert("a", {"n": 1}), poison, insert("b", {"n": 2})])
    assert (before, after) == (APPLIED, APPLIED)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert "xxxx" not in outcome.detail
    assert [*house.documents("items")] == ["a", "b"]


def test_a_document_above_the_servers_limit_is_rejected_alone(house: House) -> None:
    huge = insert("huge", {"text": "x" * 101 * 1024 * 1024})
    before, outcome, after = house.write(house.sink(), [insert("a"), huge, insert("b")])
    assert (before, after) == (APPLIED, APPLIED)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "too_large"


def test_a_batch_above_bytes_max_is_written_whole(house: House) -> None:
    batch = [insert(f"k{n}", {"text": "x" * 40_000}, version=n + 1) for n in range(50)]
    sink = house.sink(bytes_max="100kB", create_index={"mappings": {"enabled": False}})
    assert house.write(sink, batch) == [APPLIED] * 50
    assert len(house.documents("items")) == 50


def test_a_read_only_index_makes_the_sink_unavailable_and_poisons_nothing(house: House) -> None:
    sink = house.sink(create_index=CREATE)
    block = {"index.blocks.read_only_allow_delete": True}

    async def run() -> Sequence[Outcome]:
        async with opened(sink):
            house.ask("PUT", f"{house.prefix}items/_settings", block)
            with pytest.raises(SinkUnavailable, match="blocks writes"):
                await sink.write([insert("a", {"n": "poison"}), insert("b", {"n": 1})])
            house.ask("PUT", f"{house.prefix}items/_settings", dict.fromkeys(block))
            return await sink.write([insert("a", {"n": "poison"}), insert("b", {"n": 1})])

    assert [type(outcome) for outcome in asyncio.run(run())] == [Rejected, Applied]


def test_a_closed_index_makes_the_sink_unavailable(house: House) -> None:
    house.write(house.sink(create_index=CREATE), [])
    house.ask("POST", f"{house.prefix}items/_close")
    with pytest.raises(SinkUnavailable, match="index_closed_exception"):
        house.write(house.sink(), [insert("a", {"n": 1})])


def test_documents_pass_the_refresh_that_was_asked_for(house: House) -> None:
    house.write(house.sink(refresh=True), [insert("a", {"n": 1})])
    assert house.ask("GET", f"{house.prefix}items/_count")["count"] == 1


def test_a_pipeline_that_is_missing_is_said_at_the_start(house: House) -> None:
    with pytest.raises(ConfigError, match="no ingest pipeline"):
        house.write(house.sink(pipeline="nowhere"))


def test_compressed_bodies_are_taken(house: House) -> None:
    batch = [insert(f"k{n}", {"n": n}, version=n + 1) for n in range(50)]
    assert house.write(house.sink(compress=True), batch) == [APPLIED] * 50
    assert len(house.documents("items")) == 50


def test_a_server_that_restarts_is_unavailable_and_then_takes_the_same_batch(
    house: House, opensearch: OpenSearchServer
) -> None:
    sink = house.sink(create_index=CREATE, timeout="5s")
    batch = [insert(f"k{n}", {"n": n}, version=n + 1) for n in range(20)]

    async def run() -> None:
        async with opened(sink):
            assert list(await sink.write(batch)) == [APPLIED] * 20
            await asyncio.to_thread(opensearch.process.kill)
            with pytest.raises(SinkUnavailable):
                await sink.write(batch)
            await asyncio.to_thread(opensearch.process.start)
            await asyncio.to_thread(house.ask, "GET", f"_cluster/health/{house.prefix}items?wait_for_status=yellow")
            assert list(await sink.write(batch)) == [APPLIED] * 20

    asyncio.run(run())
    assert len(house.documents("items")) == 20
