"""How a Kafka cluster is reached: the options that everything that speaks to one has, as librdkafka's properties."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Literal

from confluent_kafka import KafkaError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from connector.clock import SystemClock
from connector.config.units import Secret
from connector.errors import ConfigError

Address = Annotated[str, StringConstraints(pattern=r"^[^\s,/]+$", max_length=300)]
Properties = dict[str, str | int | float | bool]

NOT_YOURS = frozenset({"bootstrap.servers", "metadata.broker.list", "plugin.library.paths", "opaque", "interceptors"})

PERSON_NEEDED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
"""Error codes that do not pass by waiting, while the client itself would go on trying."""


class Tls(BaseModel):
    """An encrypted connection. ``tls: {}`` trusts the authorities that the system trusts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    ca: str | None = Field(default=None, description="file with the authorities to trust (PEM)")
    cert: str | None = Field(default=None, description="file with the client's certificate (PEM)")
    key: str | None = Field(default=None, description="file with the client's private key (PEM)")
    key_password: Secret | None = Field(default=None, description="what the private key is encrypted with")
    verify: bool = Field(default=True, description="false accepts any certificate: for trying things only")

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together")
        if self.key_password is not None and self.key is None:
            raise ValueError("key_password has no key")
        return self


class OAuth(BaseModel):
    """Client credentials that are exchanged for a token (OpenID Connect)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    token_url: Annotated[str, StringConstraints(pattern=r"^https?://")] = Field(
        description="the token endpoint of the identity provider"
    )
    client_id: str = Field(min_length=1, description="who we are there")
    client_secret: Secret = Field(description="how we prove it")
    scope: str | None = Field(default=None, description="what the token is asked for")


class Sasl(BaseModel):
    """Who we are. Other mechanisms (GSSAPI) can be set up through ``options``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        description="how we prove who we are; OAUTHBEARER needs oauth, the others username and password"
    )
    username: str | None = Field(default=None, description="who we are")
    password: Secret | None = Field(default=None, description="how we prove it")
    oauth: OAuth | None = Field(default=None, description="client credentials that are exchanged for a token")

    @model_validator(mode="after")
    def _whole(self) -> Sasl:
        if self.mechanism == "OAUTHBEARER":
            if self.oauth is None or self.username is not None or self.password is not None:
                raise ValueError("OAUTHBEARER needs oauth, and no username or password")
        elif self.oauth is not None or self.username is None or self.password is None:
            raise ValueError(f"{self.mechanism} needs username and password, and no oauth")
        return self


class Cluster(BaseModel):
    """The options that a Kafka source, dead-letter topic or sink has for reaching its cluster."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    brokers: list[Address] = Field(min_length=1, description="host:port of some of the brokers")
    tls: Tls | None = Field(default=None, description="connect with TLS; {} for the system's authorities")
    sasl: Sasl | None = Field(default=None, description="authenticate")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="more properties of librdkafka, by its own names; those that this program's promise rests on are "
        "refused",
    )


def cluster_properties(cluster: Cluster) -> Properties:
    """The properties that reach the cluster, without ``options``."""
    properties: Properties = {"bootstrap.servers": ",".join(cluster.brokers), "client.id": "millrace"}
    if cluster.tls is not None or cluster.sasl is not None:
        security = ("SASL_" if cluster.sasl else "") + ("SSL" if cluster.tls is not None else "PLAINTEXT")
        properties["security.protocol"] = security
    if tls := cluster.tls:
        named = {"ssl.ca.location": tls.ca, "ssl.certificate.location": tls.cert, "ssl.key.location": tls.key}
        properties |= {name: value for name, value in named.items() if value is not None}
        if tls.key_password is not None:
            properties["ssl.key.password"] = tls.key_password.get_secret_value()
        properties["enable.ssl.certificate.verification"] = tls.verify
        if not tls.verify:
            properties["ssl.endpoint.identification.algorithm"] = "none"
    if sasl := cluster.sasl:
        properties["sasl.mechanism"] = sasl.mechanism
        if sasl.username is not None and sasl.password is not None:
            properties |= {"sasl.username": sasl.username, "sasl.password": sasl.password.get_secret_value()}
        if oauth := sasl.oauth:
            properties |= {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": oauth.token_url,
                "sasl.oauthbearer.client.id": oauth.client_id,
                "sasl.oauthbearer.client.secret": oauth.client_secret.get_secret_value(),
            }
            if oauth.scope is not None:
                properties["sasl.oauthbearer.scope"] = oauth.scope
    return properties


def with_options(
    ours: Properties, options: Mapping[str, str | int | float | bool], refused: frozenset[str]
) -> Properties:
    """``ours`` and the user's options. Raises ConfigError for one that is ours to set, or in ``refused``."""
    for name in options:
        if name in NOT_YOURS or name in refused or (name in ours and name != "client.id"):
            raise ConfigError(
                f"{name} cannot be set here: this program sets it itself, or its promise rests on it",
                path=("options", name),
            )
    return {**ours, **options}


def shared_properties(properties: Properties) -> Properties:
    """Those of a consumer's or producer's properties that an admin client knows as well."""
    prefixes = ("bootstrap.", "client.id", "security.", "ssl.", "enable.ssl.", "sasl.", "socket.", "broker.", "https.")
    return {name: value for name, value in properties.items() if name.startswith(prefixes)}


QUIET_S = 30.0
"""How often a client may log about one of its connections."""


def quiet_logger(name: str) -> logging.Logger:
    """A logger for librdkafka, which otherwise says the same of a broker that is down several times a second."""
    logger = logging.getLogger(name)
    if not logger.filters:
        logged: dict[str, float] = {}
        clock = SystemClock()

        def seldom(record: logging.LogRecord) -> bool:
            about = record.getMessage()[:60]
            now = clock.monotonic()
            if now < logged.get(about, now):
                return False
            if len(logged) > 1000:
                logged.clear()
            logged[about] = now + QUIET_S
            return True

        logger.addFilter(seldom)
    return logger
