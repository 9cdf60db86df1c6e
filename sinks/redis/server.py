"""The connection to Redis: one server or a cluster behind the same two calls, and what its failures mean.

The client's own retries are off: delivery owns them. Each ``run`` takes one connection for as long as it lasts, so
there are never more than the route has lanes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis import exceptions as failures
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from connector.errors import ConfigError, SinkUnavailable, Throttled
from sinks.redis.config import RedisSinkConfig


class Command(NamedTuple):
    """One command, and one of its keys (all of which are in one slot), where it has any."""

    key: bytes | None
    words: Sequence[bytes | str | int]


# Answers of a server that is not itself for now, or does not let this user in any more. None is a change's fault.
_UNAVAILABLE_WORDS = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "WRONGPASS",
)
# What is left of a refusal once the cluster's client has wrapped it.
_REFUSALS = ("invalid username-password pair", "Authentication required", "has no permissions to run")
_REFUSED = (failures.AuthenticationError, failures.AuthorizationError, failures.NoPermissionError)
_UNAVAILABLE = (
    failures.ConnectionError,
    failures.TimeoutError,
    failures.ReadOnlyError,
    failures.NoPermissionError,
    failures.ClusterDownError,
    failures.TryAgainError,
    failures.AskError,  # and MovedError: the client followed it, and the cluster still points elsewhere
    failures.RedisClusterException,
    OSError,
    asyncio.TimeoutError,
)


class Server:
    """A Redis server or cluster. Made without I/O; ``open`` connects."""

    def __init__(self, config: RedisSinkConfig) -> None:
        self._config = config
        self.cluster = config.cluster
        self.about = "not connected"
        """Version and kind of the server, for people."""
        self._client: Redis | RedisCluster | None = None

    async def open(self) -> None:
        """Connect and look at what answers. Raises ConfigError, SinkUnavailable."""
        self._check_ca()
        try:
            client = await self._connected()
            await client.ping()
            await _try_unlink(client)
            self.about = await _about(client)
        except Exception as error:
            await self.close()
            if isinstance(error, failures.AskError) and not self.cluster:  # MovedError is one
                raise _unsaid_cluster() from error
            raise _refusal(error) or _unavailable(error) or error from error
        if self.about.endswith("cluster") and not self.cluster:
            await self.close()
            raise _unsaid_cluster()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answer to each command, in order; an answer may be an exception that concerns that command alone.

        Raises SinkUnavailable (Throttled) when the whole server is down or refuses; some commands may have been run.
        """
        try:
            client = await self._connected()
            if len(commands) == 1 and not self.cluster:
                answers = [await client.execute_command(*commands[0].words)]
            else:
                pipeline = client.pipeline(transaction=False)
                for key, words in commands:
                    if isinstance(client, RedisCluster) and key is not None:
                        # The client finds the node by itself too, but takes twice as long for the whole call then.
                        # A command that is redirected is routed anew, whatever stands here.
                        node = client.nodes_manager.get_node_from_slot(key_slot(key))
                        pipeline.execute_command(*words, target_nodes=node)
                    else:
                        pipeline.execute_command(*words)
                answers = await pipeline.execute(raise_on_error=False)
        except failures.ResponseError as error:
            answers = [error]
        except Exception as error:
            unavailable = _unavailable(error)
            if unavailable is None:
                raise
            await self._forget(error)
            raise unavailable from error
        for answer in answers:
            if isinstance(answer, Exception) and (unavailable := _unavailable(answer)) is not None:
                await self._forget(answer)
                raise unavailable from answer
        return answers

    def grouped(self, keys: Iterable[bytes], keys_max: int) -> list[list[bytes]]:
        """The keys in groups that one command may name: ``keys_max`` at most, and of one slot in a cluster."""
        if not self.cluster:
            whole = list(keys)
            return [whole[start : start + keys_max] for start in range(0, len(whole), keys_max)]
        slots: dict[int, list[bytes]] = {}
        for key in keys:
            slots.setdefault(key_slot(key), []).append(key)
        return [group[start : start + keys_max] for group in slots.values() for start in range(0, len(group), keys_max)]

    async def close(self) -> None:
        """Let go of every connection; never raises."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()

    async def _connected(self) -> Redis | RedisCluster:
        if self._client is None:
            config = self._config
            options: dict[str, Any] = {
                "socket_timeout": config.timeout,
                "socket_connect_timeout": config.timeout,
                "retry": Retry(NoBackoff(), 0),
            }
            if config.tls_ca is not None:
                options["ssl_ca_certs"] = str(config.tls_ca)
            kind: type[Redis | RedisCluster] = RedisCluster if self.cluster else Redis
            self._client = kind.from_url(config.url.get_secret_value(), **options)
        client = self._client
        if isinstance(client, RedisCluster):
            await client.initialize()
        return client

    async def _forget(self, error: Exception) -> None:
        """After a failure, look anew where the servers are: a failover may have moved them.

        A cluster's other nodes are asked first; when none of those known answers, the next try begins at the URL.
        """
        client = self._client
        if isinstance(client, RedisCluster) and type(error) is not failures.RedisClusterException:
            with contextlib.suppress(Exception):
                await client.aclose()
        elif isinstance(error, failures.RedisClusterException | failures.ReadOnlyError | failures.MasterDownError):
            await self.close()

    def _check_ca(self) -> None:
        path = self._config.tls_ca
        if path is not None:
            try:
                ssl.create_default_context(cafile=str(path))
            except OSError as error:  # SSLError is one
                raise ConfigError(f"cannot use the CA file: {error.strerror or error}", path=("tls_ca",)) from error


async def _about(client: Redis | RedisCluster) -> str:
    try:
        said = await client.info("server", **({"target_nodes": "random"} if isinstance(client, RedisCluster) else {}))
    except failures.ResponseError:
        # Forbidden to this user, or unknown to a server that only speaks like Redis (and may hang up over it).
        if isinstance(client, Redis):
            await client.connection_pool.disconnect()
        return "Redis"
    return f"Redis {said.get('redis_version', '?')}, {said.get('redis_mode', 'standalone')}"


async def _try_unlink(client: Redis | RedisCluster) -> None:
    """Find out now, and not with the first change, whether this user may drop keys."""
    try:
        await client.unlink(f"millrace:probe:{uuid.uuid4()}")
    except failures.NoPermissionError as error:
        if "command" in str(error):
            raise
        # The command is allowed; the probe's name lies outside of the keys that this user may touch.


def _unsaid_cluster() -> ConfigError:
    return ConfigError("the server is a node of a Redis Cluster: write 'cluster: true'", path=("cluster",))


def _refusal(error: Exception) -> ConfigError | None:
    """What only a person can mend, at start."""
    text = str(error)
    if isinstance(error, _REFUSED) or any(words in text for words in _REFUSALS):
        return ConfigError(f"Redis refuses this user: {text}", path=("url",))
    if "Cluster mode is not enabled" in text or "cluster support disabled" in text:
        return ConfigError("the server is no cluster node: leave out 'cluster: true'", path=("cluster",))
    if "DB index is out of range" in text:
        return ConfigError("the server has no database of that number", path=("url",))
    return None


def _unavailable(error: Exception) -> SinkUnavailable | None:
    """None where the error concerns one command alone."""
    text = str(error)
    if isinstance(error, failures.OutOfMemoryError) or text.startswith("OOM"):
        return Throttled(f"Redis is out of memory: {text}")
    if isinstance(error, _UNAVAILABLE) or text.partition(" ")[0] in _UNAVAILABLE_WORDS:
        return SinkUnavailable(f"Redis is unavailable: {type(error).__name__}: {text}")
    return None
