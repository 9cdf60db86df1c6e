"""What the client reports beside messages: what passes is waited out and logged, what does not ends the source."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from connector.brokers import PERSON_NEEDED
from connector.clock import Clock
from connector.errors import SourceError

log = structlog.get_logger(__name__)

LOG_AGAIN_S = 30.0
"""How often the same kind of trouble is logged while it lasts."""
MISSING_S = 30.0
"""How long a topic may be unknown before it counts as deleted: a broker that starts knows few topics at first."""
LOOK_AGAIN_S = 5.0
QUIET_S = 30.0
"""After how long without a record the topics are looked at: the client does not always tell of a deleted one."""

OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})
TOPIC_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
FINAL = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.UNSUPPORTED_VERSION,
        # A record that the client cannot read is skipped by it: that would be a loss.
        KafkaError._BAD_MSG,
        KafkaError._BAD_COMPRESSION,
        KafkaError._CRIT_SYS_RESOURCE,
    }
)


def is_final(error: KafkaError) -> bool:
    """Whether only a person can mend it."""
    return error.fatal() or error.code() in FINAL


class Troubles:
    """Remembers what was reported, so that a log is not flooded and a deleted topic is told from a slow start."""

    def __init__(self, clock: Clock) -> None:
        self.last = ""
        """The last thing that went wrong with the connection, for people."""
        self._seen: set[int] = set()
        self._clock = clock
        self._logged: dict[int, float] = {}
        self._missing: dict[str, float] = {}
        self._looked_at = self._heard_at = clock.monotonic()

    def note(self, error: KafkaError) -> None:
        """Log something that may pass."""
        self.last = error.str()
        self._seen.add(error.code())
        now = self._clock.monotonic()
        if now - self._logged.get(error.code(), -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged[error.code()] = now
            log.warning("kafka client reports trouble, going on", code=error.name(), reason=error.str())

    def person_needed(self) -> bool:
        """Whether something was reported that does not pass, while the client itself goes on trying."""
        return not self._seen.isdisjoint(PERSON_NEEDED)

    def weigh(self, error: KafkaError, topic: str | None) -> None:
        """Log what may pass; raise SourceError for what will not."""
        if is_final(error):
            raise SourceError(f"{topic or 'the cluster'} cannot be read on: {error.str()} ({error.name()})")
        if error.code() in TOPIC_MISSING and topic:
            self._missing.setdefault(topic, self._clock.monotonic())
        self.note(error)

    def look_for_missing(self, consumer: Consumer, topics: Sequence[str], *, heard: bool) -> None:
        """Raise SourceError when a topic stays unknown. ``heard``: records came just now, so all may be well."""
        now = self._clock.monotonic()
        if heard:
            self._heard_at = now
        if not self._missing and now - self._heard_at < QUIET_S:
            return
        if now - self._looked_at < (LOOK_AGAIN_S if self._missing else QUIET_S):
            return
        self._looked_at = now
        for topic in list(self._missing) or topics:
            try:
                found = consumer.list_topics(topic, timeout=LOOK_AGAIN_S).topics[topic]
            except KafkaException as failed:
                self.note(failed.args[0])
                return
            if found.error is None:
                self._missing.pop(topic, None)
            elif found.error.code() not in TOPIC_MISSING:
                self.note(found.error)
            elif now - self._missing.setdefault(topic, now) >= MISSING_S:
                raise SourceError(f"topic {topic!r} is gone: {found.error.str()}")
