"""The OpenSearch sink: a key's last state as a document, versions deciding which state is the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlencode

from pydantic import BaseModel

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable
from connector.sink import APPLIED, Needs, Outcome, Rejected, Retry, Semantics, SinkContext
from sinks.opensearch.client import CertificateRefused, Client, ConnectionBroken, error_of, unavailable
from sinks.opensearch.config import OpenSearchConfig
from sinks.opensearch.encode import Actions, Encoder, bodies
from sinks.opensearch.indexes import AllowList, Indexes, creation_body, is_data_chosen
from sinks.opensearch.outcomes import FILTER_PATH, BulkRefused, outcomes_of, worse
from sinks.opensearch.server import ServerFacts, read_facts
from sinks.opensearch.signing import Signer

_HTTP_BYTES_DEFAULT = 100 * 1024 * 1024
"""OpenSearch's ``http.max_content_length`` where it does not say."""
_SUSPECT_BODY_BYTES = 1024 * 1024
"""A smaller body that breaks a connection is not taken to be too large for a proxy (nginx: 1 MiB)."""


class OpenSearchSink:
    """Writes changes by bulk requests with external versions: replays and late older changes change nothing."""

    config_model: ClassVar[type[BaseModel]] = OpenSearchConfig
    lanes_default: ClassVar[int] = 4
    batch_size_default: ClassVar[int] = 1000

    semantics = Semantics.STATE
    needs = Needs.NEW_IMAGE

    def __init__(self, config: OpenSearchConfig, context: SinkContext) -> None:
        self._config = config
        self._data_chosen = is_data_chosen(config.index)
        self._encoder = Encoder(
            index=config.index,
            id=config.id,
            routing=config.routing,
            allow=AllowList(config.allow_indexes) if self._data_chosen else None,
            numbers=config.numbers,
            include=config.fields.include,
            exclude=config.fields.exclude,
            line_bytes_max=_HTTP_BYTES_DEFAULT,
        )
        self.place_attributes = self._encoder.attributes
        aws = config.aws
        self._signer = None if aws is None else Signer(region=aws.region, service=aws.service, profile=aws.profile)
        self._client = Client(
            config.urls,
            basic=None if config.auth is None else (config.auth.username, config.auth.password.get_secret_value()),
            signer=self._signer,
            ca=config.tls.ca,
            verify=config.tls.verify,
            timeout_s=config.timeout,
            compress=config.compress,
        )
        create = config.create_index
        self._indexes = Indexes(
            self._client,
            None if create is None else creation_body(create.mappings, create.settings, config.gc_deletes),
        )
        query = {"filter_path": FILTER_PATH, "pipeline": config.pipeline, "refresh": _refresh_text(config.refresh)}
        self._bulk_path = "/_bulk?" + urlencode(
            {name: value for name, value in query.items() if value is not None}, safe=",*"
        )
        self._facts = ServerFacts()

    async def open(self) -> None:
        """Connect; read the server's limits; create a literal index that is missing, if asked."""
        if self._signer is not None:
            await self._signer.open()
        self._client.open()
        literal = None if self._data_chosen else self._config.index
        try:
            self._facts = await read_facts(self._client, index=literal, pipeline=self._config.pipeline)
        except CertificateRefused as error:
            raise ConfigError(str(error), path=("tls",)) from error
        # The action's own line, and some room: the limit is for the whole body.
        self._encoder.line_bytes_max = (self._facts.http_bytes_max or _HTTP_BYTES_DEFAULT) - 16 * 1024
        if literal is not None:
            refused = await self._indexes.create_missing([literal])
            for each in refused.values():
                raise ConfigError(f"the index cannot be created: {each.reason}: {each.detail}", path=("create_index",))

    def describe(self) -> str:
        """For ``millrace check``: the cluster, its version, and what is known of the index."""
        return self._facts.describe(creates=self._config.create_index is not None)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def write(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write a batch in as few bulk requests as its size allows, one after the other."""
        actions = self._encoder.encode(batch)
        await self._keep_to_indexes(actions)
        outcomes = actions.outcomes
        bytes_max = min(self._config.bytes_max, self._encoder.line_bytes_max)
        for start, end in bodies(actions.lines, bytes_max):
            answers = await self._bulk(actions.lines[start:end])
            for owner, answer in zip(actions.owners[start:end], answers, strict=True):
                known = outcomes[owner]
                outcomes[owner] = answer if known is None else worse(known, answer)
        return _with_followers_retried(batch, [outcome or APPLIED for outcome in outcomes])

    async def _keep_to_indexes(self, actions: Actions) -> None:
        """Create the indexes that are missing; drop the deletes that would create one by accident."""
        if self._indexes.all_present(actions.indexes):
            return
        written = {name for name, is_delete in zip(actions.indexes, actions.deletes, strict=True) if not is_delete}
        refused = await self._indexes.create_missing(written)
        # A document makes OpenSearch create its index before anything of the bulk is done: then deletes go along.
        absent = await self._indexes.absent(frozenset(actions.indexes) - written)
        kept: list[int] = []
        for place, (owner, name, is_delete) in enumerate(
            zip(actions.owners, actions.indexes, actions.deletes, strict=True)
        ):
            if name in refused and not is_delete:
                actions.outcomes[owner] = refused[name]
            elif name not in refused and name not in absent:
                kept.append(place)
        actions.keep(kept)

    async def _bulk(self, lines: Sequence[bytes]) -> Sequence[Outcome]:
        """One bulk request, or several where the server finds it too large. One outcome a line."""
        body = b"".join(lines)
        try:
            answer = await self._client.request("POST", self._bulk_path, body=body, content_type="application/x-ndjson")
        except ConnectionBroken:
            if len(body) <= _SUSPECT_BODY_BYTES or not await self._is_alive():
                raise
            if len(lines) == 1:
                return [Retry("connection_broken", f"the server breaks the connection at a body of {len(body)} bytes")]
            return await self._halves(lines)
        if answer.status == 200:
            return outcomes_of(answer.body, len(lines), data_chosen=self._data_chosen)
        if answer.status == 413:
            if len(lines) == 1:
                return [Rejected("too_large", f"the server refuses a body of {len(body)} bytes")]
            return await self._halves(lines)
        if answer.status == 400 and not error_of(answer)[1].startswith("explicit index"):
            raise BulkRefused(f"OpenSearch answered 400 {error_of(answer)[0]} to a bulk")
        # Everything else is about the server, the way to it, or permissions; not about what was sent.
        raise unavailable(answer, "a bulk")

    async def _halves(self, lines: Sequence[bytes]) -> Sequence[Outcome]:
        middle = len(lines) // 2
        return [*await self._bulk(lines[:middle]), *await self._bulk(lines[middle:])]

    async def _is_alive(self) -> bool:
        try:
            answer = await self._client.request("GET", "/")
        except SinkUnavailable:
            return False
        return answer.status < 500


def _with_followers_retried(batch: Sequence[Change], outcomes: list[Outcome]) -> list[Outcome]:
    """After a Retry the later changes of its key are retried too, in their order: versions make it harmless."""
    if not any(isinstance(outcome, Retry) for outcome in outcomes):
        return outcomes
    waiting: dict[str, Retry] = {}
    for place, (change, outcome) in enumerate(zip(batch, outcomes, strict=True)):
        earlier = waiting.get(change.key)
        if earlier is not None:
            outcomes[place] = Retry("earlier_change_retried", after_s=earlier.after_s)
        elif isinstance(outcome, Retry):
            waiting[change.key] = outcome
    return outcomes


def _refresh_text(refresh: bool | str) -> str | None:
    return None if refresh is False else "true" if refresh is True else refresh
