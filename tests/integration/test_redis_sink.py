"""What the redis sink does on real servers beside the contract: places, guards, lifetimes, hostile keys, failures."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis, RedisCluster
from redis.crc import key_slot

from connector.change import Change
from connector.errors import ConfigError, SinkUnavailable, Throttled
from connector.sink import APPLIED, Applied, Outcome, Rejected, Stale
from sinks.redis import RedisSink
from sinks.redis.config import RedisSinkConfig
from sinks.redis.write_through import FILL
from sinks.testing import context, insert, modify, opened, remove
from tests.contract.whole_clusters import wait_until_whole
from tests.servers.process import free_ports
from tests.servers.redis import RedisCluster as ClusterServers
from tests.servers.redis import RedisServer, running_redis

FOREIGN_KEYS = ["order:{pk}", "customer:{customer}:orders"]


def redis_sink(url: str, **more: Any) -> RedisSink:
    return RedisSink(RedisSinkConfig.model_validate({"url": url, "timeout": "2s", **more}), context())


def write(sink: RedisSink, *batches: Sequence[Change]) -> list[Sequence[Outcome]]:
    async def run() -> list[Sequence[Outcome]]:
        async with opened(sink):
            return [await sink.write(batch) for batch in batches]

    return asyncio.run(run())


@pytest.fixture
def client(redis_database: RedisServer) -> Any:
    with Redis.from_url(redis_database.url) as client:
        yield client


@pytest.fixture
def redis_cluster_database(redis_cluster_database: ClusterServers) -> ClusterServers:
    """As elsewhere, and every node agrees that the cluster is up."""
    return wait_until_whole(redis_cluster_database)


# Invalidation


def moves_house() -> list[Change]:
    return [
        modify("1", {"customer": "B"}, old={"customer": "A"}, version=2),
        modify("1", {"customer": "C"}, old={"customer": "B"}, version=3),
    ]


def test_a_foreign_key_that_changes_twice_in_a_batch_is_cleared_at_all_three_customers(
    redis_database: RedisServer, client: Any
) -> None:
    for name in ("order:1", *(f"customer:{customer}:orders" for customer in "ABCD")):
        client.set(name, "cached")
    assert write(redis_sink(redis_database.url, invalidate=FOREIGN_KEYS), moves_house()) == [[APPLIED, APPLIED]]
    assert client.keys() == [b"customer:D:orders"]


def test_a_foreign_key_that_changes_is_cleared_in_every_slot_of_a_cluster(
    redis_cluster_database: ClusterServers,
) -> None:
    with RedisCluster.from_url(redis_cluster_database.url) as client:
        for name in ("order:1", *(f"customer:{customer}:orders" for customer in "ABCD")):
            client.set(name, "cached")
        write(redis_sink(redis_cluster_database.url, cluster=True, invalidate=FOREIGN_KEYS), moves_house())
        assert list(client.scan_iter()) == [b"customer:D:orders"]


def test_a_removal_is_cleared_by_its_old_image(redis_database: RedisServer, client: Any) -> None:
    client.set("customer:A:orders", "cached")
    sink = redis_sink(redis_database.url, invalidate=FOREIGN_KEYS)
    assert write(sink, [remove("1", old={"customer": "A"})]) == [[APPLIED]]
    assert client.keys() == []


def test_what_can_be_named_is_cleared_though_the_change_is_rejected(redis_database: RedisServer, client: Any) -> None:
    client.set("order:1", "cached")
    ((outcome,),) = write(redis_sink(redis_database.url, invalidate=FOREIGN_KEYS), [remove("1")])
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "image_missing"
    assert client.keys() == []


@pytest.mark.parametrize("name", ["a\r\nDEL other\r\n", "*", "?[a-z]*", "{}", "{x}", "ключ 🌊", " ", "\x00", "%s"])
def test_a_hostile_key_names_one_key_and_no_other(redis_database: RedisServer, client: Any, name: str) -> None:
    client.set(f"order:{name}", "cached")
    client.set("other", "kept")
    client.set("order:other", "kept")
    assert write(redis_sink(redis_database.url, invalidate=["order:{pk}"]), [insert(name)]) == [[APPLIED]]
    assert sorted(client.keys()) == [b"order:other", b"other"]


def test_a_key_of_a_megabyte_is_rejected_and_the_others_are_cleared(redis_database: RedisServer, client: Any) -> None:
    client.set("order:a", "cached")
    sink = redis_sink(redis_database.url, invalidate=["order:{pk}"])
    ((long, short),) = write(sink, [insert("x" * 1_000_000), insert("a", version=2)])
    assert isinstance(long, Rejected)
    assert long.reason == "result_too_long"
    assert len(long.detail) < 200
    assert short == APPLIED
    assert client.keys() == []


# Write-through


def test_an_older_value_that_doubles_cannot_tell_from_the_newer_one_loses(
    redis_database: RedisServer, client: Any
) -> None:
    sink = redis_sink(redis_database.url, write={"key": "item:{pk}"})
    newer = msgspec.structs.replace(insert("a", {"n": 2}), version=2**53 + 1)
    older = msgspec.structs.replace(insert("a", {"n": 1}), version=2**53)
    assert float(newer.version) == float(older.version)
    ((first,), (second,)) = write(sink, [newer], [older])
    assert isinstance(first, Applied)
    assert isinstance(second, Stale)
    assert json.loads(client.hget("item:a", "d"))["n"] == 2


def test_an_item_that_moves_house_is_found_at_its_new_place_alone(redis_database: RedisServer, client: Any) -> None:
    sink = redis_sink(redis_database.url, write={"key": "{customer}:{pk}"})
    moved = modify("1", {"customer": "B"}, old={"customer": "A"}, version=2)
    late = insert("1", {"customer": "A"}, version=1)
    outcomes = write(sink, [insert("1", {"customer": "A"}, version=1), moved], [late])
    assert [type(outcome) for outcome in outcomes[0]] == [Applied, Applied]
    assert isinstance(outcomes[1][0], Stale)
    assert client.hget("A:1", "d") is None
    assert json.loads(client.hget("B:1", "d")) == {"pk": "1", "customer": "B"}


def test_a_readers_fill_that_comes_after_the_removal_does_not_bring_the_item_back(
    redis_database: RedisServer, client: Any
) -> None:
    sink = redis_sink(redis_database.url, write={"key": "item:{pk}"})
    write(sink, [insert("a", {"n": 1}, version=1)])
    seen = client.hget("item:a", "v") or b""
    write(sink, [remove("a", version=2)])
    assert client.eval(FILL, 1, "item:a", seen, b'{"n":1}', 60_000) == 0
    assert client.hget("item:a", "d") is None


def test_a_readers_fill_with_nothing_in_between_is_taken_and_loses_to_the_next_change(
    redis_database: RedisServer, client: Any
) -> None:
    seen = client.hget("item:a", "v") or b""
    assert client.eval(FILL, 1, "item:a", seen, b'{"n":1}', 60_000) == 1
    assert client.hget("item:a", "d") == b'{"n":1}'
    write(redis_sink(redis_database.url, write={"key": "item:{pk}"}), [modify("a", {"n": 2}, version=2)])
    assert json.loads(client.hget("item:a", "d"))["n"] == 2


def test_values_live_for_their_ttl_and_removals_for_the_tombstones(redis_database: RedisServer, client: Any) -> None:
    sink = redis_sink(redis_database.url, write={"key": "item:{pk}", "ttl": "10m", "tombstone_ttl": "30s"})
    write(sink, [insert("a"), insert("b"), remove("b", version=2)])
    assert 590_000 < client.pttl("item:a") <= 600_000
    assert 20_000 < client.pttl("item:b") <= 30_000


def test_a_value_without_a_ttl_that_follows_a_tombstone_stays(redis_database: RedisServer, client: Any) -> None:
    write(redis_sink(redis_database.url, write={"key": "item:{pk}"}), [remove("a"), insert("a", version=4)])
    assert client.ttl("item:a") == -1


def test_a_key_of_another_type_rejects_its_change_alone(redis_database: RedisServer, client: Any) -> None:
    client.set("item:b", "a string")
    sink = redis_sink(redis_database.url, write={"key": "item:{pk}"})
    (outcomes,) = write(sink, [insert("a"), insert("b", version=2), insert("c", version=3)])
    assert [type(outcome) for outcome in outcomes] == [Applied, Rejected, Applied]
    assert client.get("item:b") == b"a string"


def test_a_server_that_forgot_the_script_is_taught_again(redis_database: RedisServer, client: Any) -> None:
    async def run() -> Sequence[Outcome]:
        async with opened(redis_sink(redis_database.url, write={"key": "item:{pk}"})) as sink:
            client.script_flush()
            return await sink.write([insert("a")])

    assert asyncio.run(run()) == [APPLIED]
    assert client.hget("item:a", "d") == b'{"pk":"a"}'


# Failures


def test_a_server_that_dies_is_nobodys_fault_and_is_used_again_when_it_is_back(redis_database: RedisServer) -> None:
    async def run() -> Sequence[Outcome]:
        async with opened(redis_sink(redis_database.url, invalidate=["order:{pk}"])) as sink:
            await sink.write([insert("a")])
            redis_database.process.kill()
            for _ in range(2):
                with pytest.raises(SinkUnavailable):
                    await sink.write([insert("a")])
            redis_database.process.start()
            return await sink.write([insert("a")])

    assert asyncio.run(run()) == [APPLIED]


def test_a_server_that_hangs_is_unavailable_after_the_timeout(redis_database: RedisServer) -> None:
    async def run() -> None:
        async with opened(redis_sink(redis_database.url, invalidate=["order:{pk}"], timeout="300ms")) as sink:
            redis_database.process.pause()
            with pytest.raises(SinkUnavailable):
                await sink.write([insert("a")])

    asyncio.run(run())


def test_a_server_without_memory_asks_for_less() -> None:
    with running_redis("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:

        async def run() -> None:
            async with opened(redis_sink(server.url, write={"key": "item:{pk}"})) as sink:
                with pytest.raises(Throttled):
                    await sink.write([insert(f"k{n}", {"text": "x" * 100_000}) for n in range(50)])

        asyncio.run(run())


def test_a_replica_that_may_not_be_written_is_unavailable(redis_database: RedisServer, client: Any) -> None:
    async def run() -> None:
        async with opened(redis_sink(redis_database.url, invalidate=["order:{pk}"])) as sink:
            client.replicaof("127.0.0.1", 1)
            try:
                with pytest.raises(SinkUnavailable):
                    await sink.write([insert("a")])
            finally:
                client.replicaof("NO", "ONE")

    asyncio.run(run())


@pytest.mark.parametrize("user", ["nobody:wrong", "reader:secret"])
def test_a_user_whom_redis_refuses_is_a_configuration_error(
    redis_database: RedisServer, client: Any, user: str
) -> None:
    client.acl_setuser("reader", enabled=True, passwords=["+secret"], categories=["+@read", "+@connection"], keys=["*"])
    url = redis_database.url.replace("redis://", f"redis://{user}@")
    try:
        with pytest.raises(ConfigError) as refused:
            write(redis_sink(url, invalidate=["order:{pk}"]))
    finally:
        client.acl_deluser("reader")
    assert user.partition(":")[2] not in str(refused.value)


def test_a_user_for_one_prefix_is_enough(redis_database: RedisServer, client: Any) -> None:
    client.acl_setuser("cache", enabled=True, passwords=["+secret"], commands=["+unlink", "+ping"], keys=["order:*"])
    url = redis_database.url.replace("redis://", "redis://cache:secret@")
    try:
        assert write(redis_sink(url, invalidate=["order:{pk}"]), [insert("a")]) == [[APPLIED]]
    finally:
        client.acl_deluser("cache")


def test_a_cluster_must_be_said_to_be_one(redis_cluster_database: ClusterServers, redis_database: RedisServer) -> None:
    with pytest.raises(ConfigError, match="cluster: true"):
        write(redis_sink(redis_cluster_database.url, invalidate=["order:{pk}"]))
    with pytest.raises(ConfigError, match="cluster: true"):
        write(redis_sink(redis_database.url, cluster=True, invalidate=["order:{pk}"]))


def test_a_server_is_trusted_by_the_given_authority_and_by_no_other(tmp_path: Path) -> None:
    certificate, key, (port,) = tmp_path / "server.pem", tmp_path / "server.key", free_ports(1)
    subject = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with running_redis("--tls-port", str(port), *files):
        url = f"rediss://127.0.0.1:{port}"
        trusting = redis_sink(url, invalidate=["order:{pk}"], tls_ca=certificate)
        assert write(trusting, [insert("a")]) == [[APPLIED]]
        with pytest.raises(SinkUnavailable, match="certificate"):
            write(redis_sink(url, invalidate=["order:{pk}"]))


# A cluster in motion


def test_a_slot_that_is_moving_and_has_moved_is_followed(redis_cluster_database: ClusterServers) -> None:
    clients: list[Any] = [Redis.from_url(node.url) for node in redis_cluster_database.nodes]
    slot = key_slot(b"item:a")
    nodes = {node.execute_command("CLUSTER MYID").decode(): node for node in clients}
    with RedisCluster.from_url(redis_cluster_database.url) as client:
        owner_port = client.get_node_from_key("item:a").port
    owner = next(name for name, node in nodes.items() if node.connection_pool.connection_kwargs["port"] == owner_port)
    target = next(name for name in nodes if name != owner)

    def settle(name: str) -> None:
        for node in nodes.values():
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", name)

    async def run() -> Sequence[Sequence[Outcome]]:
        sink = redis_sink(redis_cluster_database.url, cluster=True, write={"key": "item:{pk}"})
        async with opened(sink):
            outcomes = [await sink.write([insert("a", {"n": 1}, version=1)])]
            nodes[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", owner)
            nodes[owner].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target)
            target_port = nodes[target].connection_pool.connection_kwargs["port"]
            nodes[owner].execute_command("MIGRATE", "127.0.0.1", target_port, "item:a", 0, 2000)
            outcomes.append(await sink.write([modify("a", {"n": 2}, version=2)]))
            settle(target)
            outcomes.append(await sink.write([modify("a", {"n": 3}, version=3)]))
            return outcomes

    try:
        assert asyncio.run(run()) == [[APPLIED], [APPLIED], [APPLIED]]
        assert json.loads(nodes[target].hget("item:a", "d"))["n"] == 3
    finally:
        for node in nodes.values():
            node.flushall()
        settle(owner)


def test_a_node_that_dies_makes_the_cluster_unavailable_until_it_is_back(
    redis_cluster_database: ClusterServers,
) -> None:
    batch = [insert(f"k{n}", version=n + 1) for n in range(50)]

    async def run() -> Sequence[Outcome]:
        sink = redis_sink(redis_cluster_database.url, cluster=True, invalidate=["order:{pk}"])
        async with opened(sink):
            await sink.write(batch)
            redis_cluster_database.nodes[1].process.kill()
            with pytest.raises(SinkUnavailable):
                await sink.write(batch)
            redis_cluster_database.nodes[1].process.start()
            for _ in range(100):
                try:
                    return await sink.write(batch)
                except SinkUnavailable:
                    await asyncio.sleep(0.2)
            raise AssertionError("the cluster did not come back")

    assert asyncio.run(run()) == [APPLIED] * 50
