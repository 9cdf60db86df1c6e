"""Real servers for tests: each one a plain process on loopback, on free ports, with a data folder of its own.

They are started when the first test asks for one, serve the whole pytest session, and are gone at its end, also when
pytest itself was killed (`guard.py`). Processes come before containers because a test must be able to pause, kill and
restart a server in the same way on every machine, and because none of them takes longer than some seconds to start.

=========================  ==========================================================================================
fixture                    what a test gets
=========================  ==========================================================================================
`kafka`                    `KafkaServer`: `.bootstrap`, `.process`
`kafka_topic`              a function that makes a topic: `kafka_topic(partitions=4, config={...})` returns its name
`opensearch`               `OpenSearchServer`: `.url`, `.process` (the core: no scripts, no reindex)
`opensearch_index_prefix`  a prefix for index names that no other test has
`redis_server`             `RedisServer`: `.url`, `.host`, `.port`, `.process`
`redis_database`           the same `RedisServer`, emptied for this test
`redis_cluster`            `RedisCluster`: `.url` (of the first node), `.nodes` (three `RedisServer`)
`redis_cluster_database`   the same `RedisCluster`, emptied for this test
`postgres`                 `PostgresServer`: `.url`, `.process`
`postgres_database`        the URL of a fresh database
`dynamodb_local`           `DynamoDBLocal`: `.endpoint`, `.region`, `.access_key_id`, `.secret_access_key`, `.process`
`kinesis_local`            `KinesisLocal`: the same names; it forgets everything in a restart
`moto_server`              `MotoServer`: the same names; S3, SQS, SNS, EventBridge … by moto (not Kinesis: see there)
`prometheus`               a function that starts one: `prometheus(targets=[...], rule_files=[...])` returns a
                           `PrometheusServer`: `.url`, `.query(expression)`, `.process`
=========================  ==========================================================================================

`.process` is a `ServerProcess`: `pause()`, `resume()`, `kill()`, `stop()`, `start()`, `restart()`. A restart keeps the
ports and the data. What a test leaves paused or dead is brought back before the next test.

A test that uses one of these fixtures gets the marker `servers`. Where a server cannot be had, the test is skipped and
the summary says why; with `MILLRACE_SERVERS=required` it fails instead. `install.sh` installs what they need.
`python -m tests.servers` starts them for you to try things by hand.
"""
