"""The image: what its Dockerfile promises, and its steps as plain commands (no Docker engine is needed)."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from connector.config.models import Admin
from connector.observe import admin
from tests.unit.deploy.dockerfile import read, run_steps

ROOT = Path(__file__).parents[3]
BUILD, FINAL = read(ROOT / "deploy" / "Dockerfile")
BUILD_LOCK = ROOT / "deploy" / "requirements-build.lock"


def test_both_stages_stand_on_one_pinned_python() -> None:
    assert BUILD.base == FINAL.base
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", FINAL.base)


def test_the_image_s_python_is_one_that_the_project_supports() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert FINAL.base.startswith(f"python:{wanted.removeprefix('>=')}.")


def test_it_does_not_run_as_root() -> None:
    assert FINAL.the("USER") == "10001:10001"


def test_it_starts_and_stops_as_a_container_should() -> None:
    assert FINAL.command("ENTRYPOINT") == ["millrace"]
    assert FINAL.command("CMD") == ["run", "/etc/millrace/millrace.yaml"]
    assert FINAL.the("STOPSIGNAL") == "SIGTERM"
    assert FINAL.the("EXPOSE") == str(Admin().port)


def test_its_health_check_asks_for_life_at_the_default_port() -> None:
    command = FINAL.command("HEALTHCHECK")
    assert command[:2] == ["python", "-c"]
    assert f"http://127.0.0.1:{Admin().port}/livez" in command[2]


def test_its_health_check_tells_a_living_daemon_from_none() -> None:
    _, _, asked = FINAL.command("HEALTHCHECK")

    async def exit_code(port: int) -> int:
        code = asked.replace(str(Admin().port), str(port))
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()

    async def scene() -> None:
        server = await admin.start("127.0.0.1", 0, list)
        assert await exit_code(server.port) == 0
        await server.close()
        assert await exit_code(server.port) != 0

    asyncio.run(scene())


def test_only_what_is_copied_goes_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for word, rest in BUILD.steps:
        if word == "COPY":
            copied |= set(rest.split()[:-1])
    assert let_in == copied
    assert "*" in ignored


def test_nothing_is_installed_without_its_hash() -> None:
    for word, rest in BUILD.steps:
        for command in rest.split("&&") if word == "RUN" else ():
            if "pip install" in command:
                assert (
                    "--require-hashes" in command
                    or "--no-index --no-deps" in command
                    or ("--no-deps --no-index" in command)
                ), command


def pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Versions and hashes by name."""
    text = path.read_text()
    found = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", hashes))) for name, version, hashes in found}


def test_what_builds_the_wheel_is_pinned_as_it_is_for_developers() -> None:
    build, developers = pins(BUILD_LOCK), pins(ROOT / "requirements-dev.lock")
    assert build
    assert {name: developers.get(name) for name in build} == build, "take the pins over from requirements-dev.lock"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [f"hatchling=={build['hatchling'][0]}"] == wanted


@pytest.mark.slow
def test_the_steps_of_the_image_end_in_a_millrace_that_runs(tmp_path: Path) -> None:
    """The build stage in a clean folder: wheel, virtual environment, lock with hashes; then what the image starts."""
    run_steps(BUILD, ROOT, tmp_path)
    binaries = tmp_path / "opt" / "millrace" / "bin"
    (entry_point,) = FINAL.command("ENTRYPOINT")
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path)}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def millrace(*arguments: str) -> str:
        told = subprocess.run(
            [binaries / entry_point, *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] in millrace("version")
    # The plug-ins came along: a configuration that uses them is understood.
    example = ROOT / "deploy" / "examples" / "file-to-search-embedded.yaml"
    assert "ok" in millrace("validate", str(example))
    assert not (binaries / "pip").exists(), "nothing installs anything into a running image"


def test_compose_and_kubernetes_build_on_the_same_image_name() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    assert compose["services"]["millrace"]["image"].split(":")[0] == "millrace"
    kustomization = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "kustomization.yaml").read_text())
    assert kustomization["images"][0]["name"] == "millrace"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert kustomization["images"][0]["newTag"] == version
