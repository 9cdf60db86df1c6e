"""The life of a server's process, tried on a server of a few lines that every machine has."""

import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.servers.process import HOST, ServerFailed, ServerProcess, data_folder, free_ports, lives

# Keeps a child in a session of its own, as PostgreSQL does, and writes the child's number where a client can read it.
PARENT_AND_CHILD = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path("child").write_text(str(child.pid))
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def web_server(folder: Path, script: str = PARENT_AND_CHILD, start_timeout_s: float = 60) -> tuple[ServerProcess, str]:
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}/child"
    command = [sys.executable, "-c", script, str(port)]
    process = ServerProcess(
        "web", command, folder=folder, answers=lambda: bool(fetch(url)), start_timeout_s=start_timeout_s
    )
    return process, url


def fetch(url: str) -> str:
    with urlopen(url, timeout=0.3) as response:
        return str(response.read().decode())


def test_a_restart_is_another_process_on_the_same_port(tmp_path: Path) -> None:
    process, url = web_server(tmp_path)
    process.start()
    first = process.pid
    process.restart()
    assert process.pid != first
    assert fetch(url)
    process.kill()
    assert not process.running


def test_killing_and_pausing_reach_children_that_lead_a_group_of_their_own(tmp_path: Path) -> None:
    process, url = web_server(tmp_path)
    process.start()
    child = int(fetch(url))
    process.pause()
    assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    process.kill()
    assert not lives(child)


def test_a_paused_process_can_be_stopped_in_its_own_way(tmp_path: Path) -> None:
    goodbye = "import signal, pathlib\nsignal.signal(15, lambda *_: (pathlib.Path('bye').touch(), exit()))"
    process, url = web_server(tmp_path, goodbye + PARENT_AND_CHILD)
    process.start()
    child = int(fetch(url))
    process.pause()
    process.stop()
    assert (tmp_path / "bye").exists()
    assert not lives(child)


def test_revive_brings_back_a_dead_process_and_leaves_a_running_one_alone(tmp_path: Path) -> None:
    process, url = web_server(tmp_path)
    process.start()
    process.kill()
    process.revive()
    revived = process.pid
    process.revive()
    assert process.pid == revived
    assert fetch(url)
    process.kill()


def test_a_server_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    process, _ = web_server(tmp_path, "import sys; sys.exit('no such setting: colour')")
    with pytest.raises(ServerFailed, match=r"ended by itself\n.*no such setting: colour"):
        process.start()
    process.kill()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    process, _ = web_server(tmp_path, "import time; time.sleep(600)", start_timeout_s=0.2)
    with pytest.raises(ServerFailed, match=r"did not answer within 0\.2 s"):
        process.start()
    process.kill()
    assert not process.running


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_data_folder_is_gone_afterwards_with_what_is_in_it() -> None:
    with data_folder("unit") as folder:
        (folder / "data").write_text("x")
    assert not folder.exists()
