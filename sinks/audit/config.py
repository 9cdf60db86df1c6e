"""What a user may write for ``type: audit``."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connector.config.units import Duration, Secret
from connector.documents import Numbers

SQLITE = "sqlite:///"
_NAME = r"[a-z_][a-z0-9_]{0,47}"


class AuditSinkConfig(BaseModel):
    """An append-only table in SQLite or PostgreSQL that holds each change once."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    url: Secret
    """``sqlite:///audit.db`` (relative), ``sqlite:////var/lib/audit.db`` (absolute) or ``postgresql://…``."""
    table: Annotated[str, Field(pattern=rf"^({_NAME}\.)?{_NAME}$", examples=["audit", "history.audit"])] = "audit"
    """The table's name; in PostgreSQL it may begin with a schema's."""
    create: bool = True
    """Whether a table that is missing is made, with its index and the triggers that make it append-only."""
    diff: bool = True
    """Whether the column ``diff`` holds the attributes that a MODIFY changed."""
    numbers: Numbers = Numbers.NUMBER
    """What becomes of a number that neither a 64-bit integer nor a double holds exactly. As JSON text keeps all
    digits, ``number`` loses nothing here."""
    timeout: Annotated[Duration, Field(ge=0.1, le=600)] = 10.0
    """How long connecting, a lock, or the writing of one batch may take before the database counts as down."""
    synchronous: Literal["full", "normal"] = "full"
    """SQLite only. ``normal`` does not wait for the disk: a power cut may lose the last batches though their positions
    were saved."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret) -> Secret:
        # The messages never repeat the URL: it may hold a password.
        text = url.get_secret_value()
        if text.startswith(SQLITE):
            if text == SQLITE or "?" in text or "\0" in text:
                raise ValueError("after sqlite:/// comes the path of a file, and no '?' options")
            return url
        if urlsplit(text).scheme not in ("postgresql", "postgres"):
            raise ValueError("the URL must begin with sqlite:/// or postgresql://")
        try:
            conninfo_to_dict(text)
        except ProgrammingError:
            raise ValueError("the URL cannot be read; percent-encode what is special in user and password") from None
        return url

    @model_validator(mode="after")
    def _check_whole(self) -> AuditSinkConfig:
        if self.sqlite_path is None and "synchronous" in self.model_fields_set:
            raise ValueError("'synchronous' belongs to SQLite; PostgreSQL has synchronous_commit")
        if self.sqlite_path is not None and "." in self.table:
            raise ValueError("a table in SQLite has no schema before its name")
        return self

    @property
    def sqlite_path(self) -> str | None:
        """The file, where the URL names one."""
        text = self.url.get_secret_value()
        return text.removeprefix(SQLITE) if text.startswith(SQLITE) else None
