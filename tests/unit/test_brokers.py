"""How a Kafka cluster is reached, as properties that librdkafka takes."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer
from pydantic import ValidationError

from connector.brokers import Cluster, cluster_properties, shared_properties, with_options
from connector.errors import ConfigError


def properties(**options: Any) -> dict[str, Any]:
    return cluster_properties(Cluster.model_validate({"brokers": ["a:9092", "b:9092"], **options}))


SCRAM = {"mechanism": "SCRAM-SHA-512", "username": "u", "password": "p"}
OAUTH = {
    "mechanism": "OAUTHBEARER",
    "oauth": {"token_url": "https://id.example/token", "client_id": "c", "client_secret": "s", "scope": "kafka"},
}


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, None),
        ({"tls": {}}, "SSL"),
        ({"tls": {"verify": False}}, "SSL"),
        ({"sasl": SCRAM}, "SASL_PLAINTEXT"),
        ({"tls": {}, "sasl": SCRAM}, "SASL_SSL"),
        ({"tls": {}, "sasl": {**SCRAM, "mechanism": "PLAIN"}}, "SASL_SSL"),
        ({"tls": {}, "sasl": OAUTH}, "SASL_SSL"),
    ],
)
def test_librdkafka_takes_what_is_made_of_tls_and_sasl(options: dict[str, Any], protocol: str | None) -> None:
    made = properties(**options)
    assert made.get("security.protocol") == protocol
    assert made["bootstrap.servers"] == "a:9092,b:9092"
    Consumer({**made, "bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}).close()


def test_certificates_and_passwords_reach_their_properties() -> None:
    made = properties(tls={"ca": "ca.pem", "cert": "c.pem", "key": "k.pem", "key_password": "secret"}, sasl=SCRAM)
    assert made["ssl.ca.location"] == "ca.pem"
    assert made["ssl.certificate.location"] == "c.pem"
    assert made["ssl.key.location"] == "k.pem"
    assert made["ssl.key.password"] == "secret"
    assert (made["sasl.mechanism"], made["sasl.username"], made["sasl.password"]) == ("SCRAM-SHA-512", "u", "p")
    assert made["enable.ssl.certificate.verification"] is True


def test_secrets_are_not_printed() -> None:
    cluster = Cluster.model_validate(
        {
            "brokers": ["a"],
            "sasl": SCRAM | {"password": "hidden"},
            "tls": {"cert": "c", "key": "k", "key_password": "hidden"},
        }
    )
    assert "hidden" not in repr(cluster)


@pytest.mark.parametrize(
    "wrong",
    [
        {"brokers": []},
        {"brokers": ["a,b"]},
        {"brokers": ["a b"]},
        {"tls": {"cert": "c.pem"}},
        {"tls": {"key_password": "x"}},
        {"tls": {"verfy": False}},
        {"sasl": {"mechanism": "PLAIN", "username": "u"}},
        {"sasl": {"mechanism": "OAUTHBEARER"}},
        {"sasl": {**SCRAM, "oauth": OAUTH["oauth"]}},
        {"sasl": {"mechanism": "MD5", "username": "u", "password": "p"}},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({"brokers": ["a"], **wrong})


def test_options_add_properties_but_replace_none_of_ours() -> None:
    ours = properties()
    assert (
        with_options(ours, {"socket.keepalive.enable": True, "client.id": "mine"}, frozenset())["client.id"] == "mine"
    )
    with pytest.raises(ConfigError) as refused:
        with_options(ours, {"bootstrap.servers": "x"}, frozenset())
    assert refused.value.path == ("options", "bootstrap.servers")
    with pytest.raises(ConfigError):
        with_options(ours, {"acks": "0"}, frozenset({"acks"}))


def test_an_admin_client_gets_only_what_it_knows() -> None:
    made = {**properties(tls={}, sasl=SCRAM), "group.id": "g", "fetch.max.bytes": 1, "socket.keepalive.enable": True}
    shared = shared_properties(made)
    assert "group.id" not in shared
    assert "fetch.max.bytes" not in shared
    assert {"bootstrap.servers", "sasl.password", "security.protocol", "socket.keepalive.enable"} <= set(shared)
