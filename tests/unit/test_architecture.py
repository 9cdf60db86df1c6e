"""Who may import whom (DESIGN.md, section 4), how long a file may be, and that what is public says what it is for."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LONG_FILES: dict[str, str] = {
    "tests/integration/test_kafka_source.py": "every promise of one source against one broker",
    "tests/unit/deadletter/test_replay.py": "every promise of one replay in one world",
}
"""Files of more than 400 lines, each with its reason."""

CHANCE_AND_TIME = {"time", "socket", "os", "io", "pathlib", "subprocess", "threading", "tempfile", "shutil", "ssl"}
"""What delivery may not even import: time and chance come in as arguments, and it does no I/O."""

CONNECTOR_FOR_SINKS = {
    "connector.brokers",
    "connector.sink",
    "connector.change",
    "connector.errors",
    "connector.templates",
    "connector.documents",
    "connector.attributes",
    "connector.clock",
    "connector.config.units",
    "connector.embedded",
    "connector.filters",
    "connector.onethread",
}
"""What a sink may know of the engine: the vocabulary, patterns, and the one way of calling a blocking client."""

SHARED_BY_SINKS = {"sinks.notify.publishers"}
"""What sinks may read of each other: the places that take messages."""

DELIVERY_FOR_OBSERVE = {"connector.delivery.breaker", "connector.delivery.counts"}
"""Plain data that snapshots are made of (the breaker's state, the names of endings)."""


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the two packages that is in the repository's tree, by name."""
    found = {}
    for package in ("connector", "sinks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text("utf-8"))


def imported_by(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names; ``from a import b`` names ``a.b`` where that is a module of ours."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            yield inner if inner in modules() else module


def only_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def statements(node: ast.AST, *, top_only: bool) -> Iterator[ast.AST]:
    """All nodes, or only those that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if top_only and (only_types(child) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            continue
        yield child
        yield from statements(child, top_only=top_only)


@functools.cache
def imports(module: str, *, top_only: bool = False) -> frozenset[str]:
    """What a module imports, anywhere in it or (``top_only``) when it is imported itself."""
    nodes = statements(tree(module), top_only=top_only)
    return frozenset(name for node in nodes for name in imported_by(node))


def within(*packages: str) -> list[str]:
    return [name for name in modules() if any(name == each or name.startswith(f"{each}.") for each in packages)]


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("connector", "sinks")}


def belongs(name: str, packages: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def strangers(rooms: list[str], allowed: set[str]) -> set[tuple[str, str]]:
    """Imports of our own modules that are not allowed to these rooms."""
    return {(room, name) for room in rooms for name in ours(imports(room)) if not belongs(name, allowed | {room})}


def test_the_walk_sees_the_house() -> None:
    assert {"connector.change", "connector.delivery.courier", "connector.cli", "sinks.redis"} <= set(modules())
    assert "connector.change" in imports("connector.delivery.courier")
    assert "connector.delivery.ledger" in imports("connector.shards")


@pytest.mark.parametrize("module", within("connector"))
def test_the_engine_knows_no_sink(module: str) -> None:
    assert not {name for name in imports(module) if name.split(".")[0] == "sinks"}


def test_the_vocabulary_knows_nothing_but_itself() -> None:
    vocabulary = {"connector.change", "connector.documents", "connector.errors", "connector.clock"}
    assert not strangers(sorted(vocabulary), vocabulary)
    assert not strangers(["connector.sink"], vocabulary)
    assert not strangers(["connector.attributes"], vocabulary)


def test_codecs_know_the_vocabulary_only() -> None:
    allowed = {"connector.codecs", "connector.change", "connector.attributes", "connector.documents"}
    allowed |= {"connector.errors", "connector.attribute_documents"}
    assert not strangers(within("connector.codecs"), allowed)


def test_filters_know_the_vocabulary_and_what_a_sink_needs() -> None:
    allowed = {"connector.filters", "connector.change", "connector.attributes", "connector.errors", "connector.sink"}
    assert not strangers(within("connector.filters"), allowed)


def test_delivery_knows_the_vocabulary_sinks_checkpoints_and_letters_as_data() -> None:
    allowed = {"connector.delivery", "connector.change", "connector.clock", "connector.errors", "connector.sink"}
    allowed |= {"connector.histogram", "connector.checkpoints.protocol", "connector.deadletter.envelope"}
    assert not strangers(within("connector.delivery"), allowed)


@pytest.mark.parametrize("module", within("connector.delivery"))
def test_delivery_is_pure(module: str) -> None:
    """No network, no file, no wall clock, no chance of its own: the simulation replays it byte for byte."""
    assert not {name.split(".")[0] for name in imports(module)} & CHANCE_AND_TIME
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = (node.value.id, node.attr)
            assert used != ("asyncio", "sleep"), "waiting is the Clock's"
            assert node.value.id != "random" or node.attr == "Random", "chance is an argument"
            assert node.value.id != "datetime", "the time is the Clock's"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "hash"}, "hash() differs from process to process"


@pytest.mark.parametrize("module", [name for name in within("sinks") if not belongs(name, {"sinks.testing"})])
def test_sinks_know_the_vocabulary_and_each_other_only(module: str) -> None:
    known = {name for name in ours(imports(module)) if not name.startswith("sinks")}
    assert {name for name in known if not belongs(name, CONNECTOR_FOR_SINKS)} == set()


def test_the_contract_suite_of_sinks_knows_codecs_too() -> None:
    """Its changes are decoded from real records."""
    assert not strangers(within("sinks.testing"), {*CONNECTOR_FOR_SINKS, "sinks.testing", "connector.codecs"})


def test_a_sink_can_be_read_alone() -> None:
    for module in within("sinks"):
        room = ".".join(module.split(".")[:2])
        own = {room, *SHARED_BY_SINKS}
        others = {name for name in ours(imports(module)) if name.startswith("sinks.") and not belongs(name, own)}
        assert not others, f"{module} reads from {others}"


def test_observing_knows_delivery_as_plain_data_only() -> None:
    known = {name for module in within("connector.observe") for name in imports(module)}
    assert {name for name in known if name.startswith("connector.delivery")} <= DELIVERY_FOR_OBSERVE
    assert not {name for name in known if belongs(name, {"connector.pipeline", "connector.daemon", "connector.cli"})}


def test_nothing_below_the_pipeline_knows_it() -> None:
    above = {"connector.pipeline", "connector.daemon", "connector.cli", "connector.assemble", "connector.reporting"}
    below = within(
        "connector.change",
        "connector.codecs",
        "connector.filters",
        "connector.delivery",
        "connector.checkpoints",
        "connector.sources",
        "connector.intake",
        "connector.shards",
        "connector.observe",
        "connector.config",
    )
    assert not {(module, name) for module in below for name in imports(module) if belongs(name, above)}


def test_only_the_command_line_knows_the_command_line() -> None:
    outside = [module for module in modules() if not belongs(module, {"connector.cli", "connector.__main__"})]
    assert not {(module, name) for module in outside for name in imports(module) if belongs(name, {"connector.cli"})}


def test_no_import_goes_round_in_a_circle() -> None:
    state: dict[str, str] = {}

    def visit(module: str, way: tuple[str, ...]) -> None:
        state[module] = "on the way"
        for name in sorted(ours(imports(module, top_only=True))):
            if name not in modules() or module.startswith(f"{name}.") or name == module:
                continue  # a package's front page re-exports its rooms
            assert state.get(name) != "on the way", " → ".join((*way, module, name))
            if name not in state:
                visit(name, (*way, module))
        state[module] = "seen"

    for module in modules():
        if module not in state:
            visit(module, ())


def test_files_are_short_or_have_a_reason() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in [*modules().values(), *sorted((ROOT / "tests").rglob("*.py"))]
    }
    long = {name for name, count in lines.items() if count > 400}
    assert long - set(LONG_FILES) == set(), "split it, or say why not"


@pytest.mark.parametrize("module", sorted(modules()))
def test_everything_public_says_what_it_is_for(module: str) -> None:
    missing = []
    root = tree(module)
    if root.body and ast.get_docstring(root) is None:
        missing.append("the module")
    places: list[tuple[str, ast.AST]] = [("", root)]
    while places:
        place, parent = places.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith(("_", "test_")):  # a test's name is its sentence
                continue
            name = f"{place}{node.name}"
            if ast.get_docstring(node) is None and not is_overload(node):
                missing.append(name)
            if isinstance(node, ast.ClassDef):
                places.append((f"{name}.", node))
    assert not missing, f"{module}: {', '.join(missing)}"


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("overload" in ast.dump(decorator) for decorator in node.decorator_list)
