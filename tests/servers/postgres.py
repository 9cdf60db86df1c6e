"""PostgreSQL of Debian, version 15 or whichever is the newest there."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.servers.process import HOST, ServerFailed, ServerMissing, ServerProcess, data_folder, free_ports, run_as

_USER = "millrace"
_PASSWORD = "millrace-tests"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running PostgreSQL; the URL's user is its superuser, and logs in with a password."""

    url: str
    process: ServerProcess


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """PostgreSQL, until the block ends. Raises `ServerMissing`."""
    binaries, account = _binaries(), _account()
    with data_folder("postgres") as folder:
        data, password_file = folder / "data", folder / "password"
        password_file.write_text(_PASSWORD)
        if account is not None:
            for path in (folder, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        _initialise(binaries, data, password_file, account)
        (port,) = free_ports(1)
        listening = ["-D", str(data), "-h", HOST, "-p", str(port), "-k", str(folder)]
        # The operating system keeps what a killed server has written; only a power cut would need fsync.
        settings = ["-c", "fsync=off", "-c", "max_connections=200"]
        url = f"postgresql://{_USER}:{_PASSWORD}@{HOST}:{port}/postgres"
        process = ServerProcess(
            "postgres",
            [str(binaries / "postgres"), *listening, *settings],
            folder=folder,
            answers=lambda: _answers(url),
            account=account,
            stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
        )
        try:
            process.start()
            yield PostgresServer(url, process)
        finally:
            process.stop()  # in order, so that its shared memory goes too


@contextmanager
def fresh_database(server: PostgresServer) -> Iterator[str]:
    """The URL of a new, empty database, dropped at the end whoever is connected to it."""
    name = f"test_{uuid4().hex[:16]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server.url.rpartition("/")[0] + "/" + name
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _binaries() -> Path:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        raise ServerMissing("postgres is not installed: apt-get install postgresql")
    return max(found, key=lambda folder: int(folder.parent.name))


def _account() -> pwd.struct_passwd | None:
    """Whom to run it as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return accounts.get("postgres") or accounts["nobody"]


def _initialise(binaries: Path, data: Path, password_file: Path, account: pwd.struct_passwd | None) -> None:
    login = [f"--username={_USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    done = subprocess.run(
        [binaries / "initdb", "-D", data, *login, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
        cwd=data.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **run_as(account),
    )
    if done.returncode:
        raise ServerFailed(f"PostgreSQL's data folder cannot be made: {done.stdout}{done.stderr}")


def _answers(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=2) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)
