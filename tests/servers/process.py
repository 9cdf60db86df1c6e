"""One server as a plain process that tests can pause, kill and start again on the same ports and data."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers import guard

HOST = "127.0.0.1"

# Below Linux's range for outgoing connections (32768 and up): no client takes a server's port while it restarts.
_PORTS = range(15_000, 32_000)
_POLL_S = 0.05
_LOG_TAIL_BYTES = 4_000
_STOPPED, _ENDED = frozenset("T"), frozenset("ZX")


class ServerMissing(Exception):
    """A server cannot be had on this machine; the message says what to install."""


class ServerFailed(Exception):
    """A server is here but did not start, stop or answer; the message ends with the tail of its log."""


class ServerProcess:
    """A server's process, from `start()` to `kill()`, as often as a test likes.

    `answers` is asked until it returns true; what it raises counts as "not yet". The process leads a group of its own,
    so that Ctrl-C reaches the tests and not their servers. `account` is whom to run it as, if not as the caller.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        answers: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        account: pwd.struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        start_timeout_s: float = 90,
        stop_timeout_s: float = 20,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._folder = folder
        self._answers = answers
        self._environment = {**os.environ, **(environment or {})}
        self._account = account
        self._stop_signal = stop_signal
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    def __repr__(self) -> str:
        state = "not running" if not self.running else "paused" if self._paused else f"pid {self.pid}"
        return f"<{self.name}: {state}>"

    @property
    def pid(self) -> int:
        """The number of the running process."""
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Whether a test has stopped it with `pause()`."""
        return self._paused

    def start(self) -> None:
        """Start it and wait until it answers. Raises `ServerFailed`."""
        assert not self.running, f"{self.name} is running already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **run_as(self._account),
            )
        guard.watch_group(self._process.pid)
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Wait until a client could use it. Raises `ServerFailed` when it has died or takes too long."""
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerFailed(f"{self.name} ended by itself\n{self._log_tail()}")
            with contextlib.suppress(Exception):
                if self._answers():
                    return
            time.sleep(_POLL_S)
        raise ServerFailed(f"{self.name} did not answer within {self._start_timeout_s} s\n{self._log_tail()}")

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing, like a machine that swaps or a long collection."""
        family = self._signal(signal.SIGSTOP)
        self._paused = True
        _wait_until_all_are(_STOPPED | _ENDED, family, self._stop_timeout_s)

    def resume(self) -> None:
        """SIGCONT, and wait until it answers again. Does nothing to a process that runs."""
        if self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False
            self.wait_until_it_answers()

    def kill(self) -> None:
        """SIGKILL to it and its children: no goodbye to clients, no flush. Does nothing to a process that has ended."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in its own orderly way, or with SIGKILL when that takes too long."""
        self._end(self._stop_signal)

    def restart(self) -> None:
        """Start it again with the same ports and data; one that still runs is stopped first."""
        self.stop()
        self.start()

    def revive(self) -> None:
        """Make it answer again, whatever a test has done to it."""
        if not self.running:
            self.restart()
        else:
            self.resume()

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        family = _family(process.pid)
        if process.poll() is None:
            _send(how, family if how == signal.SIGKILL else family[:1])
            if self._paused:  # a stopped process takes only SIGKILL
                _send(signal.SIGCONT, family)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._stop_timeout_s)
            _send(signal.SIGKILL, [pid for pid in family if lives(pid)])
            process.wait(self._stop_timeout_s)
        _wait_until_all_are(_ENDED, family, self._stop_timeout_s)
        guard.forget_group(process.pid)
        self._process = None
        self._paused = False

    def _signal(self, number: signal.Signals) -> list[int]:
        assert self.running, f"{self.name} is not running"
        family = _family(self.pid)
        _send(number, family)
        return family

    def _log_tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


@contextlib.contextmanager
def data_folder(name: str) -> Iterator[Path]:
    """A folder for a server's data, removed at the end. Other users may pass: PostgreSQL is not run by root."""
    folder = Path(tempfile.mkdtemp(prefix=f"millrace-{name}-"))
    folder.chmod(0o711)
    guard.watch_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        guard.forget_folder(folder)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different."""
    ports: set[int] = set()
    for port in random.SystemRandom().sample(_PORTS, 1_000):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((HOST, port))
            except OSError:
                continue
        ports.add(port)
        if len(ports) == count:
            return list(ports)
    raise ServerFailed(f"no {count} free ports on loopback among a thousand")


def run_as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments of `subprocess` that run a command as somebody else, without the caller's groups."""
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def program(name: str, package: str) -> str:
    """Where a program is. Raises `ServerMissing` naming the Debian package that brings it."""
    found = shutil.which(name)
    if found is None:
        raise ServerMissing(f"{name} is not installed: apt-get install {package}")
    return found


def _family(pid: int) -> list[int]:
    """A process and its descendants, parents first. Not its group: PostgreSQL's children lead groups of their own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we were looking
            # "pid (command) state parent …"; the command may contain spaces and parentheses
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for member in family:
        family.extend(children.get(member, ()))
    return family


def _send(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_until_all_are(states: frozenset[str], pids: Sequence[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not all(_state(pid) in states for pid in pids):
        if time.monotonic() > deadline:
            raise ServerFailed(f"processes {pids} took no notice of a signal within {timeout_s} s")
        time.sleep(_POLL_S)


def lives(pid: int) -> bool:
    """Whether a process has not ended; one that only waits for its parent to look has."""
    return _state(pid) not in _ENDED


def _state(pid: int) -> str:
    """The letter that Linux gives a process's state: see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
