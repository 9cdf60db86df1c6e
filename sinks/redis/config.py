"""What a user may write for ``type: redis``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connector.config.units import Duration, Secret, Size
from connector.documents import Numbers
from connector.errors import ConfigError
from connector.templates import compile_template

TTL_MAX_S = 10 * 365 * 86400
"""Ten years: Redis takes more, but a longer one is a slip of the pen."""


def _checked_template(text: str) -> str:
    try:
        compile_template(text)
    except ConfigError as error:
        raise ValueError(error.message) from None
    return text


KeyTemplate = Annotated[str, Field(min_length=1, examples=["order:{sk}"])]


class WriteConfig(BaseModel):
    """Write-through: each item is kept under one key, guarded by its version."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    key: KeyTemplate
    """The template of the key that holds an item, like ``order:{pk}``."""
    ttl: Annotated[Duration, Field(ge=0.001, le=TTL_MAX_S)] | None = None
    """How long a value lives after its last write; for ever unless said otherwise."""
    tombstone_ttl: Annotated[Duration, Field(ge=1, le=TTL_MAX_S)] = 3600.0
    """How long a removed item's version is remembered, so that nothing older brings it back. Must be longer than a
    replay, a reader's fill, or a replica may lag behind."""
    numbers: Numbers = Numbers.NUMBER
    """What becomes of a number that neither a 64-bit integer nor a double holds exactly."""

    _check_key = field_validator("key")(_checked_template)


class RedisSinkConfig(BaseModel):
    """Exactly one of ``invalidate`` and ``write`` says what the sink does.

    A template without a literal prefix (``"{pk}"``) can name any key of the database: write a prefix, or give the sink
    a database or an ACL of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    url: Secret
    """``redis://[user:password@]host[:port][/database]``, or ``rediss://`` for TLS."""
    cluster: bool = False
    """Whether the URL's server is a node of a Redis Cluster."""
    tls_ca: Path | None = None
    """A PEM file of certificate authorities to trust instead of the system's."""
    timeout: Annotated[Duration, Field(ge=0.01, le=600)] = 5.0
    """How long connecting, or one command's answer, may take before the server counts as down."""
    invalidate: Annotated[list[KeyTemplate], Field(min_length=1, max_length=32)] | None = None
    """Templates of the keys to drop, of the item as it was and as it is."""
    missing: Literal["reject", "skip"] = "reject"
    """What becomes of a change whose item lacks an attribute that an ``invalidate`` template names: ``reject`` drops
    the keys that can be named and dead-letters the change; ``skip`` says that such an item has no such key."""
    write: WriteConfig | None = None
    """Write-through instead: each item is kept under one key, guarded by its version."""
    key_bytes_max: Annotated[Size, Field(le=64 * 1024)] = 1024
    """Longer keys are rejected (``result_too_long``)."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret) -> Secret:
        # The messages never repeat the URL: it may hold a password.
        try:
            parts = urlsplit(url.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError("the URL cannot be read; percent-encode what is special in user and password") from None
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError("the URL must begin with redis:// or rediss://")
        if not parts.hostname:
            raise ValueError("the URL names no host")
        if parts.query or parts.fragment:
            raise ValueError("the URL takes no '?' options or '#': use this sink's own options")
        database = parts.path.strip("/")
        if database and not (database.isascii() and database.isdigit()):
            raise ValueError("what follows the host in the URL must be a database's number, like redis://host:6379/0")
        return url

    @field_validator("invalidate")
    @classmethod
    def _check_templates(cls, templates: list[str] | None) -> list[str] | None:
        if templates is not None:
            for text in templates:
                _checked_template(text)
            if len(set(templates)) < len(templates):
                raise ValueError("a template stands here twice")
        return templates

    @model_validator(mode="after")
    def _check_whole(self) -> RedisSinkConfig:
        if (self.invalidate is None) == (self.write is None):
            raise ValueError("write exactly one of 'invalidate' and 'write'")
        if self.write is not None and "missing" in self.model_fields_set:
            raise ValueError("'missing' belongs to 'invalidate'")
        parts = urlsplit(self.url.get_secret_value())
        if self.tls_ca is not None and parts.scheme != "rediss":
            raise ValueError("'tls_ca' needs a URL that begins with rediss://")
        if self.cluster and parts.path.strip("/") not in ("", "0"):
            raise ValueError("a cluster has only database 0")
        return self
