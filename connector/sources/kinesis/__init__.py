"""Changes read from Kinesis Data Streams."""

from connector.sources.kinesis.config import KinesisConfig
from connector.sources.kinesis.source import KinesisSource

__all__ = ["KinesisConfig", "KinesisSource"]
