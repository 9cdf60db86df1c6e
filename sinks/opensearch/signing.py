"""AWS Signature Version 4 for requests to Amazon OpenSearch Service (es) and Serverless (aoss)."""

from __future__ import annotations

import asyncio
import hashlib

import botocore.auth
import botocore.awsrequest
import botocore.exceptions
import botocore.session

from connector.errors import ConfigError, SinkUnavailable


class Signer:
    """Signs requests with credentials from AWS's usual chain, renewed by it as they expire."""

    def __init__(self, *, region: str, service: str, profile: str | None) -> None:
        self._region = region
        self._service = service
        self._profile = profile
        self._credentials: botocore.credentials.Credentials | None = None

    async def open(self) -> None:
        """Find credentials. Raises ConfigError where there are none."""
        try:
            self._credentials = await asyncio.to_thread(
                lambda: botocore.session.Session(profile=self._profile).get_credentials()
            )
        except botocore.exceptions.BotoCoreError as error:
            raise ConfigError(f"AWS credentials: {error}", path=("aws",)) from error
        if self._credentials is None:
            raise ConfigError("no AWS credentials were found in AWS's usual places", path=("aws",))

    async def sign(self, method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """The headers with the signature. Raises SinkUnavailable where credentials cannot be renewed."""
        assert self._credentials is not None, "the signer is not open"
        try:
            # Renewing asks a metadata service or STS, and blocks.
            frozen = await asyncio.to_thread(self._credentials.get_frozen_credentials)
        except botocore.exceptions.BotoCoreError as error:
            raise SinkUnavailable(f"AWS credentials cannot be renewed ({type(error).__name__})") from error
        request = botocore.awsrequest.AWSRequest(method=method, url=url, data=body, headers=headers)
        # Serverless demands this header, and a domain takes it.
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        botocore.auth.SigV4Auth(frozen, self._service, self._region).add_auth(request)
        return dict(request.headers.items())
