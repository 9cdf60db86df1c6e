"""What the destinations in AWS share: their options, a client in threads of its own, and its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound
from pydantic import BaseModel, ConfigDict, Field

from connector.config.units import Duration
from connector.errors import ConfigError, DeadLetterError

A = TypeVar("A")
T = TypeVar("T")

_FOR_A_PERSON = frozenset(
    {
        "403",
        "404",
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "InvalidParameter",
        "InvalidSecurity",
        "NoSuchBucket",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class AwsOptions(BaseModel):
    """Which region, and as whom."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{3,40}$", description="its region; unset: as its ARN says"
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#@]+$",
        description="another address than AWS's own, such as a VPC endpoint's or a local implementation's",
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        description="the profile of AWS's shared configuration files that credentials are taken from; unset: the usual "
        "chain (environment, profile, web identity, container, instance)",
    )
    timeout: Duration = Field(default=10.0, ge=1, le=120, description="how long one request may take")


class AwsClient:
    """A blocking client of one service: ``open``, then calls, then ``close``. ``what`` names the place in errors."""

    def __init__(self, service: str, options: AwsOptions, region: str | None, what: str, *, calls_at_once: int) -> None:
        self._service = service
        self._options = options
        self._region = region
        self._what = what
        self._calls_at_once = calls_at_once
        self._client: Any = None
        self._threads: ThreadPoolExecutor | None = None

    async def open(self, look: Callable[[Any], object]) -> None:
        """Make the client and look whether the place is there. Raises ConfigError for what only a person can mend."""
        await self.close()  # what an earlier try has left
        try:
            self._client = await self._in_thread(self._make)
        except (NoRegionError, ProfileNotFound, ValueError) as error:
            raise ConfigError(f"dead letters cannot go to {self._what}: {error}") from error
        try:
            await self._in_thread(lambda: look(self._client))
        except NoCredentialsError as error:
            raise ConfigError(f"dead letters cannot go to {self._what}: {error}") from error
        except ClientError as error:
            if error.response["Error"]["Code"] in _FOR_A_PERSON:
                raise ConfigError(f"dead letters cannot go to {self._what}: {_said(error)}") from error
            raise self._failure(error) from error
        except BotoCoreError as error:
            raise self._failure(error) from error

    async def call(self, work: Callable[[Any], T]) -> T:
        """Run a piece of work with the client in a thread. Raises DeadLetterError."""
        try:
            return await self._in_thread(lambda: work(self._client))
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error) from error

    async def each(self, work: Callable[[Any, A], T], items: Iterable[A]) -> list[T]:
        """Run work for each item, as many at once as there are threads; the answers in their order.

        Every item is tried, also when another one fails; then raises DeadLetterError.
        """
        calls = [self.call(lambda client, item=item: work(client, item)) for item in items]  # type: ignore[misc]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        done: list[T] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            done.append(answer)
        return done

    async def close(self) -> None:
        """Let go of connections and threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def _make(self) -> Any:
        timeout_s = self._options.timeout
        settings = ClientConfig(
            connect_timeout=min(5.0, timeout_s),
            read_timeout=timeout_s,
            # The office tries again for ever, and a fallback is there to be used: two attempts smooth a hiccup.
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=self._calls_at_once,
        )
        session = boto3.Session(profile_name=self._options.profile, region_name=self._region)
        return session.client(self._service, endpoint_url=self._options.endpoint, config=settings)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            name = f"dead-letters-{self._service}"
            self._threads = ThreadPoolExecutor(self._calls_at_once, thread_name_prefix=name)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _failure(self, error: BaseException) -> DeadLetterError:
        return DeadLetterError(f"dead letters cannot go to {self._what}: {_said(error)}")


def _said(error: BaseException) -> str:
    if isinstance(error, ClientError):
        said = error.response["Error"]
        return f"{said['Code']}: {said.get('Message', '')}"
    return str(error)
