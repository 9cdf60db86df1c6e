"""DynamoDB Local 2.6.1, with Streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.servers.jars import jars, java
from tests.servers.process import HOST, ServerProcess, data_folder, free_ports


@dataclass(frozen=True, slots=True)
class DynamoDBLocal:
    """A running DynamoDB Local; it takes any access keys. It listens on every address: it has no option for that."""

    endpoint: str
    process: ServerProcess
    region: str = "eu-central-1"
    access_key_id: str = "tests"
    secret_access_key: str = "tests"


@contextmanager
def running_dynamodb_local(*, in_memory: bool = False) -> Iterator[DynamoDBLocal]:
    """DynamoDB Local, until the block ends. Raises `ServerMissing` where jars or a JDK cannot be had.

    `in_memory`: it writes ten times as fast, and forgets everything in a restart.
    """
    folder_of_jars = jars("dynamodb_local")
    command = [java(), "-Xmx512m", "-XX:+UseSerialGC", f"-Djava.library.path={folder_of_jars}"]
    command += ["-cp", f"{folder_of_jars}/*", "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"]
    with data_folder("dynamodb") as folder:
        (port,) = free_ports(1)
        kept = ["-inMemory"] if in_memory else ["-dbPath", folder]
        options = ["-port", port, *kept, "-sharedDb", "-disableTelemetry"]
        process = ServerProcess(
            "dynamodb-local",
            [*command, *(str(option) for option in options)],
            folder=folder,
            answers=lambda: _answers(port),
        )
        try:
            process.start()
            yield DynamoDBLocal(f"http://{HOST}:{port}", process)
        finally:
            process.kill()


def _answers(port: int) -> bool:
    """Whether it speaks DynamoDB's protocol; a request without a signature is refused in its own way."""
    request = Request(f"http://{HOST}:{port}/", data=b"{}", headers={"X-Amz-Target": "DynamoDB_20120810.ListTables"})
    try:
        with urlopen(request, timeout=2) as response:
            return bool(response.status == 200)
    except HTTPError as refused:
        return refused.code == 400
