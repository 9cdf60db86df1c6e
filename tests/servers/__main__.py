"""Starts real servers for trying things by hand: `python -m tests.servers [NAME...]`, ended by Ctrl-C.

Their addresses are printed as lines for a shell, under the names that the example configurations use.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from tests.servers.dynamodb_local import running_dynamodb_local
from tests.servers.kafka import running_kafka
from tests.servers.kinesis import running_kinesis
from tests.servers.moto import running_moto
from tests.servers.opensearch import running_opensearch
from tests.servers.postgres import running_postgres
from tests.servers.process import ServerMissing
from tests.servers.prometheus import running_prometheus
from tests.servers.redis import running_redis, running_redis_cluster

# For each name: how to start it, the variable, and the address in what was started.
SERVERS: dict[str, tuple[Callable[[], AbstractContextManager[object]], str, str]] = {
    "kafka": (running_kafka, "KAFKA_BROKERS", "bootstrap"),
    "opensearch": (running_opensearch, "OPENSEARCH_URL", "url"),
    "redis": (running_redis, "REDIS_URL", "url"),
    "redis-cluster": (running_redis_cluster, "REDIS_CLUSTER_URL", "url"),
    "postgres": (running_postgres, "POSTGRES_URL", "url"),
    "dynamodb-local": (running_dynamodb_local, "DYNAMODB_ENDPOINT", "endpoint"),
    "kinesis-local": (running_kinesis, "KINESIS_ENDPOINT", "endpoint"),
    "moto": (running_moto, "AWS_ENDPOINT_URL", "endpoint"),
    "prometheus": (running_prometheus, "PROMETHEUS_URL", "url"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the named servers, or all; 1 where one is missing, 0 when they were ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SERVERS))
    parser.add_argument("--scrape", action="append", default=[], metavar="HOST:PORT", help="what Prometheus scrapes")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - SERVERS.keys()):
        parser.error(f"no such server: {', '.join(unknown)} (there are {', '.join(SERVERS)})")

    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job is born deaf to SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            for name in options.names or SERVERS:
                start, variable, address = SERVERS[name]
                running = running_prometheus(targets=options.scrape) if start is running_prometheus else start()
                print(f"export {variable}={getattr(stack.enter_context(running), address)}", flush=True)
            print("# running; Ctrl-C ends them and removes their data", flush=True)
            signal.pause()
    except ServerMissing as missing:
        print(f"{missing}\n(tests/servers/install.sh installs what all of them need)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
