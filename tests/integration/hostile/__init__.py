"""Hostile input through the real daemon: each row of what has gone wrong with records and configurations elsewhere.

Every record goes through the running daemon, from a file into the embedded sinks (``test_embedded``), from a file and
from two Kafka topics into real servers (``test_servers``). Good records stand between the hostile ones, and each record
is held to its end: applied exactly, or dead-lettered with its code. Configurations go through the command line
(``test_configuration``). Below, what makes each row, and where in ``tests/unit`` it is looked at more closely:

JSON nested 100,000 deep, ``L`` 2,000 deep   json_traps, debezium values           codecs/test_hostile_records
integers of 5,000 digits, 1e400              json_traps, debezium values           codecs/test_hostile_records
NaN, Infinity                                json_traps, debezium values           codecs/test_hostile_records
duplicate keys                               json_traps, debezium keys, values     codecs/test_dynamodb_keys
lone surrogates, U+0000                      json_traps, texts, debezium values    sinks/test_audit
byte order mark, UTF-16                      json_traps                            sources/test_lines
38 digits, ``Decimal + 0``                   numbers, debezium values              test_attributes
Inexact and Rounded of boto3                 boto3 reads no numbers here           test_attributes
unknown type tags, empty values, null keys   attribute_traps                       codecs/test_dynamodb
null keys of Kafka, tombstones               test_servers, keys, tombstones        codecs/test_debezium
REMOVE without an old image, KEYS_ONLY       attribute_traps, keys_only            codecs/test_dynamodb
MODIFY before INSERT                         attribute_traps, tombstones           codecs/test_dynamodb
unknown event names                          attribute_traps, envelopes            codecs/test_dynamodb
ids of 0 and 513 bytes                       chosen, index_traps                   sinks/test_opensearch_encode
``../x``, ``*``, ``a,b``, ``_x``, uppercase  chosen, test_configuration            sinks/test_opensearch_encode
a record that selects another index          chosen                                sinks/test_opensearch_encode
1,001 fields, 33 kB keywords, long overflow  index_traps                           sinks/test_opensearch_outcomes
``_id`` in a document, object for scalar     index_traps                           sinks/test_opensearch_outcomes
keys of ``*?[]``, ``{}``, CRLF, a megabyte   texts, index_traps                    sinks/test_redis
SQL identifiers like ``x"; drop``            texts, all three tests                sinks/test_search, test_audit
``{0.__class__}`` and ``%s`` in templates    texts, all three tests                test_templates
CRLF, ANSI, bidi into logs                   texts, test_embedded, test_servers    observe/test_logs
metric labels from record values             test_servers                          observe/test_metrics
webhooks (link-local, redirects, rebinding)  no sink sends webhooks yet
YAML: alias bombs, 012, 12:30:45, no, …      test_configuration                    config/test_yaml
unset environment variables                  test_configuration                    config/test_secrets
secrets in URLs, exceptions, dead letters    test_servers, test_configuration      config/test_secrets
filters that take exponential time           test_embedded, test_configuration     filters/test_wildcard
"""
