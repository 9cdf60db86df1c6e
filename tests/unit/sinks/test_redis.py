"""What the redis sink drops and keeps for a change, without a server; and what a user may not write."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from connector.change import Change, EventName
from connector.errors import ConfigError
from connector.sink import APPLIED, Needs, Outcome, Rejected
from sinks.redis import RedisSink
from sinks.redis.config import RedisSinkConfig, WriteConfig
from sinks.redis.invalidate import Invalidation
from sinks.redis.server import Server
from sinks.redis.write_through import Entry, WriteThrough
from sinks.testing import change, context, insert, modify, remove

URL = "redis://localhost:6379/0"
TEMPLATES = ["order:{pk}", "customer:{customer}:orders"]


def config(**options: Any) -> RedisSinkConfig:
    return RedisSinkConfig.model_validate({"url": URL, **options})


def dropped(*changes: Change, templates: list[str] | None = None, missing: str = "reject") -> list[bytes]:
    return list(_keys_and_outcomes(*changes, templates=templates, missing=missing)[0])


def outcomes(*changes: Change, templates: list[str] | None = None, missing: str = "reject") -> list[Outcome]:
    return _keys_and_outcomes(*changes, templates=templates, missing=missing)[1]


def _keys_and_outcomes(
    *changes: Change, templates: list[str] | None, missing: str
) -> tuple[dict[bytes, None], list[Outcome]]:
    chosen = templates or TEMPLATES
    server = Server(config(invalidate=chosen))
    return Invalidation(server, chosen, missing=missing, key_bytes_max=1024).keys_of(changes)


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected)
    return outcome.reason


# Which keys are dropped


def test_a_changed_foreign_key_drops_both_sides() -> None:
    moved = modify("1", {"customer": "B"}, old={"customer": "A"})
    assert sorted(dropped(moved)) == [b"customer:A:orders", b"customer:B:orders", b"order:1"]


def test_a_key_that_many_changes_name_is_dropped_once() -> None:
    changes = [insert(f"{n}", {"customer": "A"}, version=n + 1) for n in range(3)]
    assert sorted(dropped(*changes)) == [b"customer:A:orders", b"order:0", b"order:1", b"order:2"]


def test_no_image_is_opened_where_the_key_decides() -> None:
    broken = msgspec.structs.replace(modify("1", {}), new_image=b"not JSON", old_image=b"not JSON")
    assert dropped(broken, templates=["order:{pk}"]) == [b"order:1"]
    assert outcomes(broken, templates=["order:{pk}"]) == [APPLIED]


def test_without_an_old_image_the_new_place_is_dropped() -> None:
    assert sorted(dropped(modify("1", {"customer": "B"}))) == [b"customer:B:orders", b"order:1"]


def test_a_foreign_key_that_went_away_drops_the_side_that_it_had() -> None:
    gone = modify("1", {}, old={"customer": "A"})
    assert b"customer:A:orders" in dropped(gone)
    assert outcomes(gone) == [APPLIED]


def test_an_item_without_the_attribute_is_rejected_or_skipped_as_the_user_says() -> None:
    bare = insert("1")
    assert dropped(bare) == [b"order:1"]
    assert reason(outcomes(bare)[0]) == "attribute_missing"
    assert dropped(bare, missing="skip") == [b"order:1"]
    assert outcomes(bare, missing="skip") == [APPLIED]


def test_a_stream_of_keys_only_cannot_fill_a_template_over_other_attributes() -> None:
    for bare in (change(EventName.MODIFY, "1"), remove("1")):
        assert reason(outcomes(bare)[0]) == "image_missing"
        assert dropped(bare) == [b"order:1"]


def test_an_image_that_cannot_be_read_is_rejected_with_its_own_reason() -> None:
    broken = msgspec.structs.replace(insert("1", {"customer": "A"}), new_image=b'{"customer": {"S"')
    assert reason(outcomes(broken)[0]) not in ("image_missing", "attribute_missing")


def test_an_item_that_leaves_the_route_is_dropped_at_its_old_place() -> None:
    left = insert("1", {"customer": "A"}).as_removal()
    assert sorted(dropped(left)) == [b"customer:A:orders", b"order:1"]


# What is kept


def entries(*changes: Change, key: str = "item:{pk}", **options: Any) -> tuple[list[Entry], list[Outcome]]:
    server = Server(config(write={"key": key}))
    return WriteThrough(server, WriteConfig(key=key, **options), key_bytes_max=1024).entries_of(changes)


def test_a_version_is_nineteen_digits_so_that_text_compares_as_numbers_do() -> None:
    versions = [0, 9, 10, 2**53, 2**53 + 1, 2**63 - 1]
    changes = [msgspec.structs.replace(insert("a"), version=version) for version in versions]
    texts = [entry.version for entry in entries(*changes)[0]]
    assert {len(text) for text in texts} == {19}
    assert texts == sorted(texts)


def test_an_item_that_moves_is_removed_at_its_old_place_and_written_at_its_new_one() -> None:
    (old, new), answered = entries(modify("1", {"c": "B"}, old={"c": "A"}), key="{c}:{pk}")
    assert (old.key, old.document, old.decides) == (b"A:1", b"", False)
    assert (new.key, new.document, new.decides) == (b"B:1", b'{"pk":"1","c":"B"}', True)
    assert answered == [APPLIED]


def test_an_item_that_stays_is_written_once() -> None:
    (entry,), _ = entries(modify("1", {"c": "A", "n": 2}, old={"c": "A", "n": 1}), key="{c}:{pk}")
    assert entry.key == b"A:1"


def test_a_removal_has_no_document_and_decides_the_outcome() -> None:
    (entry,), _ = entries(remove("1"))
    assert (entry.key, entry.document, entry.decides) == (b"item:1", b"", True)


def test_a_number_that_no_double_holds_is_treated_as_the_user_says() -> None:
    digits = "1.2345678901234567890123456789012345678"
    precise = msgspec.structs.replace(insert("1"), new_image=b'{"n":{"N":"%s"}}' % digits.encode())
    (as_number,), _ = entries(precise)
    (as_string,), _ = entries(precise, numbers="string")
    nothing, (outcome,) = entries(precise, numbers="reject")
    assert as_number.document == b'{"n":%s}' % digits.encode()
    assert as_string.document == b'{"n":"%s"}' % digits.encode()
    assert nothing == []
    assert reason(outcome) == "number_not_exact"


# What the sink says of itself


def test_it_says_which_attributes_and_images_it_needs() -> None:
    dropping = RedisSink(config(invalidate=TEMPLATES), context())
    assert dropping.place_attributes == {"pk", "customer"}
    assert dropping.needs == Needs.NOTHING
    assert "streams" not in dropping.describe()
    assert "old images" in dropping.describe()
    writing = RedisSink(config(write={"key": "item:{pk}"}), context())
    assert writing.place_attributes == {"pk"}
    assert writing.needs == Needs.NEW_IMAGE


# What a user may not write


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one"),
        ({"invalidate": ["a:{pk}"], "write": {"key": "a:{pk}"}}, "exactly one"),
        ({"invalidate": []}, "at least 1"),
        ({"invalidate": ["a:{pk}", "a:{pk}"]}, "twice"),
        ({"invalidate": ["a:{pk"]}, "never closed"),
        ({"write": {"key": "{$nonsense}"}}, "not known"),
        ({"write": {"key": "a:{pk}"}, "missing": "skip"}, "belongs to 'invalidate'"),
        ({"write": {"key": "a:{pk}", "ttl": "0s"}}, "greater than"),
        ({"invalidate": ["a"], "tls_ca": "/ca.pem"}, "rediss://"),
        ({"invalidate": ["a"], "url": "http://localhost"}, "redis://"),
        ({"invalidate": ["a"], "url": "redis:///0"}, "no host"),
        ({"invalidate": ["a"], "url": "redis://localhost/x"}, "database's number"),
        ({"invalidate": ["a"], "url": "redis://localhost?retry_on_timeout=yes"}, "no '?' options"),
        ({"invalidate": ["a"], "url": "redis://localhost/3", "cluster": True}, "database 0"),
        ({"invalidate": ["a"], "timeuot": "1s"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("?", r"\?")):
        config(**options)


@pytest.mark.parametrize("url", ["redis://user:s3cr3t@host:port", "http://user:s3cr3t@host", "redis://u:s3cr3t@h/x"])
def test_a_url_that_is_refused_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(url=url, invalidate=["a"])
    assert "s3cr3t" not in str(refused.value)
    assert "s3cr3t" not in repr(config(url="redis://user:s3cr3t@host", invalidate=["a"]))


async def _open(sink: RedisSink) -> None:
    try:
        await sink.open()
    finally:
        await sink.close()


def test_a_ca_file_that_is_missing_is_a_configuration_error(tmp_path: Path) -> None:
    sink = RedisSink(config(url="rediss://localhost:1", invalidate=["a"], tls_ca=tmp_path / "no.pem"), context())
    with pytest.raises(ConfigError, match="CA file"):
        asyncio.run(_open(sink))
