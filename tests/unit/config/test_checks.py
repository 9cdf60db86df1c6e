"""Options that do not fit each other, found before anything is connected."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from connector import plugins
from connector.config.load import ConfigErrors, load_all, process_options
from tests.unit.config.fakes import CONFIG, errors_of

PATTERN = "{status: {S: [{anything-but: [DRAFT]}]}}"


def config(*, view: str, needs: str = "nothing", when: str = "{eventName: [MODIFY]}", keys: str = "[]") -> str:
    """One route, ``cache``, on a stream of that view."""
    text = CONFIG.replace("format: lines", f"format: lines\n      view: {view}\n      key_attributes: {keys}")
    search = text[text.index("      search:") : text.index("      cache:")]
    text = text.replace(search, "").replace("{eventName: [MODIFY, REMOVE]}", when)
    return f"{text}          needs: {needs}\n"


@pytest.mark.parametrize(
    ("view", "needs", "missing"),
    [
        ("KEYS_ONLY", "nothing", []),
        ("KEYS_ONLY", "new", ["new"]),
        ("KEYS_ONLY", "both", ["new", "old"]),
        ("NEW_IMAGE", "new", []),
        ("NEW_IMAGE", "old", ["old"]),
        ("OLD_IMAGE", "both", ["new"]),
        ("NEW_AND_OLD_IMAGES", "both", []),
    ],
)
def test_a_sink_that_needs_an_image_which_the_stream_does_not_carry_is_refused(
    view: str, needs: str, missing: list[str]
) -> None:
    errors = errors_of(config(view=view, needs=needs))
    assert len(errors) == len(missing)
    for error, image in zip(errors, missing, strict=True):
        assert f"routes.cache.sink: needs the {image} image, which a stream with the view {view} does not" in error


def test_nothing_is_refused_where_the_view_is_not_known() -> None:
    assert not errors_of(config(view="null", needs="both"))


def test_a_when_on_an_image_that_the_stream_does_not_carry_is_refused() -> None:
    when = '{dynamodb: {OldImage: {status: {S: ["PAID"]}}}}'
    (error,) = errors_of(config(view="NEW_IMAGE", when=when))
    assert "routes.cache.when: needs the old image" in error
    assert not errors_of(config(view="NEW_AND_OLD_IMAGES", when=when))


def test_a_where_on_a_stream_of_keys_is_refused_unless_it_asks_for_the_key_alone() -> None:
    text = config(view="KEYS_ONLY").replace("        when:", f"        where: {PATTERN}\n        when:")
    (error,) = errors_of(text)
    assert "routes.cache.where: needs the new image" in error
    assert "name those in source.key_attributes" in error
    assert not errors_of(text.replace("key_attributes: []", "key_attributes: [status]"))


def second_pipeline(old: str = "", new: str = "") -> str:
    """CONFIG with a second pipeline, a copy of the first but for this replacement."""
    body = CONFIG.removeprefix("pipelines:\n").replace("  orders:\n    source", "  copy:\n    source")
    return CONFIG + (body.replace(old, new) if old else body)


def test_two_pipelines_in_one_group_on_one_topic_are_refused() -> None:
    (error,) = errors_of(second_pipeline())
    assert (
        "pipelines.copy.source: reads 'orders.changes' in the group 'millrace-orders' as the pipeline 'orders'" in error
    )


def test_two_pipelines_on_one_topic_in_groups_of_their_own_are_right() -> None:
    assert not errors_of(second_pipeline("millrace-orders", "millrace-copy"))


def test_two_pipelines_in_one_group_on_topics_of_their_own_are_right() -> None:
    assert not errors_of(second_pipeline("orders.changes", "other.changes"))


def test_dead_letters_that_would_come_back_through_the_source_are_refused() -> None:
    (error,) = errors_of(CONFIG.replace("topic: orders.dlq", "topic: orders.changes"))
    assert (
        "pipelines.orders.dead_letter: the dead letters would go to 'orders.changes', which the source reads" in error
    )


def test_one_pipeline_s_name_in_two_files_of_a_process_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(CONFIG)
    second.write_text(CONFIG.replace("millrace-orders", "another"))
    with pytest.raises(ConfigErrors, match=r"b\.yaml: pipelines\.orders: the pipeline 'orders' is in .*a\.yaml too"):
        load_all([first, second])


def test_one_group_in_two_files_of_a_process_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(CONFIG)
    second.write_text(CONFIG.replace("  orders:\n    source", "  copy:\n    source"))
    with pytest.raises(ConfigErrors, match=r"b\.yaml: pipelines\.copy\.source: reads 'orders\.changes' in the group"):
        load_all([first, second])


def test_one_group_on_two_clusters_is_right() -> None:
    assert not errors_of(second_pipeline("localhost:9092", "elsewhere:9092"))


def test_files_of_a_process_that_disagree_about_it_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in ("a", "b", "c")]
    for path, end in zip(paths, ("", "admin: {port: 1}\n", "admin: {port: 2}\n"), strict=True):
        text = CONFIG.replace("  orders:\n", f"  {path.stem}:\n").replace("millrace-orders", path.stem)
        path.write_text(text + end)
    with pytest.raises(ConfigErrors, match=r"c\.yaml: admin: says something else than .*b\.yaml: one process has one"):
        load_all(paths)
    admin, log = process_options(load_all(paths[:2]).values())
    assert (admin.port, log.level) == (1, "info")


@pytest.fixture
def real_destinations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes' registry, with the destinations that queue and fall back beside them."""
    fakes = dict(plugins.dead_letters())
    point = metadata.EntryPoint
    for name, where in {
        "sqs": "connector.deadletter.sqs:SQSDeadLetters",
        "file": "connector.deadletter.file:FileDeadLetters",
        "fallback": "connector.deadletter.fallback:FallbackDeadLetters",
    }.items():
        fakes[name] = plugins.Plugin(plugins.DEAD_LETTERS, name, (point(name, where, plugins.DEAD_LETTERS),))
    monkeypatch.setattr(plugins, "dead_letters", lambda: fakes)


SQS = "{type: sqs, queue: 'arn:aws:sqs:eu-central-1:123456789012:dead'}"


def with_dead_letters(text: str, *, on_poison: str = "continue") -> str:
    start = CONFIG.index("    dead_letter:")
    changed = CONFIG[:start] + f"    dead_letter: {text}" + CONFIG[CONFIG.index("\n", start) :]
    return changed.replace("      cache:", f"        on_poison: {on_poison}\n      cache:")


@pytest.mark.usefixtures("real_destinations")
def test_a_route_that_holds_keys_needs_dead_letters_that_can_be_read_again() -> None:
    file = "{type: file, path: dead.jsonl}"
    either = f"{{type: fallback, destinations: [{file}, {SQS}]}}"
    files = f"{{type: fallback, destinations: [{file}, {file}]}}"
    for destination in (SQS, either):
        assert not errors_of(with_dead_letters(destination))
        (error,) = errors_of(with_dead_letters(destination, on_poison="hold_key"))
        assert "routes.search.on_poison: hold_key needs dead letters that can be read again" in error
    assert not errors_of(with_dead_letters(files, on_poison="hold_key"))


@pytest.mark.usefixtures("real_destinations")
def test_what_is_wrong_inside_a_fallback_is_told_in_its_place() -> None:
    misspelt = "{type: fallback, destinations: [{type: file, path: x}, {type: file, path: y, pth: z}]}"
    (error,) = errors_of(with_dead_letters(misspelt))
    assert "unknown option; did you mean 'path'? (known: type, path)" in error
    assert "dead_letter.destinations.1" in error
    (error,) = errors_of(with_dead_letters("{type: fallback, destinations: [{type: file, path: x}]}"))
    assert "must have at least 2 entries" in error
    inner = "{type: fallback, destinations: [{type: file, path: x}, {type: file, path: y}]}"
    (error,) = errors_of(with_dead_letters(f"{{type: fallback, destinations: [{inner}, {{type: file, path: z}}]}}"))
    assert "no fallback among its destinations" in error


@pytest.mark.usefixtures("real_destinations")
def test_destinations_of_a_fallback_inherit_the_source_s_connection_and_may_not_make_a_circle() -> None:
    written = "{type: fallback, destinations: [{type: log, topic: TOPIC}, {type: file, path: x}]}"
    assert not errors_of(with_dead_letters(written.replace("TOPIC", "orders.dlq")))
    (error,) = errors_of(with_dead_letters(written.replace("TOPIC", "orders.changes")))
    assert "an endless circle" in error
