"""The Kafka source: one shard a partition, in a consumer group that keeps the checkpoints as well."""

from connector.sources.kafka.config import KafkaSourceConfig
from connector.sources.kafka.source import KafkaSource

__all__ = ["KafkaSource", "KafkaSourceConfig"]
