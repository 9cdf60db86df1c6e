"""Dead letters in a Kafka topic."""

from connector.deadletter.kafka.destination import KafkaDeadLetters, KafkaDeadLettersConfig

__all__ = ["KafkaDeadLetters", "KafkaDeadLettersConfig"]
