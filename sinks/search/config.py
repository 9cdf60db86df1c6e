"""What a user writes for the embedded search sink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from connector.config.units import Duration
from connector.documents import Numbers
from connector.errors import ConfigError
from connector.templates import compile_template

IndexName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_RESERVED = frozenset({"rank", "rowid"})
"""Names that FTS5 keeps for itself."""


class SearchConfig(BaseModel):
    """Items as documents of a full-text index in an SQLite file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["search"] = "search"
    path: Path = Field(strict=False, description="The SQLite file; it is created where it is missing.")
    index: IndexName = Field(description="The index's name inside the file.")
    id: str = Field(description="A template for the document's id, like {pk}|{sk}.")
    fields: list[str] = Field(
        min_length=1, max_length=100, description="The attributes whose text is searched; address.city leads inside."
    )
    gc_deletes: Duration = Field(
        default=3600.0, description="How long deletions are remembered against late older changes."
    )
    numbers: Numbers = Field(
        default=Numbers.NUMBER, strict=False, description="How numbers are kept that no 64-bit type holds exactly."
    )

    @field_validator("id")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            compile_template(value)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return value

    @field_validator("fields")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        for path in value:
            if not all(path.split(".")) or not path.isprintable() or len(path) > 255:
                raise ValueError(f"{path!r} is no path: write an attribute's name, or names with dots between them")
            if path.lower() in _RESERVED:
                raise ValueError(f"{path!r} cannot be searched: FTS5 keeps the name for itself")
        if len({path.lower() for path in value}) < len(value):
            raise ValueError("a field is named twice (upper and lower case are the same here)")
        return value
