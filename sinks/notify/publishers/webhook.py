"""A webhook: one POST a message, signed as the Standard Webhooks specification says (standardwebhooks.com, 1.0.0).

    webhook-id          the message's id, the same at each sending; also as Idempotency-Key
    webhook-timestamp   epoch seconds of this sending
    webhook-signature   v1,<base64 of HMAC-SHA256 over "id.timestamp.body">, once for each secret

Answers:

    2xx                          taken
    408 425 and 5xx              Retry; with Retry-After, and always 502 503 504: the endpoint is unavailable
    429                          the endpoint asks for less
    401 403 407, 3xx             unavailable: credentials or the address are wrong, which is no message's fault
    any other                    rejected
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import socket
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated

import aiohttp
from aiohttp.resolver import DefaultResolver
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from yarl import URL

from connector.clock import Clock
from connector.config.units import MIB, Duration, Secret, Size
from connector.errors import ConfigError, SinkUnavailable, Throttled
from connector.sink import APPLIED, Outcome, Rejected, Retry
from sinks.notify.publishers.addresses import AddressRefused, PublicOnly, is_literal, is_public
from sinks.notify.publishers.protocol import Answers, Message
from sinks.notify.publishers.sending import BEHIND, too_large
from sinks.notify.publishers.tokens import plain_token

_CONNECT_S_MAX = 10.0
_KEEPALIVE_S = 30.0
_ANSWER_BYTES_MAX = 64 * 1024
"""So much of an answer is read, to use the connection again; nothing is made of it."""
_ID_CHARS_MAX = 256
_BASE64_FOLLOWS = "whsec_"
_SECRET_BYTES_MIN = 16
_OURS = frozenset({"host", "content-type", "content-length", "transfer-encoding", "connection", "idempotency-key"})
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class WebhookConfig(BaseModel):
    """An HTTP endpoint that messages are posted to."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    url: Secret
    """The endpoint, ``https://…``; never printed, for it often holds a token. Redirects are not followed."""
    secret: Secret | None = None
    """Signs each message (Standard Webhooks, HMAC-SHA256): ``whsec_`` and base64, or any text of 16 bytes and more."""
    previous_secret: Secret | None = None
    """While a secret is being changed: signs too, so that receivers may check either."""
    headers: Annotated[dict[str, Secret], Field(max_length=20)] = {}
    """More headers, such as ``Authorization``; their values are never printed."""
    timeout: Annotated[Duration, Field(ge=0.1, le=300)] = 10.0
    """How long one request may take, connecting and all."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Requests under way at once, of all lanes together; those of one key come one after another all the same."""
    allow_private: bool = False
    """Whether private, loopback, link-local and metadata addresses, and ``http://``, are allowed."""
    bytes_max: Annotated[Size, Field(le=64 * MIB)] = MIB
    """A larger message is rejected (``message_too_large``)."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: Secret) -> Secret:
        try:
            parts = URL(url.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError("the URL cannot be read") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise ValueError("the URL must begin with https:// and name a host")
        if parts.user or parts.password:
            raise ValueError("user and password belong into headers (Authorization), not into the URL")
        return url

    @field_validator("secret", "previous_secret")
    @classmethod
    def _check_secret(cls, secret: Secret | None) -> Secret | None:
        if secret is not None and len(secret_bytes(secret.get_secret_value())) < _SECRET_BYTES_MIN:
            raise ValueError(f"a secret has {_SECRET_BYTES_MIN} bytes at least")
        return secret

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
            if name.lower() in _OURS or name.lower().startswith("webhook-"):
                raise ValueError(f"the header {name} is not yours to set")
            text = value.get_secret_value()
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"the value of {name} must be printable ASCII")
        return headers

    @model_validator(mode="after")
    def _check_whole(self) -> WebhookConfig:
        url = URL(self.url.get_secret_value())
        if self.previous_secret is not None and self.secret is None:
            raise ValueError("'previous_secret' without a 'secret'")
        if not self.allow_private:
            if url.scheme != "https":
                raise ValueError("http:// sends items in the clear: write https://, or allow_private: true")
            if is_literal(url.host or "") and not is_public(url.host or ""):
                raise ValueError("the URL's address is not public: allow_private: true allows that")
        return self


def secret_bytes(text: str) -> bytes:
    """The key that a secret's text stands for. Raises ValueError where it is no base64 behind its prefix."""
    if not text.startswith(_BASE64_FOLLOWS):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_BASE64_FOLLOWS), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {_BASE64_FOLLOWS} must be base64") from None


def signature(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One signature of a message, as it stands in ``webhook-signature``."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


class WebhookPublisher:
    """See ``Publisher``. Messages of one key are posted one after another, those of different keys at once."""

    def __init__(self, config: WebhookConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._url = URL(config.url.get_secret_value())
        self._secrets = [
            secret_bytes(secret.get_secret_value())
            for secret in (config.secret, config.previous_secret)
            if secret is not None
        ]
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._session: aiohttp.ClientSession | None = None
        self._resolver: aiohttp.abc.AbstractResolver | None = None
        self._free = asyncio.Semaphore(config.concurrency)

    def describe(self) -> str:
        """For people."""
        return f"webhook at {self._url.host}" + ("" if self._secrets else ", without a signature")

    async def open(self) -> None:
        """Resolve the name and see that somebody listens; nothing is sent. Raises ConfigError, SinkUnavailable."""
        if self._session is None:
            resolver = DefaultResolver()
            self._resolver = resolver if self._config.allow_private else PublicOnly(resolver)
            connector = aiohttp.TCPConnector(
                limit=self._config.concurrency, keepalive_timeout=_KEEPALIVE_S, resolver=self._resolver
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(
                    total=self._config.timeout, sock_connect=min(_CONNECT_S_MAX, self._config.timeout)
                ),
                headers={"User-Agent": "millrace", **self._headers},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy would resolve the name again, and connect where it likes
            )
        await self._knock()

    async def publish(self, messages: Sequence[Message], answers: Answers) -> None:
        """See ``Publisher.publish``."""
        keys: dict[str, list[int]] = {}
        for at, message in enumerate(messages):
            keys.setdefault(message.key, []).append(at)
        failures: list[Exception] = []

        async def in_order(places: Sequence[int]) -> None:
            for number, at in enumerate(places):
                async with self._free:
                    if failures:  # those under way are let finish, no other is begun
                        return
                    try:
                        answer = answers[at] = await self._post(messages[at])
                    except Exception as error:
                        failures.append(error)
                        return
                if isinstance(answer, Retry):
                    for later in places[number + 1 :]:
                        answers[later] = BEHIND
                    return

        await asyncio.gather(*(in_order(places) for places in keys.values()))
        if failures:
            raise failures[0]

    async def close(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    async def _knock(self) -> None:
        host, port = self._url.host or "", self._url.port or 443
        try:
            async with asyncio.timeout(min(_CONNECT_S_MAX, self._config.timeout)):
                address = host
                if not is_literal(host):
                    assert self._resolver is not None, "the publisher is not open"
                    address = (await self._resolver.resolve(host, port, socket.AF_UNSPEC))[0]["host"]
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
        except AddressRefused as error:
            raise ConfigError(f"{error}: allow_private: true allows others", path=("webhook", "url")) from error
        except OSError as error:  # TimeoutError is one
            raise SinkUnavailable(f"the webhook at {host} cannot be reached ({type(error).__name__})") from error

    async def _post(self, message: Message) -> Outcome:
        assert self._session is not None, "the publisher is not open"
        if len(message.body) > self._config.bytes_max:
            return too_large(len(message.body), self._config.bytes_max)
        try:
            async with self._session.post(
                self._url, data=message.body, headers=self._headers_of(message), allow_redirects=False
            ) as response:
                await response.content.read(_ANSWER_BYTES_MAX)
                return self._outcome(response.status, response.headers.get("Retry-After"))
        except TimeoutError as error:
            raise SinkUnavailable(f"the webhook did not answer within {self._config.timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            # The error's own text may hold the URL, which may hold a token.
            refused = isinstance(error.__cause__, AddressRefused)
            why = "its name has no public address now" if refused else type(error).__name__
            raise SinkUnavailable(f"the webhook at {self._url.host} cannot be reached ({why})") from error

    def _headers_of(self, message: Message) -> dict[str, str]:
        message_id = plain_token(message.id, _ID_CHARS_MAX)
        timestamp_s = self._clock.now_ms() // 1000
        headers = {
            "Content-Type": message.content_type,
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
        }
        if self._secrets:
            headers["webhook-signature"] = " ".join(
                signature(secret, message_id, timestamp_s, message.body) for secret in self._secrets
            )
        return headers

    def _outcome(self, status: int, retry_after: str | None) -> Outcome:
        if 200 <= status < 300:
            return APPLIED
        what = f"the webhook answered {status}"
        after_s = _seconds(retry_after, self._clock.now_ms())
        if status == 429:
            raise Throttled(what, after_s=after_s)
        if status < 400:
            raise SinkUnavailable(f"{what}: a redirect, or no answer to a POST; write the address that it ends at")
        if status in (401, 403, 407):
            raise SinkUnavailable(f"{what}: the credentials are wrong, expired or not allowed to do this")
        if status in (502, 503, 504) or (status >= 500 and after_s is not None):
            raise SinkUnavailable(what, after_s=after_s)
        if status >= 500 or status in (408, 425):
            return Retry(f"http_{status}", what, after_s)
        return Rejected(f"http_{status}", what)


def _seconds(retry_after: str | None, now_ms: int) -> float | None:
    """What a Retry-After header says: seconds, or a date. One that cannot be read says nothing."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now_ms / 1000)
    except (ValueError, OverflowError):
        return None
