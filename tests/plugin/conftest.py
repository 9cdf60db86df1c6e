"""The third party's distribution, installed for real, apart from everything else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "distribution"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds the distribution and nothing else."""
    copy = tmp_path_factory.mktemp("build") / "distribution"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([*pip, *options, str(copy)], check=True, timeout=120)
    return target


@pytest.fixture
def millrace(tmp_path: Path) -> Run:
    """Run ``millrace`` as a process in a folder of its own: ``millrace("validate", "m.yaml", site=site)``."""

    def run(*arguments: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if site is not None:
            environment["PYTHONPATH"] = str(site)
        command = [sys.executable, "-c", "from connector.cli import main; main()", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run
