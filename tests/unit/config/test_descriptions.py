"""Every option of every plug-in says what it means: the README's reference is made of that."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from connector import plugins

MODELS = [
    pytest.param(plugin.load().config_model, id=f"{kind}-{name}")
    for kind, found in (("source", plugins.sources()), ("sink", plugins.sinks()), ("dead", plugins.dead_letters()))
    for name, plugin in found.items()
    if plugin.distribution.startswith("millrace ")
]


def undescribed(model: type[BaseModel], path: str, seen: frozenset[type]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not field.description and name != "type":
            yield f"{path}.{name}"
        for nested in models_in(field.annotation):
            if nested not in seen:
                yield from undescribed(nested, f"{path}.{name}", seen | {nested})


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


@pytest.mark.parametrize("model", MODELS)
def test_every_option_says_what_it_means(model: type[BaseModel]) -> None:
    assert list(undescribed(model, "", frozenset({model}))) == []
