"""Printing for people: results to standard output, errors to standard error, nothing that could deceive a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from connector.observe.escape import escape_text

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str) -> None:
    """One line to standard output, safe to show."""
    sys.stdout.write(escape_text(text) + "\n")


def complain(text: str) -> None:
    """One line to standard error, safe to show."""
    sys.stderr.write(escape_text(text) + "\n")


def complain_all(errors: Iterable[BaseException]) -> None:
    """Errors to standard error, one a line, with how many they are where they are several."""
    count = 0
    for error in errors:
        complain(str(error))
        count += 1
    if count > 1:
        complain(f"{count} errors")


def console() -> Console:
    """A rich console on standard output, for tables. Give it ``Text`` or escaped strings: its markup is off."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)
