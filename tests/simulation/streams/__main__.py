"""``python -m tests.simulation.streams SEED [COUNT]``: play and tell histories; a failing seed fails again."""

from __future__ import annotations

import sys

from tests.simulation.streams.history import History


def main() -> None:
    first = int(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for seed in range(first, first + count):
        try:
            print(History(seed).play())
        except BaseException:
            print(f"seed {seed} broke the promise; again: python -m tests.simulation.streams {seed}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
