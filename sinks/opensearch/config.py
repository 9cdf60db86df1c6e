"""What a user writes for the OpenSearch sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connector.config.units import MIB, Duration, Secret, Size
from connector.documents import Numbers
from connector.errors import ConfigError
from connector.templates import Template, compile_template
from sinks.opensearch.indexes import is_data_chosen, name_fault

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Auth(BaseModel):
    """HTTP basic authentication."""

    model_config = _STRICT

    username: str = Field(min_length=1, description="The user.")
    password: Secret = Field(description="Its password.")


class TLS(BaseModel):
    """How the server's certificate is checked. Used for ``https`` addresses."""

    model_config = _STRICT

    ca: Path | None = Field(default=None, strict=False, description="A PEM file with the certificates to trust.")
    verify: bool = Field(default=True, description="false trusts any server: for experiments only.")


class AWS(BaseModel):
    """Requests signed with AWS Signature Version 4, with credentials from AWS's usual chain."""

    model_config = _STRICT

    region: str = Field(min_length=1, description="The domain's AWS region.")
    service: Literal["es", "aoss"] = Field(default="es", description="es: a domain; aoss: OpenSearch Serverless.")
    profile: str | None = Field(default=None, description="A profile of the AWS configuration files.")


class CreateIndex(BaseModel):
    """How an index that is missing is created: as in the body of OpenSearch's own create index call."""

    model_config = _STRICT

    mappings: dict[str, Any] = Field(default_factory=dict, description="The mappings of its fields.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Its settings, like number_of_shards.")


class Fields(BaseModel):
    """Which of the item's top-level attributes become part of the document."""

    model_config = _STRICT

    include: list[str] | None = Field(default=None, min_length=1, description="Only these; all where it is left out.")
    exclude: list[str] = Field(default_factory=list, description="Not these.")


class OpenSearchConfig(BaseModel):
    """Items as documents of an OpenSearch index, kept true by versions."""

    model_config = _STRICT

    type: Literal["opensearch"] = "opensearch"
    url: str | list[str] = Field(description="The server's address, or several of one cluster: http(s)://host:port.")
    auth: Auth | None = Field(default=None, description="HTTP basic authentication.")
    aws: AWS | None = Field(default=None, description="Requests signed with SigV4, instead of auth.")
    tls: TLS = Field(default=TLS(), description="How the server's certificate is checked.")
    index: str = Field(description="The index's name, or a template that chooses one for each item.")
    id: str = Field(description="A template for the document's id, like {pk}|{sk}.")
    routing: str | None = Field(default=None, description="A template for the document's routing value.")
    pipeline: str | None = Field(default=None, min_length=1, description="An ingest pipeline that documents pass.")
    allow_indexes: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Which indexes items may choose; * stands for any text. An item that chooses another is rejected.",
    )
    create_index: CreateIndex | None = Field(default=None, description="Create an index that is missing.")
    gc_deletes: Duration = Field(
        default=3600.0,
        description="index.gc_deletes of created indexes: how long deletions are remembered against late changes.",
    )
    fields: Fields = Field(default=Fields(), description="Which of the item's attributes become part of the document.")
    numbers: Numbers = Field(
        default=Numbers.REJECT, strict=False, description="What happens to numbers that no 64-bit type holds exactly."
    )
    timeout: Duration = Field(default=60.0, gt=0, description="How long one request may take.")
    bytes_max: Size = Field(default=5 * MIB, description="A bulk body's size; a larger batch is sent in several.")
    compress: bool = Field(default=False, description="Send bodies gzipped: less network, more CPU.")
    refresh: Literal[False, True, "wait_for"] = Field(
        default=False, description="Make each batch visible to searches at once (true) or wait until it is (wait_for)."
    )

    @property
    def urls(self) -> list[str]:
        """The addresses, without a slash at their end."""
        return [url.rstrip("/") for url in ([self.url] if isinstance(self.url, str) else self.url)]

    @field_validator("url")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        urls = [value] if isinstance(value, str) else value
        if not urls:
            raise ValueError("at least one address is needed")
        for url in urls:
            try:
                parts = urlsplit(url)
                port_is_valid = parts.port is None or parts.port > 0
            except ValueError:
                port_is_valid = False
            if not port_is_valid or parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("an address looks like https://search.example.com:9200")
            if parts.username is not None or parts.password is not None:
                raise ValueError("credentials in an address end up in logs: write them under auth:")
            if parts.query or parts.fragment:
                raise ValueError("an address has no query and no fragment")
        return value

    @field_validator("index", "id", "routing")
    @classmethod
    def _templates(cls, value: str | None) -> str | None:
        if value is not None:
            _compiled(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> OpenSearchConfig:
        if self.auth is not None and self.aws is not None:
            raise ValueError("auth and aws exclude each other")
        if is_data_chosen(self.index):
            if not self.allow_indexes:
                raise ValueError("index is chosen by the data: allow_indexes must say which indexes it may choose")
        else:
            fault = name_fault(self.index)
            if fault:
                raise ValueError(f"index: {fault}")
            if self.allow_indexes:
                raise ValueError("allow_indexes has no effect: index names one index")
        return self


def _compiled(text: str) -> Template:
    try:
        return compile_template(text)
    except ConfigError as error:
        raise ValueError(error.message) from None
