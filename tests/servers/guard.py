"""Ends servers whose test run died without tidying up (SIGKILL, a lost terminal, a cancelled CI job).

The test run holds one end of a pipe and says on it which process groups and folders are its own. When the pipe closes,
whatever is still on the list is killed and removed. The other ways are worse: a death signal (PR_SET_PDEATHSIG) follows
the *thread* that started a server, and `atexit` is not run on SIGKILL.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import IO

_lock = threading.Lock()


def watch_group(pid: int) -> None:
    """Kill this process group when the test run is gone."""
    _tell(f"+group {pid}")


def forget_group(pid: int) -> None:
    """This process group has ended; its number may be given to somebody else now."""
    _tell(f"-group {pid}")


def watch_folder(folder: Path) -> None:
    """Remove this folder when the test run is gone."""
    _tell(f"+folder {folder}")


def forget_folder(folder: Path) -> None:
    """This folder has been removed."""
    _tell(f"-folder {folder}")


def _tell(line: str) -> None:
    with _lock:
        pipe = _pipe()
        pipe.write(line + "\n")
        pipe.flush()


@cache
def _pipe() -> IO[str]:
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert guard.stdin is not None
    pipe = guard.stdin

    def release() -> None:
        pipe.close()
        guard.wait(timeout=30)

    atexit.register(release)
    return pipe


def _guard(lines: Iterable[str]) -> None:
    watched: dict[str, None] = {}
    for line in lines:
        change, what = line[0], line[1:].rstrip("\n")
        if change == "+":
            watched[what] = None
        else:
            watched.pop(what, None)
    entries = [what.split(" ", 1) for what in watched]
    for kind, value in entries:
        if kind == "group":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(value), signal.SIGKILL)
    for kind, value in entries:
        if kind == "folder":
            shutil.rmtree(value, ignore_errors=True)


if __name__ == "__main__":
    _guard(sys.stdin)
