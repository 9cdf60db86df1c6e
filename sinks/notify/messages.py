"""Changes → messages: by templates over the item, or the whole change as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from connector.change import Change, EventName
from connector.documents import Numbers
from connector.errors import DecodeError, DocumentError, TemplateError
from connector.sink import Outcome, Rejected
from connector.templates import Template, compile_template
from sinks.notify.publishers.protocol import Message

MESSAGE_BYTES_MAX = 256 * 1024
"""Of one rendered template."""
ID_BYTES_MAX = 1024
TYPE_BYTES_MAX = 128
"""EventBridge's longest ``detail-type``."""
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
_NOT_UNICODE = Rejected("document_not_unicode", "a text holds half a surrogate pair")

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Messages:
    """Makes the message of each change."""

    def __init__(
        self,
        message: str | Mapping[str, str] | None,
        *,
        to: str,
        message_id: str,
        message_type: str,
        missing: str,
        numbers: Numbers,
        route: str,
        id_inside: bool,
    ) -> None:
        """``id_inside``: a JSON object gets its message's id as ``event_id``, for a place that has no other room."""
        self._to = to
        self._id = compile_template(message_id, result_bytes_max=ID_BYTES_MAX)
        self._type = compile_template(message_type, result_bytes_max=TYPE_BYTES_MAX)
        self._text: Template | None = None
        self._fields: dict[str, Template] | None = None
        if isinstance(message, str):
            self._text = compile_template(message, result_bytes_max=MESSAGE_BYTES_MAX)
        elif message is not None:
            self._fields = {
                name: compile_template(text, result_bytes_max=MESSAGE_BYTES_MAX) for name, text in message.items()
            }
        templates = [self._id, self._type, *([self._text] if self._text else []), *(self._fields or {}).values()]
        self._attributes = frozenset[str]().union(*(template.attributes for template in templates))
        self._null_where_missing = missing == "null"
        self._numbers = numbers
        self._route = route
        self._id_inside = id_inside
        self._content_type = TEXT if self._text is not None else JSON

    def make(self, change: Change) -> Message | Outcome:
        """The message, or why there can be none."""
        try:
            values = self._values(change)
            message_id = self._id.render(values, change)
            return Message(
                id=message_id,
                key=change.key,
                to=self._to,
                type=self._type.render(values, change),
                body=self._body(change, values, message_id),
                time_ms=change.timestamp_ms,
                content_type=self._content_type,
            )
        except (DecodeError, DocumentError, TemplateError) as error:
            return Rejected(error.code, error.message)
        except UnicodeEncodeError:
            return _NOT_UNICODE

    def _values(self, change: Change) -> Mapping[str, Any]:
        """What the templates see: the item as it is now, and as it was where it is gone."""
        if self._attributes <= change.keys.keys():
            return change.keys  # no image is opened for the key's own attributes
        image = change.old_image if change.event_name is EventName.REMOVE else change.new_image
        if image is None:
            raise TemplateError(
                "image_missing", "the message uses attributes beside the key, and the record has no image with them"
            )
        return {**change.keys, **change.images.values(image)}

    def _body(self, change: Change, values: Mapping[str, Any], message_id: str) -> bytes:
        if self._text is not None:
            return self._text.render(values, change).encode()
        if self._fields is None:
            document = self._whole(change)
        else:
            document = {name: self._field(template, values, change) for name, template in self._fields.items()}
        if self._id_inside:
            document["event_id"] = message_id
        return _encode(document)

    def _field(self, template: Template, values: Mapping[str, Any], change: Change) -> str | None:
        try:
            return template.render(values, change)
        except TemplateError as error:
            if self._null_where_missing and error.code in ("attribute_missing", "result_empty"):
                return None
            raise

    def _whole(self, change: Change) -> dict[str, Any]:
        """The change as the sink ``stdout`` writes it."""
        happened = datetime.fromtimestamp(change.timestamp_ms / 1000, UTC)
        return {
            "event_name": change.event_name,
            "key": change.keys,
            "version": change.version,
            "route": self._route,
            "shard": change.shard,
            "position": change.position,
            "event_id": change.event_id,
            "time": happened.isoformat(timespec="milliseconds"),
            "new": change.new_document(self._numbers),
            "old": change.old_document(self._numbers),
        }
