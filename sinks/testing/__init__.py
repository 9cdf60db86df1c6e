"""The contract suite that every sink passes, ours and third parties', and builders that make changes in one line.

A sink's author subclasses the promises that the sink makes and overrides their fixtures::

    class TestMySink(StateContract, VersionedContract, ImageContract):
        @pytest.fixture
        def make_sink(self, tmp_path):
            return lambda: MySink(MyConfig(path=tmp_path / "x"), context())

        @pytest.fixture
        def read_state(self, tmp_path):
            async def read():
                return {"a": {"pk": "a", "name": "Ann"}, ...}  # key attribute ``pk`` → document
            return read

Each contract is a class of its own, so that nothing has to be skipped:

    SinkContract          every sink: outcomes, empty and large batches, lanes, opening and closing
    ├── StateContract       the sink holds each item's last state           fixture ``read_state``
    │   └── VersionedContract   an older version never wins
    ├── EventContract       the sink holds each change, in order            fixture ``read_events``
    │   └── UniqueEventContract  a replayed change is there once
    ├── ImageContract       a change without the image it needs is rejected
    ├── PoisonContract      a poison change fails alone                     fixture ``poison``
    └── UnavailableContract a server that is down is nobody's fault         fixture ``unreachable_sink``

Needs pytest, which is not among Millrace's own dependencies.
"""

import pytest

# A failed assertion of a contract shows its values, as one in a test file does.
pytest.register_assert_rewrite("sinks.testing.contracts")

from sinks.testing.building import BASE_VERSION, Item, change, context, insert, modify, remove  # noqa: E402
from sinks.testing.contracts import (  # noqa: E402
    EventContract,
    ImageContract,
    MakeSink,
    PoisonContract,
    ReadEvents,
    ReadState,
    SinkContract,
    StateContract,
    UnavailableContract,
    UniqueEventContract,
    VersionedContract,
    opened,
    succeeded,
    write,
)

__all__ = [
    "BASE_VERSION",
    "EventContract",
    "ImageContract",
    "Item",
    "MakeSink",
    "PoisonContract",
    "ReadEvents",
    "ReadState",
    "SinkContract",
    "StateContract",
    "UnavailableContract",
    "UniqueEventContract",
    "VersionedContract",
    "change",
    "context",
    "insert",
    "modify",
    "opened",
    "remove",
    "succeeded",
    "write",
]
