"""The topic that keeps dead letters: looked at before it is trusted, made where it is missing."""

from __future__ import annotations

from typing import Annotated

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic
from pydantic import StringConstraints

from connector.brokers import Properties, quiet_logger, shared_properties
from connector.config.units import MIB
from connector.errors import ConfigError, DeadLetterError

log = structlog.get_logger(__name__)

Topic = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]

REQUEST_S = 15.0
CREATED_WITH = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": str(20 * MIB),
}


def prepare_topic(properties: Properties, topic: str, *, create: bool) -> int:
    """How many partitions the topic has. Blocks.

    Raises ConfigError for a topic that is missing (without ``create``) or compacted: letters of one key would
    replace each other. Raises DeadLetterError where no broker answers.
    """
    try:
        admin = AdminClient(shared_properties(properties), logger=quiet_logger(__name__))
    except KafkaException as error:
        raise ConfigError(f"the kafka client refuses its options: {error.args[0].str()}") from error
    try:
        found = admin.list_topics(topic, timeout=REQUEST_S).topics[topic]
        if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            if not create:
                raise ConfigError(f"topic {topic!r} does not exist", path=("topic",))
            _create(admin, topic)
            return 1
        if found.error is not None:
            raise ConfigError(f"topic {topic!r} cannot be used: {found.error.str()}", path=("topic",))
        _look_at_policies(admin, topic)
        return len(found.partitions)
    except KafkaException as error:
        raise DeadLetterError(f"topic {topic!r} cannot be looked at: {error.args[0].str()}") from error
    finally:
        admin.poll(0)  # lets the client say what was wrong with the connection


def _create(admin: AdminClient, topic: str) -> None:
    new = NewTopic(topic, num_partitions=1, replication_factor=-1, config=CREATED_WITH)
    try:
        admin.create_topics([new], request_timeout=REQUEST_S)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    log.info("made the topic for dead letters", topic=topic)


def _look_at_policies(admin: AdminClient, topic: str) -> None:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        settings = admin.describe_configs([resource], request_timeout=REQUEST_S)[resource].result()
    except KafkaException as error:
        log.warning("the topic's retention cannot be looked at", topic=topic, reason=error.args[0].str())
        return
    values = {name: settings[name].value for name in ("cleanup.policy", "retention.ms") if name in settings}
    if "compact" in (values.get("cleanup.policy") or ""):
        raise ConfigError(
            f"topic {topic!r} is compacted: dead letters of one key would replace each other", path=("topic",)
        )
    if values.get("retention.ms") not in (None, "-1"):
        log.warning("dead letters in this topic are deleted with age", topic=topic, retention_ms=values["retention.ms"])
