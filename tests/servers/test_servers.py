"""Each real server answers, keeps its data through a kill and a restart, and can be paused."""

import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer
from opensearchpy import OpenSearch
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.dynamodb_local import DynamoDBLocal
from tests.servers.fixtures import MakeTopic, StartPrometheus
from tests.servers.kafka import KafkaServer
from tests.servers.opensearch import OpenSearchServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import HOST, lives
from tests.servers.redis import RedisCluster, RedisServer


def test_kafka_keeps_what_was_acknowledged_through_a_kill(kafka: KafkaServer, kafka_topic: MakeTopic) -> None:
    topic = kafka_topic(partitions=3)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for partition in range(3):
        producer.produce(topic, key=b"k", value=b"v%d" % partition, partition=partition)
    assert producer.flush(30) == 0

    kafka.process.kill()
    kafka.process.start()

    group = {"group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, **group})
    consumer.subscribe([topic])
    messages = consumer.consume(3, timeout=30)
    consumer.close()
    assert {message.value() for message in messages} == {b"v0", b"v1", b"v2"}


def test_a_topic_that_nobody_made_does_not_exist(kafka: KafkaServer) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 3000})
    errors: list[str | None] = []
    producer.produce("misspelt", b"v", on_delivery=lambda error, _: errors.append(error.name() if error else None))
    producer.flush(30)
    assert errors in (["UNKNOWN_TOPIC_OR_PART"], ["_MSG_TIMED_OUT"], ["_UNKNOWN_TOPIC"])


def test_opensearch_keeps_documents_through_a_kill(opensearch: OpenSearchServer, opensearch_index_prefix: str) -> None:
    index = opensearch_index_prefix + "orders"
    client = OpenSearch(opensearch.url)
    version = {"version": "7", "version_type": "external_gte"}
    client.index(index=index, id="1", body={"status": "PAID"}, params=version)

    opensearch.process.kill()
    opensearch.process.start()

    document = client.get(index=index, id="1")
    assert (document["_source"], document["_version"]) == ({"status": "PAID"}, 7)


def test_redis_keeps_keys_through_a_kill(redis_database: RedisServer) -> None:
    with redis.Redis.from_url(redis_database.url) as client:
        client.set("k", "v")
        redis_database.process.kill()
        redis_database.process.start()
        assert client.get("k") == b"v"


def test_a_paused_redis_answers_nothing_until_it_is_resumed(redis_server: RedisServer) -> None:
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(host=redis_server.host, port=redis_server.port, socket_timeout=0.2, retry=retry) as client:
        redis_server.process.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.process.resume()
        assert client.ping() is True


def test_a_test_may_leave_a_server_paused(redis_server: RedisServer) -> None:
    redis_server.process.pause()


def test_the_next_test_finds_it_running(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=5) as client:
        assert client.ping() is True


def test_a_redis_cluster_spreads_keys_over_three_nodes(redis_cluster_database: RedisCluster) -> None:
    client: Any = redis.RedisCluster(host=HOST, port=redis_cluster_database.nodes[0].port)
    with client:
        for number in range(60):
            client.set(f"key:{number}", "v")
    sizes = [redis.Redis.from_url(node.url).dbsize() for node in redis_cluster_database.nodes]
    assert sum(int(str(size)) for size in sizes) == 60
    assert all(sizes)


def test_postgres_keeps_committed_rows_through_a_kill(postgres: PostgresServer, postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute("CREATE TABLE t (n numeric)")
        connection.execute("INSERT INTO t VALUES (12345678901234567890123456789012345678)")

    postgres.process.kill()
    postgres.process.start()

    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT n::text FROM t").fetchone() == ("12345678901234567890123456789012345678",)


def test_pausing_postgres_pauses_connections_that_are_open_already(
    postgres: PostgresServer, postgres_database: str
) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        postgres.process.pause()
        connection.pgconn.send_query(b"SELECT 1")
        answered_while_paused, _, _ = select.select([connection], [], [], 0.2)
        postgres.process.resume()
        answered_afterwards, _, _ = select.select([connection], [], [], 30)
        while connection.pgconn.get_result():
            pass
    assert (answered_while_paused, answered_afterwards) == ([], [connection])


def test_dynamodb_local_gives_stream_records_and_keeps_them_through_a_restart(dynamodb_local: DynamoDBLocal) -> None:
    login = {
        "aws_access_key_id": dynamodb_local.access_key_id,
        "aws_secret_access_key": dynamodb_local.secret_access_key,
    }
    session = boto3.Session(region_name=dynamodb_local.region, **login)
    tables = session.client("dynamodb", endpoint_url=dynamodb_local.endpoint)
    table = tables.create_table(
        TableName="restart",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    tables.put_item(TableName="restart", Item={"pk": {"S": "a"}})

    dynamodb_local.process.restart()

    streams = session.client("dynamodbstreams", endpoint_url=dynamodb_local.endpoint)
    arn = table["TableDescription"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    position = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    records = streams.get_records(ShardIterator=streams.get_shard_iterator(**position)["ShardIterator"])["Records"]
    assert [record["dynamodb"]["NewImage"] for record in records] == [{"pk": {"S": "a"}}]


def test_prometheus_evaluates_rules(prometheus: StartPrometheus, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, interval: 100ms, rules: [{record: answer, expr: vector(42)}]}]")
    server = prometheus(rule_files=[rules])
    found: list[str] = []
    while not found:  # bounded by the test's time limit
        time.sleep(0.05)
        found = [sample["value"][1] for sample in server.query("answer")]
    assert found == ["42"]


def test_servers_of_a_killed_test_run_are_ended_and_their_folders_removed(redis_server: RedisServer) -> None:
    """`redis_server` is asked for so that this test is skipped where there is no Redis."""
    script = """
        import os
        from tests.servers.redis import running_redis
        with running_redis() as server:
            print(server.process.pid, server.process.log.parent, flush=True)
            os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -9
    pid, folder = done.stdout.split()
    while lives(int(pid)) or Path(folder).exists():  # bounded by the test's time limit
        time.sleep(0.05)
