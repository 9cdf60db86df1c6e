"""Calls of an AWS service: botocore's client in a few threads, without its retries, and what its failures mean.

Credentials, endpoints, proxies and certificates are those of AWS's usual chain and variables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field

from connector.config.units import Duration
from connector.errors import ConfigError, SinkUnavailable, Throttled
from connector.sink import APPLIED, Outcome, Rejected
from sinks.notify.publishers.protocol import Answers

_THROTTLES = frozenset(
    {
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ThrottledException",
        "Throttled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_POISON = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameter",
        "InvalidParameterValue",
        "InvalidArgument",
        "MalformedDetail",
        "ParameterValueInvalid",
        "ValidationException",
    }
)
"""Codes that speak of what one message holds. With any other (access, keys, a queue that is gone) no message is at
fault, and waiting for a person is better than a dead letter for each."""


class AwsPlace(BaseModel):
    """How an AWS service is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{3,40}$")] | None = None
    """The region; unset: that of AWS's usual variables or the profile."""
    profile: Annotated[str, Field(min_length=1)] | None = None
    """The profile of AWS's configuration files that has the credentials."""
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+$")] | None = None
    """Another address than the service's own."""
    timeout: Annotated[Duration, Field(ge=0.1, le=300)] = 10.0
    """How long one call may take to connect, and again to answer."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Calls under way at once, of all lanes together."""


class Refused(Exception):
    """The service refused a whole call for what stands in it; ``code`` is its own word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class AwsClient:
    """One service in one region. Made without I/O."""

    def __init__(self, service: str, place: AwsPlace) -> None:
        self._service = service
        self._place = place
        self._client: Any = None
        self._threads: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Find credentials and endpoint. Raises ConfigError."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._place.concurrency, thread_name_prefix=f"aws-{self._service}")
        if self._client is None:
            try:
                self._client = await asyncio.get_running_loop().run_in_executor(self._threads, self._connect)
            except (BotoCoreError, ValueError) as error:
                raise ConfigError(f"{self._service} cannot be used: {error}", path=(self._service,)) from error

    async def call(self, operation: str, **arguments: Any) -> Any:
        """The answer to one call (``send_message_batch``). Raises SinkUnavailable, Throttled, Refused."""
        assert self._threads is not None, "open() comes first"
        method = getattr(self._client, operation)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: method(**arguments))
        except ClientError as error:
            raise _meaning(f"{self._service} {operation}", error) from error
        except BotoCoreError as error:
            # Its text may hold what was sent; the kind says enough.
            raise SinkUnavailable(f"{self._service} cannot be reached ({type(error).__name__})") from error

    async def close(self) -> None:
        """Let go of threads and connections."""
        client, self._client = self._client, None
        threads, self._threads = self._threads, None
        if client is not None:
            client.close()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _connect(self) -> Any:
        session = botocore.session.Session(profile=self._place.profile)
        config = Config(
            connect_timeout=self._place.timeout,
            read_timeout=self._place.timeout,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=self._place.concurrency,
            user_agent_extra="millrace",
        )
        if session.get_credentials() is None:
            raise ConfigError("no AWS credentials were found in AWS's usual places", path=(self._service,))
        return session.create_client(
            self._service, region_name=self._place.region, endpoint_url=self._place.endpoint, config=config
        )


def _meaning(doing: str, error: ClientError) -> Exception:
    told = error.response.get("Error", {})
    code, said = str(told.get("Code", "")), str(told.get("Message", ""))[:300]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLES or status == 429:
        return Throttled(f"{doing}: {code}")
    if status in (400, 413) and code in _POISON | {"BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"}:
        return Refused(code, said)
    return SinkUnavailable(f"{doing}: {code}: {said}")


def entry_failed(doing: str, code: str, said: str, *, of_the_message: bool) -> Outcome:
    """The outcome of one entry that a batch call refused.

    ``of_the_message``: whether the service calls it the sender's fault. Raises Throttled or SinkUnavailable for what no
    message is to blame for.
    """
    if code in _THROTTLES:
        raise Throttled(f"{doing}: {code}")
    if of_the_message and code in _POISON:
        return Rejected(code, said[:300])
    raise SinkUnavailable(f"{doing}: {code}: {said[:300]}")


def text_size(*texts: str) -> int:
    """Bytes of texts in UTF-8."""
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def note_entries(doing: str, told: Any, answers: Answers) -> None:
    """Put what a batch call of SQS or SNS told of each entry (its ``Id`` is the place) where it belongs.

    Raises what the first entry that no message is to blame for stands for, after all answers are noted.
    """
    for entry in told.get("Successful", ()):
        answers[int(entry["Id"])] = APPLIED
    failures: list[SinkUnavailable] = []
    for entry in told.get("Failed", ()):
        code, said, blamed = entry.get("Code", ""), entry.get("Message", ""), entry.get("SenderFault", False)
        try:
            answers[int(entry["Id"])] = entry_failed(doing, code, said, of_the_message=blamed)
        except SinkUnavailable as error:
            failures.append(error)
    if failures:
        raise failures[0]


def note_refusal(error: Refused, places: Sequence[int], answers: Answers) -> None:
    """A whole call was refused for what stands in it: the message is rejected if it was alone.

    Raises ``error`` again otherwise: nobody knows which message it was, and delivery finds out.
    """
    if len(places) > 1:
        raise error
    answers[places[0]] = Rejected(error.code.rpartition(".")[2], str(error))
