"""What every test may ask for: the real servers (`tests/servers/__init__.py` has the list of fixtures)."""

pytest_plugins = ["tests.servers.plugin", "tests.servers.fixtures"]
