"""HTTP to OpenSearch: one request, one answer. No retries: delivery has its own.

aiohttp is used as it is: bulk bodies are bytes that we wrote, and answers are read by us.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from connector.errors import ConfigError, SinkUnavailable, Throttled
from sinks.opensearch.signing import Signer

_CONNECT_S_MAX = 10.0
_CONNECTIONS_MAX = 64
_KEEPALIVE_S = 30.0
"""Load balancers drop idle connections after 60 s; a request on one just dropped would look like a broken server."""
_REST_S = 30.0
"""How long a node that failed is asked only after the others."""
_GZIP_LEVEL = 1
"""Bulk bodies compress well at any level; higher ones cost more time than they save."""


class Answer(NamedTuple):
    """What the server answered."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class ConnectionBroken(SinkUnavailable):
    """The connection broke while a request was under way: the server went down, or did not like the body's size."""


class CertificateRefused(SinkUnavailable):
    """The server's certificate is not one that we trust."""


class Client:
    """Keeps connections to the nodes of one cluster and asks them in turn."""

    def __init__(
        self,
        urls: list[str],
        *,
        basic: tuple[str, str] | None,
        signer: Signer | None,
        ca: Path | None,
        verify: bool,
        timeout_s: float,
        compress: bool,
    ) -> None:
        self._urls = urls
        self._basic = f"Basic {base64.b64encode(':'.join(basic).encode()).decode()}" if basic else None
        self._signer = signer
        self._ca = ca
        self._verify = verify
        self._timeout_s = timeout_s
        self._compress = compress
        self._turn = 0
        self._resting_until_s: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready to connect. Raises ConfigError for a CA file that cannot be read."""
        if self._session is not None:
            return
        # Answers are small or made of many equal words; having them compressed costs the server more than it saves us.
        headers = {"Accept-Encoding": "gzip" if self._compress else "identity", "User-Agent": "millrace"}
        if self._basic:
            headers["Authorization"] = self._basic
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_S, ssl=self._tls_context()
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(_CONNECT_S_MAX, self._timeout_s)),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _tls_context(self) -> ssl.SSLContext | bool:
        if all(url.startswith("http:") for url in self._urls):
            return True
        try:
            context = ssl.create_default_context(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"the CA file cannot be read: {error}", path=("tls", "ca")) from error
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def close(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self, method: str, path: str, *, body: bytes = b"", content_type: str = "application/json"
    ) -> Answer:
        """Ask one node, or the next one where nobody listens. ``path`` is quoted already.

        Raises SinkUnavailable (ConnectionBroken, CertificateRefused) where no answer came.
        """
        headers = {"Content-Type": content_type} if body else {}
        if body and self._compress:
            body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        failure: Exception | None = None
        for url in self._in_turn():
            try:
                return await self._ask(method, url + path, headers, body)
            except aiohttp.ClientConnectorCertificateError as error:
                raise CertificateRefused(f"the certificate of {error.host} is not trusted") from error
            except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
                failure = error  # nothing was sent yet: ask another node
                self._rest(url)
            except TimeoutError as error:
                self._rest(url)
                raise SinkUnavailable(f"OpenSearch did not answer within {self._timeout_s:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                self._rest(url)
                raise ConnectionBroken(f"the connection to OpenSearch broke ({type(error).__name__})") from error
        raise SinkUnavailable(f"OpenSearch cannot be reached ({failure})") from failure

    def _in_turn(self) -> list[str]:
        """The nodes to ask, another one first at each call; those that failed a moment ago come last."""
        self._turn = (self._turn + 1) % len(self._urls)
        urls = self._urls[self._turn :] + self._urls[: self._turn]
        now_s = asyncio.get_running_loop().time()
        return sorted(urls, key=lambda url: self._resting_until_s.get(url, 0.0) > now_s)

    def _rest(self, url: str) -> None:
        self._resting_until_s[url] = asyncio.get_running_loop().time() + _REST_S

    async def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        assert self._session is not None, "the client is not open"
        if self._signer is not None:
            headers = await self._signer.sign(method, url, headers, body)
        async with self._session.request(
            method, URL(url, encoded=True), headers=headers, data=body or None, allow_redirects=False
        ) as response:
            retry_after = response.headers.get("Retry-After", "")
            return Answer(
                response.status, await response.read(), float(retry_after) if retry_after.isdecimal() else None
            )


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str = ""


def error_of(answer: Answer) -> tuple[str, str]:
    """The type and the reason of a whole request's error, as far as its body tells them."""
    try:
        error = msgspec.json.decode(answer.body, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", ""
    if isinstance(error, str):
        return "", error
    return error.type, error.reason or ""


def unavailable(answer: Answer, doing: str) -> SinkUnavailable:
    """A whole request's failure that is no change's fault, as the error to raise."""
    error_type, _ = error_of(answer)
    what = f"OpenSearch answered {answer.status}{f' {error_type}' if error_type else ''} to {doing}"
    if answer.status == 429:
        return Throttled(what, after_s=answer.retry_after_s)
    if answer.status in (401, 403):
        return SinkUnavailable(f"{what}: the credentials are wrong, expired or not allowed to do this")
    return SinkUnavailable(what, after_s=answer.retry_after_s)
