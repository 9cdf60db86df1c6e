"""The generated parts of the README. ``python -m tests.readme`` writes them; a test says when they are not current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from connector.observe.metrics import metrics_markdown

README = Path(__file__).parents[1] / "README.md"


def generated() -> dict[str, str]:
    """The parts by the name in their markers."""
    options = subprocess.run(
        [sys.executable, "-m", "connector.cli", "schema", "--markdown"], check=True, capture_output=True, text=True
    )
    assert not options.stderr, options.stderr
    return {"options": options.stdout.strip(), "metrics": metrics_markdown().strip()}


def filled(text: str, parts: dict[str, str]) -> str:
    """The README with its parts between their markers."""
    for name, part in parts.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)  # type: ignore[misc]
        assert count == 1, f"the README has no place for {name}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(), generated()))
