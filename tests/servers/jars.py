"""Maven's jars of the servers that are written in Java, kept in a cache folder between runs.

The cache is `.cache/servers` in the repository, or the folder named by `MILLRACE_SERVERS_CACHE`. Each set of jars has a
folder of its own, named after the pom file's content, so that a changed version is fetched again.

`python -m tests.servers.jars` fetches all of them; it needs nothing but Python, a JDK and Maven.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers.process import ServerMissing, program

MAVEN = Path(__file__).parent / "maven"
POMS = ("kafka", "opensearch", "dynamodb_local")
_FETCH_TIMEOUT_S = 600


def java() -> str:
    """The `java` command of a JDK: OpenSearch's launcher is compiled when it starts. Raises `ServerMissing`."""
    program("javac", "default-jdk-headless")
    return program("java", "default-jdk-headless")


def jars(pom: str) -> Path:
    """The folder with the jars of `maven/<pom>/pom.xml`, fetched if it is not there. Raises `ServerMissing`."""
    pom_file = MAVEN / pom / "pom.xml"
    cache = Path(os.environ.get("MILLRACE_SERVERS_CACHE") or Path(__file__).parents[2] / ".cache" / "servers")
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{pom}-{hashlib.sha256(pom_file.read_bytes()).hexdigest()[:12]}"
    with (cache / f"{pom}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest may run in several processes
        if not folder.exists():
            _fetch(pom_file, folder)
    return folder


def _fetch(pom_file: Path, folder: Path) -> None:
    maven = program("mvn", "maven")
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={unfinished}", "-DincludeScope=runtime"]
    try:
        subprocess.run(
            [maven, "--batch-mode", "--quiet", "--file", pom_file, *goal],
            check=True,
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
        )
        unfinished.rename(folder)
    except subprocess.TimeoutExpired as slow:
        raise ServerMissing(f"Maven did not fetch the jars of {pom_file.parent.name} in {slow.timeout} s") from slow
    except subprocess.CalledProcessError as failed:
        first_error = next(
            (line for line in failed.stdout.splitlines() if "ERROR" in line), f"exit {failed.returncode}"
        )
        raise ServerMissing(f"Maven cannot fetch the jars of {pom_file.parent.name}: {first_error}") from failed
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    java()
    for name in POMS:
        print(jars(name))
