"""``python -m connector.cli``: the same as ``millrace``."""

from connector.cli import main

if __name__ == "__main__":
    main()
