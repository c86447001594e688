"""The monitoring stack: no dead widget, thresholds from the goals, one page for all causes, a runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import metrics
from contracts.access import Principal
from contracts.cached_answer import CachedAnswer
from contracts.catalogue import ModelEntry
from contracts.completions import CompletionRequest
from contracts.targets import EndpointTarget
from infra.settings import Settings, load
from lambdas.api.service import ApiService
from lambdas.job_worker.metrics import CountEnds
from lambdas.pipeline.async_offload import AsyncOffload
from lambdas.pipeline.cache import CacheLookup, KeepAnswer
from lambdas.pipeline.job_submission import Submissions
from lambdas.pipeline.operations import TEXT_COMPLETION
from lambdas.pipeline.post_response import PublishMetrics
from lambdas.pipeline.request import IncomingRequest, Request, Response, Route
from lambdas.release.analysis_tasks import AnalysisService
from lambdas.release.errors import RolledBackError
from lambdas.release.serving_check import count_rollbacks
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from tests.support.synthesis import EXAMPLES, SHIPPED

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("local", "dev", "prod", "catalogue")
FURTHER = {"local": {"all-minilm-l6-v2"}, "catalogue": {"all-minilm-l6-v2", "reranker-v2"}}
HOSTED = {"gpt-oss-20b", "openai/gpt-4o-mini"}
ALARM, COMPOSITE = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"
SEARCH = re.compile(r"SEARCH\('\{([^}]+)\} MetricName=\"([^\"]+)\" endpoint=\"([^\"]+)\"', '(\w+)', (\d+)\)")
# Of the services, as their guides list them; the laptop's SageMaker and API publish under the same names.
STATES = {"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut"}
STATES |= {"ExecutionsAborted", "ExecutionTime"}
GATEWAY = {"Count", "4XXError", "5XXError", "Latency", "IntegrationLatency"}


def flat(value: Any) -> str:
    """A joined string with references as `<LogicalId>`."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(flat(part) for part in value["Fn::Join"][1])
    return f"<{value['Fn::GetAtt'][0] if 'Fn::GetAtt' in value else value['Ref']}>"


@pytest.fixture(scope="session")
def widgets(resources):
    """`widgets(env)` are the dashboard's widgets."""

    def of(env: str) -> list[dict[str, Any]]:
        (dashboard,) = resources(env, "monitoring", "AWS::CloudWatch::Dashboard").values()
        assert dashboard["Properties"]["DashboardName"] == f"evergreen-{env}"
        return json.loads(flat(dashboard["Properties"]["DashboardBody"]))["widgets"]

    return of


def lines(widget: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of each line; a search gives its dimensions' names alone."""
    for line in widget["properties"].get("metrics", []):
        if isinstance(line[0], dict):
            schema, name, endpoint, _, _ = SEARCH.fullmatch(line[0]["expression"]).groups()
            namespace, *names = schema.split(",")
            yield namespace, name, dict.fromkeys(names, "*") | {"endpoint": endpoint}
        else:
            names = [part for part in line if isinstance(part, str)]
            yield names[0], names[1], dict(zip(names[2::2], names[3::2], strict=True))


def settings_of(env: str) -> Settings:
    """The settings of one of `ENVIRONMENTS`."""
    return load(env, EXAMPLES if (EXAMPLES / f"{env}.yaml").exists() else SHIPPED)


def endpoints_of(env: str) -> set[str]:
    """The environment's endpoints: its own, and those of further models."""
    return {f"evergreen-{env}", *(f"evergreen-{env}-serving-{name}" for name in FURTHER.get(env, ()))}


def check_published(env: str, namespace: str, name: str, dimensions: dict[str, str]) -> None:
    if namespace == metrics.NAMESPACE:
        assert tuple(dimensions) in metrics.PUBLISHED[name]
        assert dimensions[metrics.DIM_ENDPOINT] in endpoints_of(env) | HOSTED
    elif namespace == metrics.SAGEMAKER_NAMESPACE:
        assert tuple(dimensions) == metrics.SAGEMAKER_DIMENSIONS
        assert dimensions["EndpointName"] in endpoints_of(env)
        assert f'"{name}"' in sagemaker_source()
    elif namespace == metrics.API_NAMESPACE:
        assert dimensions == {metrics.API_DIMENSION: f"evergreen-{env}"}
        assert name in GATEWAY
    elif namespace == metrics.QUEUE_NAMESPACE:
        assert dimensions == {metrics.QUEUE_DIMENSION: f"evergreen-{env}-jobs-dead"}
        assert f'"{name}"' in (ROOT / "local/cloud/sqs_metrics.py").read_text()
    else:
        assert namespace == metrics.STATES_NAMESPACE
        assert dimensions[metrics.STATES_DIMENSION].endswith(f":stateMachine:evergreen-{env}-refresh")
        assert name in STATES


def sagemaker_source() -> str:
    """The laptop's SageMaker, whose metric names are held to the service's by its own tests."""
    return "".join(path.read_text() for path in (ROOT / "local/sagemaker").rglob("*.py"))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_widget_draws_something_that_is_published(widgets, env):
    drawn = 0
    for widget in widgets(env):
        if widget["type"] != "metric":
            continue
        found = list(lines(widget))
        assert found, widget["properties"].get("title")
        for namespace, name, dimensions in found:
            check_published(env, namespace, name, dimensions)
            drawn += 1
    assert drawn > 25


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_alarm_watches_something_that_is_published(resources, env):
    for alarm in resources(env, "monitoring", ALARM).values():
        properties = alarm["Properties"]
        several = properties.get("Metrics", [{"MetricStat": {"Metric": properties}}])
        watched = [entry["MetricStat"]["Metric"] for entry in several if "MetricStat" in entry]
        assert watched
        for metric in watched:
            dimensions = {entry["Name"]: flat(entry["Value"]) for entry in metric["Dimensions"]}
            check_published(env, metric["Namespace"], metric["MetricName"], dimensions)


def emitted(output: str) -> set[tuple[str, tuple[str, ...]]]:
    """Name and dimension set of every metric in lines of CloudWatch's embedded format."""
    directives = [
        directive
        for line in output.splitlines()
        for directive in json.loads(line).get("_aws", {}).get("CloudWatchMetrics", [])
    ]
    assert {directive["Namespace"] for directive in directives} == {metrics.NAMESPACE}
    return {
        (metric["Name"], tuple(names))
        for directive in directives
        for metric in directive["Metrics"]
        for names in directive["Dimensions"]
    }


def a_response(error: ApiError | None) -> Response:
    """What the metrics of one answered, or failed, request are made from."""
    response = Response(variant="champion", model_version="1", error=error, finish_reason="stop")
    response.prompt_tokens, response.completion_tokens = 5, 6
    response.first_token_at, response.last_token_at = response.started + 1, response.started + 2
    response.guards.times.add("pii", 1.0)
    return response


def a_request(**headers: str) -> Request:
    """A text completion of the key `k`."""
    body = CompletionRequest.model_validate({"model": "m", "prompt": "Hi"})
    context = {"tenant": "shop", "key_id": "k", "scopes": "inference"}
    incoming = IncomingRequest("r", b"{}", context, headers, None, 0.0)
    entry = ModelEntry(name="m", target=EndpointTarget(endpoint_name="e", model_version="1"))
    return Request(incoming, TEXT_COMPLETION, entry, body, body, Principal.from_context(context), context)


def publish_work() -> None:
    """Kept answers that were found and not found, a request handed over, a job that is over."""
    logger = Logger("inference", "ERROR")
    kept = CachedAnswer(made_at=0, tenant="shop", model_version="1", pieces=[], finish_reason="stop")
    for hit in (kept, None):
        lookup = CacheLookup("d", 60, None, hit)
        KeepAnswer(None, "evergreen-local", logger)(lookup, a_request(), a_response(None))
    submissions = Submissions(None, None, None, open_per_key=1, deadline=1, retention=1)
    key = {"tenant": "shop", "key_id": "k"}
    task = submissions._task(key, pk="WORK#1", id="job_1", kind="job", url="/v1/completions", lines=1)
    CountEnds("evergreen-local")(task)
    offload = AsyncOffload(SimpleNamespace(job=lambda *_: task), "evergreen-local", logger)
    busy = ApiError("overloaded_error", "full")
    assert offload(a_request(prefer="respond-async"), Route(), busy, a_response(None))


def test_the_catalogue_is_what_the_functions_publish(capsys):
    """Requests, errors, guards, feedback and verdicts as they are emitted; the counts of lost things, which
    take a broken table to emit, by their place in the source."""
    publish = PublishMetrics("evergreen-local", "1", Logger("inference", "ERROR"))
    for response in (a_response(None), a_response(ApiError("server_error", "failed"))):
        publish("r", response)
    feedback = SimpleNamespace(variant="champion", model_version="1", score=1.0, thumbs=None, request_id="r")
    ApiService._count(SimpleNamespace(_settings=SimpleNamespace(endpoint_name="evergreen-local")), feedback)
    publish_work()
    service = SimpleNamespace(_endpoint_name="evergreen-local")
    AnalysisService._publish(service, "1", SimpleNamespace(verdict="promote"))
    with pytest.raises(RolledBackError), count_rollbacks("evergreen-local"):
        raise RolledBackError

    found = emitted(capsys.readouterr().out)

    catalogue = {(name, names) for name, sets in metrics.PUBLISHED.items() for names in sets}
    lost = {
        (name, (metrics.DIM_ENDPOINT,))
        for name in (metrics.RECORDS_LOST, metrics.SPANS_LOST, metrics.BUDGET_UNCHECKED)
    }
    assert found == catalogue - lost
    source = "".join(path.read_text() for path in (ROOT / "lambdas/pipeline").rglob("*.py"))
    for name, count in {"RECORDS_LOST": 1, "SPANS_LOST": "lost", "BUDGET_UNCHECKED": 1}.items():
        assert f'line.add({{metrics.{name}: ({count}, "Count")}}, [[metrics.DIM_ENDPOINT]])' in source


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_thresholds_are_the_goals(resources, env):
    goals = settings_of(env).goals
    alarms = {
        alarm["Properties"]["AlarmName"].removeprefix(f"evergreen-{env}-"): alarm["Properties"]
        for alarm in resources(env, "monitoring", ALARM).values()
    }

    assert set(alarms) == {
        "availability",
        "time-to-first-token",
        "endpoint5xx",
        "refresh-failed",
        "update-rolled-back",
        "jobs-dlq-not-empty",
        *(f"model5xx-{name}" for name in FURTHER.get(env, ())),
    }
    assert alarms["availability"]["Threshold"] == pytest.approx(1 - goals.availability)
    assert alarms["endpoint5xx"]["Threshold"] == pytest.approx(1 - goals.availability)
    assert alarms["time-to-first-token"]["Threshold"] == goals.ttft_ms
    assert alarms["refresh-failed"]["Threshold"] == alarms["jobs-dlq-not-empty"]["Threshold"] == 0


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_silence_is_no_fault_and_few_requests_prove_nothing(resources, env):
    spec = settings_of(env).monitoring
    for alarm in resources(env, "monitoring", ALARM).values():
        properties = alarm["Properties"]
        assert properties["TreatMissingData"] == "notBreaching"
        assert properties["ComparisonOperator"] == "GreaterThanThreshold"
        if properties["AlarmName"].endswith(("refresh-failed", "update-rolled-back", "jobs-dlq-not-empty")):
            assert (properties["DatapointsToAlarm"], properties["EvaluationPeriods"]) == (1, 1)
        else:
            (asked,) = [entry for entry in properties["Metrics"] if entry.get("ReturnData", True)]
            assert re.match(rf"IF\((requests|invocations) >= {spec.minimum_requests},", asked["Expression"])
            assert properties["DatapointsToAlarm"] == spec.datapoints_to_alarm


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_one_composite_pages_for_all_that_callers_feel(resources, env):
    (page,) = resources(env, "monitoring", COMPOSITE).values()
    rule = flat(page["Properties"]["AlarmRule"])

    assert rule.count("ALARM(") == 3 + len(FURTHER.get(env, ()))
    assert all(name in rule for name in ("Availability", "TimeToFirstToken", "Endpoint5xx"))
    assert [entry["Ref"][:10] for entry in page["Properties"]["AlarmActions"]] == ["AlarmTopic"]
    for alarm in resources(env, "monitoring", ALARM).values():
        # What no caller feels at once is told by itself.
        own = alarm["Properties"]["AlarmName"].endswith(("jobs-dlq-not-empty", "update-rolled-back"))
        assert ("AlarmActions" in alarm["Properties"]) is own


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_alarm_on_given_up_tickets_watches_the_queue_that_gets_them(resources, env):
    alarms = [alarm["Properties"] for alarm in resources(env, "monitoring", ALARM).values()]
    (dead,) = [alarm for alarm in alarms if alarm["AlarmName"].endswith("jobs-dlq-not-empty")]
    queues = [queue["Properties"] for queue in resources(env, "gateway", "AWS::SQS::Queue").values()]
    (redrive,) = [queue["RedrivePolicy"] for queue in queues if "RedrivePolicy" in queue]
    (target,) = [
        name
        for name in resources(env, "gateway", "AWS::SQS::Queue")
        if redrive["deadLetterTargetArn"]["Fn::GetAtt"][0] == name
    ]

    watched = resources(env, "gateway", "AWS::SQS::Queue")[target]["Properties"]["QueueName"]
    assert (dead["Namespace"], dead["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": watched}]


@pytest.mark.parametrize("kind", [ALARM, COMPOSITE])
def test_every_alarm_names_a_section_of_the_runbook_that_exists(resources, kind):
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}

    for alarm in resources("catalogue", "monitoring", kind).values():
        page, anchor = re.search(r"Runbook: (\S+)#(\S+)$", alarm["Properties"]["AlarmDescription"]).groups()
        assert (page, anchor in anchors) == ("docs/monitoring.md", True), anchor


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_topic_is_encrypted_and_open_to_two_services_of_this_account(resources, env):
    (topic,) = resources(env, "monitoring", "AWS::SNS::Topic").values()
    (policy,) = resources(env, "monitoring", "AWS::SNS::TopicPolicy").values()

    assert "AlarmTopicKey" in json.dumps(topic["Properties"]["KmsMasterKeyId"])
    opened = {
        statement["Principal"]["Service"]: statement["Condition"]["StringEquals"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    }
    account = settings_of(env).environment.account
    assert opened == {
        "cloudwatch.amazonaws.com": {"aws:SourceAccount": account},
        "events.amazonaws.com": {"aws:SourceAccount": account},
    }


def test_eventbridge_may_use_the_topics_key_without_naming_an_account(resources):
    """It names none to KMS: a condition would drop its messages without a word."""
    (key,) = resources("prod", "monitoring", "AWS::KMS::Key").values()
    conditions = {
        statement["Principal"]["Service"]: "Condition" in statement
        for statement in key["Properties"]["KeyPolicy"]["Statement"]
        if "Service" in statement["Principal"]
    }

    assert conditions == {"cloudwatch.amazonaws.com": True, "events.amazonaws.com": False}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_outputs_are_the_agreed_ones(template_json, env):
    own = {name for name in template_json(env, "monitoring")["Outputs"] if not name.startswith("Exports")}

    assert own == {"DashboardName", "AlarmTopicArn"}
