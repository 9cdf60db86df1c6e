"""A Redis Cluster whose nodes all agree that it is up; each learns of the others by gossip, after it answers."""

from __future__ import annotations

import time
from typing import Any

from redis import Redis

from tests.servers.redis import RedisCluster

_TIMEOUT_S = 30


def wait_until_whole(cluster: RedisCluster) -> RedisCluster:
    """The cluster, once every node serves and knows all slots."""
    deadline = time.monotonic() + _TIMEOUT_S
    for node in cluster.nodes:
        with Redis(host=node.host, port=node.port, socket_timeout=2) as client:
            while not _is_whole(client):
                assert time.monotonic() < deadline, f"the cluster is not whole after {_TIMEOUT_S} s"
                time.sleep(0.05)
    return cluster


def _is_whole(client: Any) -> bool:
    about: dict[str, str] = client.cluster("info")
    return about["cluster_state"] == "ok" and about["cluster_slots_ok"] == "16384"
