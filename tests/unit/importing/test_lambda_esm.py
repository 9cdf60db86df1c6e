"""A Lambda event source mapping becomes a pipeline that the loader takes, with each setting's meaning kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader

from connector import cli, plugins
from connector.assemble import make_route
from connector.clock import SystemClock
from connector.config.load import load_text
from connector.config.models import PipelineConfig
from connector.config.secrets import fill
from connector.config.yaml import parse
from connector.errors import ConfigError
from connector.importing.lambda_esm import configuration, read_mappings
from tests.readme import README

STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/Orders/stream/2026-01-31T12:00:00.000"
KINESIS = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders.changes"
MSK = "arn:aws:kafka:eu-central-1:123456789012:cluster/shop/9a1b2c3d-0000-0000-0000-000000000000-1"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:failed"
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:IndexOrders:live"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:kafka-AbCdEf"
ENV = {
    "KAFKA_BROKERS": "b-1.shop:9096",
    "KAFKA_USERNAME": "millrace",
    "KAFKA_PASSWORD": "secret",
    "KAFKA_CA_FILE": "/etc/ca.pem",
    "KAFKA_CERT_FILE": "/etc/cert.pem",
    "KAFKA_KEY_FILE": "/etc/key.pem",
}
PRINTED = {
    "UUID": "14e0db71-5d35-4eb5-b481-8945cf9d10c2",
    "StartingPosition": "TRIM_HORIZON",
    "BatchSize": 500,
    "MaximumBatchingWindowInSeconds": 5,
    "ParallelizationFactor": 10,
    "EventSourceArn": STREAM,
    "FunctionArn": FUNCTION,
    "LastModified": "2026-02-01T10:00:00+01:00",
    "LastProcessingResult": "OK",
    "State": "Enabled",
    "StateTransitionReason": "User action",
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-central-1:123456789012:orders-failed"}},
    "MaximumRecordAgeInSeconds": 3600,
    "BisectBatchOnFunctionError": True,
    "MaximumRetryAttempts": 20,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "FilterCriteria": {
        "Filters": [{"Pattern": '{"dynamodb": {"NewImage": {"total": {"N": [{"numeric": [">", 100.50]}]}}}}'}]
    },
    "EventSourceMappingArn": "arn:aws:lambda:eu-central-1:123456789012:event-source-mapping:14e0db71",
}
"""As ``aws lambda get-event-source-mapping`` prints one."""


def text_of(**changed: Any) -> str:
    document = {name: value for name, value in {**PRINTED, **changed}.items() if value is not None}
    return configuration(read_mappings(json.dumps(document).encode()))


def pipeline_of(**changed: Any) -> PipelineConfig:
    config = load_text(text_of(**changed).encode(), file="millrace.yaml", env=ENV)
    (pipeline,) = config.pipelines.values()
    return pipeline


def comments_of(**changed: Any) -> str:
    lines = [line.strip() for line in text_of(**changed).splitlines()]
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))


def when_in(written: str) -> Any:
    """A route's ``when`` as the loader reads it, before it is compiled."""
    document = parse(written.encode(), "m.yaml")
    fill(document, {}, Path())
    assert not document.errors
    (pipeline,) = document.value["pipelines"].values()
    (route,) = pipeline["routes"].values()
    return route["when"]


def test_every_setting_of_a_stream_s_mapping_is_kept() -> None:
    pipeline = pipeline_of()
    assert (pipeline.source.type, pipeline.source.format) == ("dynamodb_streams", "dynamodb")
    options = pipeline.source.options.model_dump()
    assert (options["stream_arn"], options["start"]) == (STREAM, "earliest")
    route = pipeline.routes["indexorders"]
    assert (route.batch.size, route.batch.window, route.lanes) == (500, 5.0, 10)
    assert (route.retry.attempts, route.retry.max_age) == (20, 3600.0)
    assert route.when is not None
    assert (pipeline.dead_letter.type, pipeline.dead_letter.options.model_dump()["queue"]) == (
        "sqs",
        "arn:aws:sqs:eu-central-1:123456789012:orders-failed",
    )
    said = comments_of()
    for setting in ("BisectBatchOnFunctionError is always so", "ReportBatchItemFailures", "FilterCriteria"):
        assert setting in said
    assert "IndexOrders did: a sink does it here" in said


def test_lambda_s_defaults_retry_without_end_as_lambda_does() -> None:
    pipeline = pipeline_of(MaximumRetryAttempts=-1, MaximumRecordAgeInSeconds=-1)
    (route,) = pipeline.routes.values()
    assert (route.retry.attempts, route.retry.max_age) == ("unlimited", None)
    policy = make_route("orders", "search", route, SystemClock()).policy
    assert (policy.retry_attempts, policy.max_age_s) == (None, None)


def test_a_mapping_with_its_least_is_enough() -> None:
    document = {"EventSourceArn": STREAM, "FunctionArn": "IndexOrders", "StartingPosition": "LATEST"}
    config = load_text(configuration(read_mappings(json.dumps(document).encode())).encode(), file="m.yaml", env={})
    pipeline = config.pipelines["orders"]
    (route,) = pipeline.routes.values()
    assert (route.batch.size, route.batch.window, route.lanes, route.when) == (100, 0.0, 1, None)
    assert pipeline.dead_letter.type == "sqlite"


def test_what_differs_or_is_missing_is_said() -> None:
    said = comments_of(
        BisectBatchOnFunctionError=False,
        TumblingWindowInSeconds=60,
        StartingPosition="LATEST",
        DestinationConfig=None,
        ProvisionedPollerConfig={"MinimumPollers": 2},
    )
    assert "BisectBatchOnFunctionError was off, and is always on here" in said
    assert "TumblingWindowInSeconds: 60 has no counterpart yet" in said
    assert "is missed; with earliest nothing is" in said
    assert "Lambda would discard" in said
    assert "run as many replicas" in said


def test_several_filters_are_any_of_them_and_numbers_keep_their_digits() -> None:
    digits = "100.50"
    filters = [
        {"Pattern": '{"eventName": ["INSERT"]}'},
        {"Pattern": f'{{"dynamodb": {{"NewImage": {{"n": {{"N": [{{"numeric": ["=", {digits}]}}]}}}}}}}}'},
    ]
    assert digits in text_of(FilterCriteria={"Filters": filters})
    (route,) = pipeline_of(FilterCriteria={"Filters": filters}).routes.values()
    assert route.when is not None
    assert len(route.when) == 2


def test_an_empty_filter_is_none() -> None:
    filters = [{"Pattern": '{"eventName": ["INSERT"]}'}, {"Pattern": "{}"}]
    (route,) = pipeline_of(FilterCriteria={"Filters": filters}).routes.values()
    assert route.when is None


def test_texts_in_filters_mean_the_same_whatever_is_in_them() -> None:
    texts = ["yes", "012", "a: b # c", "${HOME}", "\U0001f600 ü", 'quote " and \\', "line\nend", "\x7f", "", "null"]
    pattern = {"dynamodb": {"NewImage": {"s": {"S": texts}}}}
    for printed in (json.dumps(pattern), json.dumps(pattern, ensure_ascii=False)):
        written = text_of(FilterCriteria={"Filters": [{"Pattern": printed}]})
        assert when_in(written) == pattern
        assert load_text(written.encode(), file="m.yaml", env={})


def test_filters_that_were_not_printed_are_asked_for() -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    said = comments_of(FilterCriteria=None, KMSKeyArn=key)
    assert "were not printed: add them here" in said
    assert pipeline_of(FilterCriteria=None, KMSKeyArn=key).routes


@pytest.mark.parametrize(
    ("destination", "type_", "options"),
    [
        (
            "arn:aws:sns:eu-central-1:123456789012:failed",
            "sns",
            {"topic": "arn:aws:sns:eu-central-1:123456789012:failed"},
        ),
        ("arn:aws:s3:::failed-orders", "s3", {"bucket": "failed-orders", "region": "eu-central-1"}),
    ],
)
def test_each_destination_has_its_counterpart(destination: str, type_: str, options: dict[str, str]) -> None:
    dead_letter = pipeline_of(DestinationConfig={"OnFailure": {"Destination": destination}}).dead_letter
    assert dead_letter.type == type_
    assert options.items() <= dead_letter.options.model_dump().items()


def test_a_kinesis_stream_keeps_its_time_and_the_filter_s_data_part() -> None:
    changed: dict[str, Any] = {
        "EventSourceArn": f"{KINESIS}/consumer/lambda:1700000000",
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": "2026-01-31T12:00:00+01:00",
        "FilterCriteria": {"Filters": [{"Pattern": '{"data": {"eventName": ["REMOVE"]}}'}]},
    }
    pipeline = pipeline_of(**changed)
    options = pipeline.source.options.model_dump()
    assert (pipeline.source.type, pipeline.source.format, options["stream"]) == ("kinesis", "kinesis-dynamodb", KINESIS)
    assert options["start"] == {"timestamp": "2026-01-31T12:00:00+01:00"}
    assert when_in(text_of(**changed)) == {"eventName": ["REMOVE"]}
    seconds = text_of(**{**changed, "StartingPositionTimestamp": 1769857200.5})
    assert "2026-01-31T11:00:00.500000+00:00" in seconds


def test_a_filter_on_what_is_no_part_of_the_change_is_refused() -> None:
    with pytest.raises(ConfigError, match="asks for more than the record's 'data'"):
        text_of(EventSourceArn=KINESIS, FilterCriteria={"Filters": [{"Pattern": '{"partitionKey": ["1"]}'}]})


def kafka(**changed: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"Topics": ["orders.changes"], "FilterCriteria": None, "DestinationConfig": None}
    return {**plain, **changed}


def test_an_msk_cluster_s_consumer_group_goes_on_where_lambda_stood() -> None:
    changed = kafka(
        EventSourceArn=MSK,
        AmazonManagedKafkaEventSourceConfig={"ConsumerGroupId": "lambda-orders"},
        SourceAccessConfigurations=[{"Type": "SASL_SCRAM_512_AUTH", "URI": SECRET}],
        FilterCriteria={"Filters": [{"Pattern": '{"value": {"eventName": ["INSERT"]}}'}]},
        DestinationConfig={"OnFailure": {"Destination": "kafka://orders.failed"}},
    )
    pipeline = pipeline_of(**changed)
    options = pipeline.source.options.model_dump()
    assert (options["group"], options["topics"], options["brokers"]) == (
        "lambda-orders",
        ["orders.changes"],
        ["b-1.shop:9096"],
    )
    assert options["tls"] is not None
    assert (options["sasl"]["mechanism"], options["sasl"]["username"]) == ("SCRAM-SHA-512", "millrace")
    assert (pipeline.dead_letter.type, pipeline.dead_letter.options.model_dump()["topic"]) == ("kafka", "orders.failed")
    said = comments_of(**changed)
    assert f"get-bootstrap-brokers --cluster-arn {MSK}" in said
    assert SECRET in said
    assert "by IAM alone" not in said
    assert "by IAM alone cannot be reached" in comments_of(**kafka(EventSourceArn=MSK))


def test_a_kafka_of_one_s_own_is_reached_as_lambda_reached_it() -> None:
    own = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka-1:9093", "kafka-2:9093"]}}
    access = [
        {"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"},
        {"Type": "SERVER_ROOT_CA_CERTIFICATE", "URI": SECRET},
        {"Type": "CLIENT_CERTIFICATE_TLS_AUTH", "URI": SECRET},
    ]
    changed = kafka(EventSourceArn=None, SelfManagedEventSource=own, SourceAccessConfigurations=access)
    options = pipeline_of(**changed).source.options.model_dump()
    assert options["brokers"] == ["kafka-1:9093", "kafka-2:9093"]
    assert options["group"] == PRINTED["UUID"]
    assert (options["tls"]["ca"], options["tls"]["cert"], options["tls"]["key"]) == (
        "/etc/ca.pem",
        "/etc/cert.pem",
        "/etc/key.pem",
    )
    plain = pipeline_of(**kafka(EventSourceArn=None, SelfManagedEventSource=own)).source.options.model_dump()
    assert plain["tls"] is None
    assert plain["sasl"] is None


def test_the_readme_names_every_setting_that_a_mapping_has() -> None:
    model = Loader().load_service_model("lambda", "service-2")
    settings = set(model["shapes"]["EventSourceMappingConfiguration"]["members"])
    about_itself = {"UUID", "State", "StateTransitionReason", "LastModified", "LastProcessingResult", "FunctionArn"}
    about_itself |= {"EventSourceMappingArn", "FilterCriteriaError"}
    chapter = README.read_text().split("## Moving over", 1)[1].split("\n## ", 1)[0]
    assert {name for name in settings - about_itself if f"`{name}`" not in chapter} == set()


def test_several_mappings_become_several_pipelines() -> None:
    listed = {"EventSourceMappings": [PRINTED, PRINTED, {**PRINTED, "EventSourceArn": KINESIS, "FilterCriteria": {}}]}
    config = load_text(configuration(read_mappings(json.dumps(listed).encode())).encode(), file="m.yaml", env={})
    assert list(config.pipelines) == ["orders", "orders-2", "orders-changes"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"EventSourceArn": "arn:aws:sqs:eu-central-1:123456789012:jobs"}, "a mapping of sqs has no counterpart"),
        ({"EventSourceArn": None}, "names no event source"),
        ({"StartingPosition": "SOMEWHERE"}, "'SOMEWHERE' is none that Lambda has"),
        ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": "noon"}, "'noon' is no time"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "pattern is no JSON"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "[]"}]}}, "no JSON object"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:lambda:x:1:function:y"}}}, "no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        text_of(**changed)


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b'{"BatchSize": "many"}', b'{"EventSourceMappings": 1}', b"\xff"])
def test_what_is_no_mapping_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="not the JSON of an event source mapping"):
        read_mappings(text)
    with pytest.raises(ConfigError, match="there are no event source mappings"):
        read_mappings(b'{"EventSourceMappings": []}')


def test_a_source_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "sources", dict)
    with pytest.raises(ConfigError, match="'dynamodb_streams', which this mapping needs, is not installed"):
        text_of()


def test_the_command_prints_what_validate_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["millrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    (tmp_path / "mapping.json").write_text(json.dumps(PRINTED))
    assert run("import", "lambda-esm", str(tmp_path / "mapping.json")) == 0
    (tmp_path / "millrace.yaml").write_text(capsys.readouterr().out)
    assert run("validate", str(tmp_path / "millrace.yaml")) == 0
    assert run("import", "lambda-esm", str(tmp_path / "missing.json")) == 2
    assert "cannot be read" in capsys.readouterr().err
