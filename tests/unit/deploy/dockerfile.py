"""Just enough of a Dockerfile's reader to check ours, and to run its steps without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One ``FROM`` and what follows it: (instruction, arguments), continuation lines joined."""

    base: str
    name: str | None
    steps: list[tuple[str, str]] = field(default_factory=list)

    def the(self, instruction: str) -> str:
        """The arguments of the last such instruction."""
        return next(arguments for word, arguments in reversed(self.steps) if word == instruction)

    def command(self, instruction: str) -> list[str]:
        """The arguments in exec form."""
        arguments = self.the(instruction)
        command: list[str] = json.loads(arguments[arguments.index("[") :])
        return command


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "ARG" and not stages:
            name, value = rest.split("=")
            arguments[f"${{{name}}}"] = value
        elif word == "FROM":
            for name, value in arguments.items():
                rest = rest.replace(name, value)
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or None))
        else:
            stages[-1].steps.append((word, rest))
    return stages


def run_steps(stage: Stage, context: Path, root: Path) -> None:
    """Do what a stage says, with ``root`` as its file system: COPY from ``context``, RUN in a clean environment.

    Absolute paths of the steps (``/opt/…``, ``/src``) are taken below ``root``.
    """
    folder = root
    # In the image ``python`` is the interpreter; a machine may know it by another name only.
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(sys.executable)
    environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "HOME": str(root), "LANG": "C.UTF-8"}
    for word, rest in stage.steps:
        match word:
            case "WORKDIR":
                folder = root / rest.lstrip("/")
                folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                environment |= dict(part.split("=", 1) for part in rest.split())
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(context / source, folder / target, into=len(sources) > 1 or target.endswith("/"))
            case "RUN":
                command = re.sub(r"(?<![\w.])/(opt|src)\b", rf"{root}/\1", rest)
                subprocess.run(["/bin/sh", "-ec", command], cwd=folder, env=environment, check=True)
            case _:
                raise AssertionError(f"this stage may not hold {word}")


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target / source.name if into or target.is_dir() else target)
