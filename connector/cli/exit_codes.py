"""What the process's exit code says. ``millrace --help`` prints this table."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Each way in which a command can end."""

    OK = 0
    FAILURE = 1
    CONFIG_WRONG = 2
    POISON = 3
    CHECK_FAILED = 4
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done; for `run`: stopped in order, everything in flight was drained and saved",
    ExitCode.FAILURE: "failed in another way, or could not drain in time (what was not saved is replayed)",
    ExitCode.CONFIG_WRONG: "the configuration or the command line is wrong",
    ExitCode.POISON: "poison stopped a pipeline (on_poison: stop, or dead_letter_limits), or `dlq replay` left letters "
    "dead",
    ExitCode.CHECK_FAILED: "`check` found a source, sink or store that does not work",
    ExitCode.INTERRUPTED: "interrupted from the keyboard before it was done",
}
