"""What all users of PostgreSQL share: connection settings, sessions, and its errors told apart."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connector.config.units import Secret

Connection = AsyncConnection[tuple[Any, ...]]

NAME = r"[a-z_][a-z0-9_]{0,47}"
TABLE_NAME = rf"^({NAME}\.)?{NAME}$"
"""A table, in a schema where one is named. Statements are made of it: nothing else is let through."""

_REFUSALS = ("password authentication", "does not exist", "pg_hba.conf", "not permitted to log in", "no password")
"""What PostgreSQL says before a session is there has no SQLSTATE in libpq; these are its words for what stays wrong."""


def readable_url(url: Secret) -> Secret:
    """Check a URL that a user wrote. Raises ValueError, whose messages never repeat it: it may hold a password."""
    text = url.get_secret_value()
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("the URL must begin with postgresql://")
    try:
        conninfo_to_dict(text)
    except ProgrammingError:
        raise ValueError("the URL cannot be read; percent-encode what is special in user and password") from None
    return url


def settings(url: str, timeout_s: float) -> str:
    """The URL as libpq's settings, with our defaults for what it does not say."""
    given = conninfo_to_dict(url)
    defaults: dict[str, str | int] = {"connect_timeout": max(2, math.ceil(timeout_s)), "application_name": "millrace"}
    return make_conninfo(url, **{name: value for name, value in defaults.items() if name not in given})


async def connect(conninfo: str) -> Connection:
    """A session in which what is committed is on the disk, whatever the database's default is."""
    # No statement is prepared: that would tie us to one server session behind PgBouncer.
    connection = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    try:
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    except BaseException:
        await connection.close()
        raise
    return connection


def is_for_a_person(error: psycopg.Error) -> bool:
    """Whether trying again would not help: wrong password, no such database, no right to the table."""
    state = error.sqlstate or ""
    if state:
        return state[:2] in ("28", "3D", "3F", "42", "0A")
    return isinstance(error, psycopg.OperationalError) and any(words in str(error) for words in _REFUSALS)


def said(error: psycopg.Error) -> str:
    """The server's first line only."""
    message = error.diag.message_primary or str(error).partition("\n")[0]
    return f"{message} (SQLSTATE {error.sqlstate})" if error.sqlstate else message
