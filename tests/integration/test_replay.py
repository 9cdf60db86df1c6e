"""Replay beside a running daemon, on a real OpenSearch: held keys are let go, and nothing newer is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.servers.opensearch import OpenSearchServer

pytestmark = pytest.mark.servers

MILLRACE = [sys.executable, "-c", "from connector.cli import main; main()"]
WAIT_S = 60.0

CONFIG = """\
admin: {{enabled: false}}
pipelines:
  orders:
    source: {{type: file, path: "{folder}/changes.jsonl", follow: true, format: dynamodb}}
    checkpoints: {{path: "{folder}/checkpoints.db"}}
    dead_letter: {{type: sqlite, path: "{folder}/letters.db"}}
    routes:
      search:
        on_poison: hold_key
        sink:
          type: opensearch
          url: "{url}"
          index: "{index}"
          id: "{{pk}}"
          create_index: {{mappings: {{properties: {{price: {{type: long}}}}}}}}
"""


class House:
    """A daemon's folder, its log, its index, and the command line beside it."""

    def __init__(self, folder: Path, server: OpenSearchServer, index: str) -> None:
        self.config = folder / "m.yaml"
        self.config.write_text(CONFIG.format(folder=folder, url=server.url, index=index))
        self._log = folder / "changes.jsonl"
        self._log.touch()
        self._said = folder / "daemon.log"
        self._url = f"{server.url}/{index}"
        self._second = 1_777_626_000

    def change(self, pk: str, price: dict[str, str]) -> None:
        """Append a change; each is a second later than the last."""
        self._second += 1
        body = {"Keys": {"pk": {"S": pk}}, "NewImage": {"pk": {"S": pk}, "price": price}}
        body["ApproximateCreationDateTime"] = self._second  # type: ignore[assignment]
        with self._log.open("a") as log:
            log.write(json.dumps({"eventName": "MODIFY", "eventID": f"e{self._second}", "dynamodb": body}) + "\n")

    def price(self, pk: str) -> Any:
        """The price in the index, None where there is no such document."""
        try:
            return self.ask("GET", f"_doc/{pk}")["_source"]["price"]
        except HTTPError as error:
            if error.code == 404:
                return None
            raise

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the index itself."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._url}/{path}", data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def command(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """Run ``millrace dlq … --json``; answer its exit code and its lines."""
        command = [*MILLRACE, "dlq", words[0], str(self.config), "--json", *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def codes(self) -> list[str]:
        """Why letters are dead, in their order."""
        return [line["code"] for line in self.command("list")[1]]

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """The daemon runs for as long as the block lasts, and drains at its end."""
        with self._said.open("w") as said:
            process = subprocess.Popen([*MILLRACE, "run", str(self.config)], stderr=said)
            try:
                yield
            finally:
                process.terminate()
                process.wait(timeout=WAIT_S)
        assert process.returncode == 0, self._said.read_text()

    def has_let_go(self) -> bool:
        """Whether the daemon says that it has let go of a held key."""
        return "held keys released" in self._said.read_text()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.3)


def test_a_mended_key_is_replayed_in_order_and_let_go_by_the_running_daemon(
    tmp_path: Path, opensearch: OpenSearchServer, opensearch_index_prefix: str
) -> None:
    house = House(tmp_path, opensearch, f"{opensearch_index_prefix}orders")
    with house.daemon():
        house.change("good", {"N": "1"})
        house.change("bad", {"S": "no number"})
        wait_until(lambda: house.price("good") == 1, "the good item is in the index")
        # Alone: a later change in the same batch would supersede it, and there were no poison.
        wait_until(lambda: len(house.codes()) == 1, "the poison change is a dead letter")
        house.change("bad", {"N": "2"})
        house.change("bad", {"N": "3"})
        wait_until(lambda: house.codes()[1:] == ["key_held"] * 2, "the key's next changes are held behind it")
        assert house.price("bad") is None

        # What it was poison for is mended in the index; the daemon goes on as it is.
        house.ask("PUT", "_mapping", {"properties": {"price": {"type": "long", "ignore_malformed": True}}})
        code, (report,) = house.command("replay")
        assert code == 0, report
        assert house.price("bad") == 3
        assert house.codes() == []

        # A change that came before the daemon has looked would be held again, behind nothing, until the next replay.
        wait_until(house.has_let_go, "the daemon has let go of the key")
        house.change("bad", {"N": "4"})
        wait_until(lambda: bool(house.price("bad") == 4), "the key's next change goes straight to the index")

        code, reports = house.command("replay")
        assert (code, [report["routes"] for report in reports]) == (0, [{}])
        assert house.price("bad") == 4
        assert house.codes() == []
