"""Invalidation: the cache keys that a change makes untrue are dropped, at the item's old place and at its new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connector.change import Change, EventName
from connector.errors import DecodeError, DocumentError, TemplateError
from connector.sink import APPLIED, Outcome, Rejected
from connector.templates import Template, compile_template
from sinks.redis.server import Command, Server

KEYS_MAX = 2_000
"""Keys in one UNLINK. It blocks the server for about 1 ms; more win nothing that can be measured."""


class Invalidation:
    """Drops keys; the order in which that happens does not matter, so a batch's keys are a set."""

    def __init__(self, server: Server, templates: Sequence[str], *, missing: str, key_bytes_max: int) -> None:
        self._server = server
        self._templates = tuple(compile_template(text, result_bytes_max=key_bytes_max) for text in templates)
        self._skip_missing = missing == "skip"
        self.place_attributes = frozenset[str]().union(*(template.attributes for template in self._templates))

    async def open(self) -> None:
        """Nothing to prepare: the server's own ``open`` has tried an UNLINK."""

    def describe(self) -> str:
        """For people."""
        return "drops " + ", ".join(template.text for template in self._templates)

    async def write(self, batch: Sequence[Change]) -> list[Outcome]:
        """See ``Sink.write``."""
        keys, outcomes = self.keys_of(batch)
        if keys:
            groups = self._server.grouped(keys, KEYS_MAX)
            for answer in await self._server.run([Command(group[0], ("UNLINK", *group)) for group in groups]):
                if isinstance(answer, Exception):
                    raise answer
        return outcomes

    def keys_of(self, batch: Sequence[Change]) -> tuple[dict[bytes, None], list[Outcome]]:
        """The keys to drop, each once, and the outcome of each change once they are dropped."""
        keys: dict[bytes, None] = {}
        outcomes: list[Outcome] = [APPLIED] * len(batch)
        templates, place_attributes = self._templates, self.place_attributes
        for at, change in enumerate(batch):
            values = change.keys
            if place_attributes <= values.keys():
                # The hot path: the key alone decides, no image is opened, and both places are one.
                try:
                    for template in templates:
                        keys[template.render(values, change).encode()] = None
                except TemplateError as error:
                    outcomes[at] = Rejected(error.code, error.message)
            else:
                problem = self._add_both_sides(change, keys)
                if problem is not None:
                    outcomes[at] = problem
        return keys, outcomes

    def _add_both_sides(self, change: Change, keys: dict[bytes, None]) -> Rejected | None:
        """Add the keys of both images. What can be named is dropped, whatever else is wrong with the change."""
        sides: list[Mapping[str, Any] | None] = []
        problem: Rejected | None = None
        if change.event_name is not EventName.REMOVE:
            side, problem = _values(change, change.new_image)
            sides.append(side)
        if change.event_name is EventName.REMOVE or (
            change.event_name is EventName.MODIFY and change.old_image is not None
        ):
            side, old_problem = _values(change, change.old_image)
            sides.append(side)
            problem = problem or old_problem
        for template in self._templates:
            if template.attributes <= change.keys.keys():
                problem = self._add(template, change.keys, change, keys) or problem
                continue
            named = False
            failure: Rejected | None = None
            for side in sides:
                if side is None:
                    continue
                failed = self._add(template, side, change, keys)
                failure, named = failed or failure, named or failed is None
            # An item that had no such key on one side has only the other side's to drop.
            if failure is not None and not (named and failure.reason == "attribute_missing"):
                problem = failure
        return problem

    def _add(
        self, template: Template, values: Mapping[str, Any], change: Change, keys: dict[bytes, None]
    ) -> Rejected | None:
        try:
            keys[template.render(values, change).encode()] = None
        except TemplateError as error:
            if error.code == "attribute_missing" and self._skip_missing:
                return None
            return Rejected(error.code, error.message)
        return None


def _values(change: Change, image: bytes | None) -> tuple[Mapping[str, Any] | None, Rejected | None]:
    if image is None:
        return None, Rejected("image_missing", "a template uses attributes beside the key, and the record has no image")
    try:
        values = change.images.values(image)
    except (DecodeError, DocumentError) as error:
        return None, Rejected(error.code, error.message)
    return {**change.keys, **values}, None
