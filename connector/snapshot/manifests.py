"""The manifests of DynamoDB's exports: which files, of which moment.

The format is that of "DynamoDB table export output format" in DynamoDB's developer guide: ``manifest-summary.json``
names ``manifest-files.json``, which names the data files, one JSON object a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from connector.errors import ConfigError

FILES_MAX = 1_000_000


class DataFile(msgspec.Struct, frozen=True):
    """One file of items, gzipped JSON lines."""

    key: str = msgspec.field(name="dataFileS3Key")
    items: int = msgspec.field(name="itemCount", default=0)
    md5: str | None = msgspec.field(name="md5Checksum", default=None)
    """Base64 of the digest of the file as it is in S3."""


class Summary(msgspec.Struct, frozen=True):
    """``manifest-summary.json``, as far as it is of use."""

    files_key: str = msgspec.field(name="manifestFilesS3Key")
    format: str = msgspec.field(name="outputFormat")
    bucket: str = msgspec.field(name="s3Bucket", default="")
    type: str = msgspec.field(name="exportType", default="FULL_EXPORT")
    table_arn: str = msgspec.field(name="tableArn", default="")
    time: str | None = msgspec.field(name="exportTime", default=None)
    from_time: str | None = msgspec.field(name="exportFromTime", default=None)
    to_time: str | None = msgspec.field(name="exportToTime", default=None)

    @property
    def full(self) -> bool:
        """Whether it has every item of the table (else those that were changed between two moments)."""
        return self.type == "FULL_EXPORT"

    @property
    def made_ms(self) -> int:
        """The moment of the state that it has."""
        return _ms(self.time if self.full else self.to_time)


class Export(msgspec.Struct, frozen=True):
    """One export with its files."""

    summary: Summary
    bucket: str
    files: Sequence[DataFile]


def place_in_s3(address: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    parts = urlsplit(address)
    return parts.netloc, parts.path.lstrip("/")


def read_summary(content: bytes, address: str, table: str) -> Summary:
    """Raises ConfigError for what is no manifest of the table, or of a format that cannot be read."""
    try:
        summary = msgspec.json.decode(content, type=Summary)
        if summary.format != "DYNAMODB_JSON":
            raise ConfigError(
                f"{address}: an export in the format {summary.format} cannot be read: export in DynamoDB JSON"
            )
        if summary.table_arn and summary.table_arn.rpartition("/")[2] != table:
            raise ConfigError(f"{address}: an export of another table ({summary.table_arn})")
        if not summary.made_ms:
            raise ConfigError(f"{address}: says no time of the export")
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{address}: not the summary of an export: {error}") from error
    return summary


def read_files(content: bytes, address: str) -> list[DataFile]:
    """The data files that have items. Raises ConfigError."""
    lines = [line for line in content.split(b"\n") if line.strip()]
    if len(lines) > FILES_MAX:
        raise ConfigError(f"{address}: more than {FILES_MAX} files")
    try:
        files = [msgspec.json.decode(line, type=DataFile) for line in lines]
    except msgspec.DecodeError as error:
        raise ConfigError(f"{address}: not a list of an export's files: {error}") from error
    return [file for file in files if file.items]


def check_order(summaries: Sequence[Summary], addresses: Sequence[str]) -> None:
    """A full export, then incremental ones, each from where the one before it ended. Raises ConfigError."""
    for number, (summary, address) in enumerate(zip(summaries, addresses, strict=True)):
        if summary.full != (number == 0):
            raise ConfigError(f"{address}: the first export must be a full one, and all after it incremental ones")
        if number and _ms(summary.from_time) > summaries[number - 1].made_ms:
            raise ConfigError(f"{address}: begins at {summary.from_time}, after the end of the export before it")


def _ms(text: str | None) -> int:
    if text is None:
        return 0
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
