"""What is wrong with a plug-in is told to its user, with the distribution that it came from, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector import plugins
from connector.plugins import PluginError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution: ``install("name", group, {"entry": "module:Class"}, module="source text")``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def one(name: str, group: str, points: dict[str, str], **modules: str) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{group}]", *(f"{point} = {target}" for point, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)

    plugins._find.cache_clear()
    yield one
    plugins._find.cache_clear()


def test_nothing_is_imported_until_it_is_asked_for(install: Install) -> None:
    install("acme-sinks", plugins.SINKS, {"acme": "acme_explodes:Sink"}, acme_explodes="raise SystemError('boom')")
    assert plugins.sinks()["acme"].distribution == "acme-sinks 1.0"
    with pytest.raises(PluginError) as raised:
        plugins.sinks()["acme"].load()
    assert str(raised.value) == "the sink 'acme' of acme-sinks 1.0 cannot be imported: SystemError: boom"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("acme_gone:Sink", "ModuleNotFoundError: No module named 'acme_gone'"),
        ("acme_there:Gone", "AttributeError: module 'acme_there' has no attribute 'Gone'"),
    ],
)
def test_what_is_not_there_is_told_with_its_distribution(install: Install, target: str, why: str) -> None:
    install("acme-sinks", plugins.SINKS, {"acme": target}, acme_there="")
    with pytest.raises(PluginError, match=f"the sink 'acme' of acme-sinks 1.0 cannot be imported: {why}"):
        plugins.sinks()["acme"].load()


def test_a_name_that_two_distributions_claim_is_refused_when_it_is_used(install: Install) -> None:
    install("acme-sinks", plugins.SINKS, {"acme": "acme_one:Sink"})
    install("other-sinks", plugins.SINKS, {"acme": "acme_two:Sink"})
    with pytest.raises(PluginError) as raised:
        plugins.sinks()["acme"].load()
    assert (
        str(raised.value) == "the sink 'acme' is provided by acme-sinks 1.0 and other-sinks 1.0: uninstall all but one"
    )


SHAPELESS = """
from pydantic import BaseModel
def function(): ...
class Empty: ...
class Model(BaseModel):
    view: str
class Sink:
    config_model = dict
    lanes_default = "4"
    batch_size_default = 1
    def open(self): ...
    async def write(self, batch): ...
    async def close(self): ...
class Source:
    config_model = Model
    def own_checkpoints(self): ...
    async def open(self, listener, checkpoints): ...
    async def read(self, records_max, wait_s): ...
    async def pause(self): ...
    async def resume(self): ...
    async def ends(self): ...
    async def close(self): ...
class Codec:
    name = "other"
    def decode(self, shard, records): ...
"""


@pytest.mark.parametrize(
    ("group", "target", "problems"),
    [
        (plugins.SINKS, "function", ["its entry point names no class"]),
        (
            plugins.SINKS,
            "Sink",
            [
                "it has no coroutine method open()",
                "its lanes_default is not of type int",
                "its config_model is not a pydantic model",
            ],
        ),
        (plugins.SOURCES, "Source", ["its config_model uses the reserved option names view"]),
        (plugins.CODECS, "Empty", ["it has no method decode()", "its name is not of type str"]),
        (plugins.CODECS, "Codec", ["its name is 'other', its entry point's 'acme': they must be the same"]),
        (
            plugins.DEAD_LETTERS,
            "Empty",
            [
                "it has no method letters()",
                "it has no coroutine method open()",
                "it has no coroutine method append()",
                "it has no coroutine method mark()",
                "it has no coroutine method close()",
                "its config_model is not a pydantic model",
            ],
        ),
    ],
)
def test_a_class_that_is_not_what_its_protocol_asks_for_is_told_what_it_lacks(
    install: Install, group: str, target: str, problems: list[str]
) -> None:
    install("acme", group, {"acme": f"acme_shapeless:{target}"}, acme_shapeless=SHAPELESS)
    with pytest.raises(PluginError) as raised:
        plugins._find(group)["acme"].load()
    assert str(raised.value).endswith(f"of acme 1.0 is not usable: {'; '.join(problems)}")


@pytest.mark.parametrize(
    "registry", [plugins.sources, plugins.codecs, plugins.sinks, plugins.dead_letters], ids=lambda one: one.__name__
)
def test_everything_that_we_ship_has_its_protocol_s_shape(registry: Callable[[], dict[str, plugins.Plugin]]) -> None:
    ours = {name: plugin for name, plugin in registry().items() if plugin.distribution.startswith("millrace ")}
    assert ours
    for plugin in ours.values():
        assert plugin.load().__doc__
