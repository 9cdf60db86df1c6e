"""How the images of DynamoDB records are read, for each format that carries them."""

from __future__ import annotations

from typing import Any

from connector.attribute_documents import to_document
from connector.attributes import to_values
from connector.change import Record
from connector.codecs.json_reading import read_object
from connector.documents import Numbers
from connector.errors import DecodeError


class DynamoDBImages:
    """Images as typed JSON. Each method raises DecodeError for an image that is not one."""

    def matchable(self, image: bytes) -> dict[str, Any]:
        """The image with its type tags: what DynamoDB's filter patterns are written against."""
        return read_object(image)

    def values(self, image: bytes) -> dict[str, Any]:
        """The image as Python values, exact."""
        return to_values(read_object(image))

    def document(self, image: bytes, numbers: Numbers) -> dict[str, Any]:
        """The image as a JSON-ready document. Raises DocumentError where ``numbers`` is ``REJECT``."""
        return to_document(read_object(image), numbers)

    def envelope(self, record: Record, index: int) -> dict[str, Any]:
        """The whole stream record; of a Lambda event, its ``index``-th one."""
        whole = read_object(record.value or b"")
        if whole.get("Records") is None:
            return whole
        entry = whole["Records"][index]
        if type(entry) is not dict:
            raise DecodeError("wrong_shape", "a record of the event is not an object")
        return entry


DYNAMODB_IMAGES = DynamoDBImages()
"""The one that all DynamoDB changes share."""
