"""The DynamoDB Streams source: a table's change log, read directly."""

from connector.sources.dynamodb_streams.config import DynamoDBStreamsConfig
from connector.sources.dynamodb_streams.source import DynamoDBStreamsSource

__all__ = ["DynamoDBStreamsConfig", "DynamoDBStreamsSource"]
