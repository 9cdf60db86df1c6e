"""A table's items from its exports in S3: DynamoDB JSON, full and incremental. (Amazon Ion is not read.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from connector.errors import ConfigError, SourceError
from connector.snapshot.datafile import FILE_BROKE, DataFileReader
from connector.snapshot.manifests import Export, check_order, place_in_s3, read_files, read_summary
from connector.snapshot.protocol import BEGIN, ItemPage, ScanFacts, TableScanner
from connector.snapshot.versions import snapshot_ms
from connector.sources.streams.api import Denied, Throttled, Unavailable

T = TypeVar("T")

_THROTTLES = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "503"})
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "404"})
MANIFEST_BYTES_MAX = 512 * 1024 * 1024


class ExportScanner:
    """Reads exports file by file: a segment is a file, a place the number of lines of it that were read.

    The first export is a full one; the incremental ones after it hold the items that were changed since, with the
    deleted ones, and each is read only when all files before it are finished. Their items have the times of their own
    exports, less the margin (connector.snapshot.versions), so that each beats those before it. The stream is
    delivered after all of them: whatever was deleted since the export was made would come back otherwise.
    """

    whole_state_at_once = True

    def __init__(
        self,
        addresses: Sequence[str],
        table: TableScanner,
        *,
        page_items: int,
        files_at_once: int,
        region: str | None,
        endpoint: str | None,
        profile: str | None,
    ) -> None:
        self._addresses = addresses
        self._table = table
        self._page_items = page_items
        self._region = region
        self._endpoint = endpoint
        self._profile = profile
        self._client: Any = None
        self._threads = ThreadPoolExecutor(files_at_once, thread_name_prefix="s3-export")
        self._exports: list[Export] = []
        self._files: list[tuple[int, int]] = []
        """Of each segment: the export, and the file in it."""
        self._firsts: list[int] = []
        """The first segment of each export."""
        self._readers: dict[int, DataFileReader] = {}
        self._key_names: Sequence[str] = ()

    async def open(self, segments: int | None) -> ScanFacts:
        """Read the manifests. Raises ConfigError for exports that cannot be used, StreamApiError."""
        facts = await self._table.open(None)
        self._key_names = await self._table.key_names()
        if self._client is None:
            self._client = await self._call(lambda: self._connect(self._region or facts.region))
        self._exports = await self._call(self._read_manifests)
        self._files, self._firsts = [], []
        for number, export in enumerate(self._exports):
            self._firsts.append(len(self._files))
            self._files += [(number, file) for file in range(len(export.files))]
        if segments is not None and segments != len(self._files):
            raise SourceError("the exports have other files than when the snapshot was begun")
        if not self._files:
            raise ConfigError("the exports have no items")
        return ScanFacts(
            segments=len(self._files),
            items_estimate=sum(file.items for export in self._exports for file in export.files),
            server_ms=self._exports[-1].summary.made_ms,
            region=facts.region,
        )

    def after(self, segment: int) -> int:
        """All files of the exports before."""
        return self._firsts[self._files[segment][0]]

    def version_ms(self, segment: int) -> int | None:
        """By the moment of the export that the file is of."""
        return snapshot_ms(self._exports[self._files[segment][0]].summary.made_ms, None)

    async def page(self, segment: int, place: str) -> ItemPage:
        """The next lines of a file. Raises StreamApiError; the file is then read from its beginning again up to the
        place. Raises SourceError for a file that is not what its manifest says."""
        line = 0 if place == BEGIN else int(place)
        return await self._call(lambda: self._read_page(segment, line))

    async def close(self) -> None:
        """Let go of connections."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._table.close()

    def _read_page(self, segment: int, line: int) -> ItemPage:
        reader = self._readers.get(segment)
        number, file_number = self._files[segment]
        export = self._exports[number]
        file = export.files[file_number]
        if reader is None or reader.line != line:
            if reader is not None:
                reader.close()
            body = self._client.get_object(Bucket=export.bucket, Key=file.key)["Body"]
            reader = self._readers[segment] = DataFileReader(body, file, self._key_names, full=export.summary.full)
        try:
            reader.skip_to(line)
            items, over = reader.read(self._page_items)
        except FILE_BROKE as error:
            self._drop(segment)
            raise Unavailable(f"{file.key}: broken off after {reader.line} lines: {error}") from error
        if over:
            self._drop(segment)
        return ItemPage(items, None if over else str(reader.line))

    def _drop(self, segment: int) -> None:
        reader = self._readers.pop(segment, None)
        if reader is not None:
            reader.close()

    def _connect(self, region: str) -> Any:
        session = boto3.Session(profile_name=self._profile)
        # Path-style addresses at an endpoint of one's own: it has no names for buckets.
        style = {"addressing_style": "path"} if self._endpoint else {}
        config = Config(s3=style, retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=5)
        return session.client("s3", region_name=region, endpoint_url=self._endpoint, config=config)

    def _read_manifests(self) -> list[Export]:
        places = [place_in_s3(address) for address in self._addresses]
        summaries = [
            read_summary(self._content(bucket, key), address, self._table.name)
            for address, (bucket, key) in zip(self._addresses, places, strict=True)
        ]
        check_order(summaries, self._addresses)
        return [
            Export(summary, bucket, read_files(self._content(bucket, summary.files_key), summary.files_key))
            for summary, (bucket, _) in zip(summaries, places, strict=True)
        ]

    def _content(self, bucket: str, key: str) -> bytes:
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise ConfigError(f"s3://{bucket}/{key}: there is no such object") from error
            raise
        if answer["ContentLength"] > MANIFEST_BYTES_MAX:
            raise ConfigError(f"s3://{bucket}/{key}: too large for a manifest")
        content: bytes = answer["Body"].read()
        return content

    async def _call(self, function: Callable[[], T]) -> T:
        """In a thread; S3's errors as the machinery of streams knows them."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except NoCredentialsError as error:
            raise Denied(str(error)) from error
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            if code in _MISSING:
                raise SourceError(f"a file of the export is gone: {error}") from error
            if code in _THROTTLES:
                raise Throttled(str(error)) from error
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise (Unavailable if status >= 500 else Denied)(str(error)) from error
        except BotoCoreError as error:
            raise Unavailable(f"S3: {error}") from error
