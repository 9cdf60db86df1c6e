"""What is asked of the server when the sink is opened: who it is, its limits, whether the index is there."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from connector.errors import ConfigError
from sinks.opensearch.client import Answer, Client, unavailable


class ServerFacts(msgspec.Struct, frozen=True):
    """What the server told; empty or None where it did not (Serverless and narrow permissions tell little)."""

    cluster: str = ""
    version: str = ""
    http_bytes_max: int | None = None
    index: str | None = None
    """The literal index, None where items choose."""
    index_exists: bool = False
    gc_deletes: str | None = None

    def describe(self, *, creates: bool) -> str:
        """One line for people."""
        server = f"{self.cluster or 'a cluster'} ({self.version or 'version not told'})"
        if self.index is None:
            return f"{server}, indexes are chosen by the items"
        if not self.index_exists:
            what = "was missing and has been created" if creates else "is missing: the first document creates it"
            return f"{server}, index {self.index} {what}"
        return f"{server}, index {self.index} exists, deletions are remembered for {self.gc_deletes or '60s'}"


async def read_facts(client: Client, *, index: str | None, pipeline: str | None) -> ServerFacts:
    """Ask. Raises ConfigError for wrong credentials and for a pipeline that is not there, and SinkUnavailable."""
    cluster, version = await _who(client)
    http_bytes_max = await _http_bytes_max(client)
    if pipeline is not None:
        answer = await client.request("GET", f"/_ingest/pipeline/{quote(pipeline, safe='')}")
        if answer.status == 404:
            raise ConfigError(f"there is no ingest pipeline {pipeline!r}", path=("pipeline",))
    facts = ServerFacts(cluster=cluster, version=version, http_bytes_max=http_bytes_max, index=index)
    if index is None:
        return facts
    answer = await client.request("HEAD", f"/{quote(index, safe='')}")
    if answer.status in (401, 403):
        raise ConfigError(f"these credentials may not use the index {index!r} (OpenSearch answered {answer.status})")
    if answer.status == 404:
        return facts
    if answer.status != 200:
        raise unavailable(answer, "looking for the index")
    return msgspec.structs.replace(facts, index_exists=True, gc_deletes=await _gc_deletes(client, index))


async def _who(client: Client) -> tuple[str, str]:
    answer = await client.request("GET", "/")
    if answer.status == 401:
        raise ConfigError("the server refuses the credentials (401)", path=("auth",))
    if answer.status in (403, 404):  # a narrow role, and Serverless
        return "", ""
    if answer.status != 200:
        raise unavailable(answer, "saying who it is")
    told = _json_of(answer)
    version = told.get("version")
    if not isinstance(version, dict):
        raise ConfigError("what answers at this address is not OpenSearch", path=("url",))
    name = str(version.get("distribution", "elasticsearch"))
    return str(told.get("cluster_name", "")), f"{name} {version.get('number', '')}"


async def _http_bytes_max(client: Client) -> int | None:
    """The smallest ``http.max_content_length`` of the nodes: beyond it they break the connection without a word."""
    answer = await client.request("GET", "/_nodes/http?filter_path=nodes.*.http.max_content_length_in_bytes")
    if answer.status != 200:
        return None
    nodes = _json_of(answer).get("nodes")
    limits = [node["http"]["max_content_length_in_bytes"] for node in nodes.values()] if isinstance(nodes, dict) else []
    return min(limits, default=None)


async def _gc_deletes(client: Client, index: str) -> str | None:
    answer = await client.request("GET", f"/{quote(index, safe='')}/_settings/index.gc_deletes?flat_settings=true")
    if answer.status != 200:
        return None
    settings = [value.get("settings", {}) for value in _json_of(answer).values() if isinstance(value, dict)]
    told = [str(each["index.gc_deletes"]) for each in settings if "index.gc_deletes" in each]
    return told[0] if told else None


def _json_of(answer: Answer) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}
