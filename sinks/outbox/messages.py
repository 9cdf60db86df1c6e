"""Outbox items → messages."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from connector.change import Change, EventName
from connector.documents import Numbers, encode_document
from connector.errors import DecodeError, DocumentError, TemplateError
from connector.sink import Outcome, Rejected, Stale
from connector.templates import compile_template, plain
from sinks.notify.publishers.protocol import Message
from sinks.outbox.config import OutboxSinkConfig

ID_BYTES_MAX = 1024
TYPE_CHARS_MAX = 256
NOT_INSERTED = Stale("not_an_insert")
"""An item is published when it is written; that it is marked or deleted afterwards says nothing."""


class OutboxMessages:
    """Makes the message of each item."""

    def __init__(self, config: OutboxSinkConfig) -> None:
        self._config = config
        self._key = compile_template(config.key)
        self._id = compile_template(config.id, result_bytes_max=ID_BYTES_MAX)

    def make(self, change: Change) -> Message | Outcome:
        """The message, or why there is none."""
        if change.event_name is not EventName.INSERT:
            return NOT_INSERTED
        if change.new_image is None:
            return Rejected("image_missing", "the record does not carry the item: the stream needs new images")
        try:
            values = {**change.keys, **change.images.values(change.new_image)}
            return self._message(change, values)
        except (DecodeError, DocumentError, TemplateError) as error:
            return Rejected(error.code, error.message)
        except UnicodeEncodeError:
            return Rejected("document_not_unicode", "a text holds half a surrogate pair")

    def _message(self, change: Change, values: Mapping[str, Any]) -> Message | Outcome:
        config = self._config
        name = values.get(config.destination, config.default)
        if name is None:
            return Rejected("destination_missing", f"the item has no {config.destination!r}, and there is no default")
        to = config.destinations.get(name) if isinstance(name, str) else None
        if to is None:
            return Rejected("destination_unknown", f"what {config.destination!r} says is not among the destinations")
        kind = values.get(config.event_type)
        if not isinstance(kind, str) or not 0 < len(kind) <= TYPE_CHARS_MAX:
            return Rejected(
                "type_unusable", f"{config.event_type!r} must be a text of 1 to {TYPE_CHARS_MAX} characters"
            )
        headers: list[tuple[str, str]] = []
        for header, attribute in config.headers.items():
            if attribute not in values:
                continue
            text = _text(values[attribute])
            if text is None:
                return Rejected("header_unusable", f"{attribute!r} is neither a text, a number nor a truth value")
            headers.append((header, text))
        body = self._payload(change, values)
        if isinstance(body, Rejected):
            return body
        return Message(
            id=self._id.render(values, change),
            key=self._key.render(values, change),
            to=to,
            type=_checked(kind),
            body=body,
            time_ms=change.timestamp_ms,
            headers=tuple(headers),
        )

    def _payload(self, change: Change, values: Mapping[str, Any]) -> bytes | Rejected:
        name = self._config.payload
        payload = values.get(name)
        if isinstance(payload, str):
            body = payload.encode()
            try:
                msgspec.json.decode(body, type=msgspec.Raw)
            except msgspec.DecodeError:
                return Rejected("payload_not_json", f"the text in {name!r} is not JSON")
            return body
        if isinstance(payload, dict):
            document = change.new_document(Numbers.NUMBER)
            assert document is not None, "the image was read a moment ago"
            return encode_document(document[name])
        return Rejected("payload_unusable", f"{name!r} must be a text that is JSON, or a map")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return _checked(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return plain(value) if isinstance(value, Decimal) and value.is_finite() else None


def _checked(text: str) -> str:
    """The text; raises UnicodeEncodeError for one that no place can take."""
    text.encode()
    return text
