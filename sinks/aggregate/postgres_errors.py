"""What PostgreSQL's errors mean for delivery."""

from __future__ import annotations

import psycopg

from connector.errors import SinkUnavailable
from sinks.aggregate.store import Conflict, DataRefused

_DATA_CLASSES = {"21": "data_error", "22": "data_error", "23": "constraint", "44": "constraint", "54": "too_big"}
"""SQLSTATE classes that blame a row. P0 (raised by somebody's trigger) does so too."""
_REFUSALS = ("password authentication", "does not exist", "pg_hba.conf", "not permitted to log in", "no password")
"""What PostgreSQL says before a session is there has no SQLSTATE in libpq; these are its words for what stays wrong."""


def kind_of(error: psycopg.Error) -> Exception:
    """DataRefused, Conflict (deadlock, serialization: another try may win) or SinkUnavailable."""
    state = error.sqlstate or ""
    if state.startswith("40"):
        return Conflict(said(error))
    reason = _DATA_CLASSES.get(state[:2]) or ("constraint" if state == "P0001" else None)
    if reason is None and not state and isinstance(error, psycopg.DataError):
        reason = "data_error"  # the client found it, before it was sent
    if reason is not None:
        return DataRefused(reason, said(error))
    return SinkUnavailable(f"PostgreSQL: {said(error)}")


def is_for_a_person(error: psycopg.Error) -> bool:
    """Whether it stays wrong until somebody mends it."""
    state = error.sqlstate or ""
    if state:
        return state[:2] in ("28", "3D", "3F", "42", "0A")
    return isinstance(error, psycopg.OperationalError) and any(words in str(error) for words in _REFUSALS)


def said(error: psycopg.Error) -> str:
    """The server's first line only: what follows may quote the row."""
    message = error.diag.message_primary or str(error).partition("\n")[0]
    return f"{message} (SQLSTATE {error.sqlstate})" if error.sqlstate else message
