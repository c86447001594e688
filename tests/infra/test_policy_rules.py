"""Each rule of ours refuses what it is for and accepts the neighbour that is right."""

from __future__ import annotations

from typing import Any

import pytest

from infra.policy.cost import cost_cap, price_table
from infra.policy.rules import RULES
from infra.settings import load

BY_ID = {rule.id: rule for rule in RULES}
NO_VALUE = {"Ref": "AWS::NoValue"}


def template(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Resources": {"It": {"Type": kind, "Properties": properties}}}


def config(machine: str, **properties: Any) -> dict[str, Any]:
    variant = {"VariantName": "champion", "InstanceType": machine, "InitialInstanceCount": 1}
    return template("AWS::SageMaker::EndpointConfig", ProductionVariants=[variant], **properties)


def endpoint(traffic: str, **more: Any) -> dict[str, Any]:
    policy = {"TrafficRoutingConfiguration": {"Type": traffic}}
    guarded = {"BlueGreenUpdatePolicy": policy, **more}
    return template(
        "AWS::SageMaker::Endpoint", DeploymentConfig={"Fn::If": ["UseGuardrails", guarded, NO_VALUE]}
    )


def policy(action: str | list[str], effect: str = "Allow") -> dict[str, Any]:
    statement = {"Effect": effect, "Action": action, "Resource": "arn:aws:s3:::one/*"}
    return template("AWS::IAM::Policy", PolicyDocument={"Statement": [statement]})


def function(*values: Any) -> dict[str, Any]:
    variables = {f"V{number}": value for number, value in enumerate(values)}
    return template("AWS::Lambda::Function", Environment={"Variables": variables})


ALARMS = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}
CAPTURE = {"EnableCapture": True, "InitialSamplingPercentage": 100}
MANAGED = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
INLINE = {"PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}}

REFUSED = [
    ("endpoint-volume-key", config("ml.c7i.2xlarge")),
    ("endpoint-volume-key", config("ml.inf2.xlarge")),
    ("endpoint-volume-key", config("ml.g6e.xlarge", KmsKeyId="key")),
    ("rollback-alarms", endpoint("CANARY")),
    ("rollback-alarms", endpoint("LINEAR", AutoRollbackConfiguration={"Alarms": []})),
    ("rollback-alarms", template("AWS::SageMaker::Endpoint", DeploymentConfig={"RollingUpdatePolicy": {}})),
    ("no-endpoint-capture", config("ml.g6e.xlarge", DataCaptureConfig=CAPTURE)),
    ("no-endpoint-capture", config("ml.g6e.xlarge", DataCaptureConfig={"Fn::If": ["C", CAPTURE, NO_VALUE]})),
    ("no-full-access", policy("sagemaker:*")),
    ("no-full-access", policy(["s3:GetObject", "*"])),
    ("no-full-access", template("AWS::IAM::Role", ManagedPolicyArns=[MANAGED])),
    ("no-full-access", template("AWS::IAM::Role", Policies=[INLINE])),
    ("no-physical-model-names", template("AWS::SageMaker::Model", ModelName="mine")),
    ("no-physical-model-names", config("ml.g6e.xlarge", EndpointConfigName="mine")),
    ("function-variables", function("x" * 4096)),
    ("function-variables", function("x" * 2000, {"Fn::Join": ["", ["y" * 2100, {"Ref": "Table"}]]})),
]

ACCEPTED = [
    ("endpoint-volume-key", config("ml.c7i.2xlarge", KmsKeyId="key")),
    ("endpoint-volume-key", config("ml.g6e.xlarge")),
    ("rollback-alarms", endpoint("CANARY", **ALARMS)),
    ("rollback-alarms", endpoint("ALL_AT_ONCE")),
    ("no-endpoint-capture", config("ml.g6e.xlarge", DataCaptureConfig={"EnableCapture": False})),
    ("no-endpoint-capture", config("ml.g6e.xlarge")),
    ("no-full-access", policy("sagemaker:InvokeEndpoint")),
    ("no-full-access", policy("s3:*", effect="Deny")),
    ("no-full-access", template("AWS::IAM::Role", ManagedPolicyArns=["arn:aws:iam::aws:policy/ReadOnly"])),
    ("no-physical-model-names", template("AWS::SageMaker::Model", Tags=[])),
    ("no-physical-model-names", template("AWS::SageMaker::Endpoint", EndpointName="evergreen-prod")),
    ("function-variables", function("x" * 2000, {"Fn::Join": ["", ["y" * 1000, {"Ref": "Table"}]]})),
]


@pytest.mark.parametrize(("rule", "given"), REFUSED)
def test_refused(rule, given):
    (finding,) = BY_ID[rule].check(given)

    assert finding.logical_id == "It"
    assert finding.why


@pytest.mark.parametrize(("rule", "given"), ACCEPTED)
def test_accepted(rule, given):
    assert list(BY_ID[rule].check(given)) == []


def test_every_rule_has_both_cases():
    assert {rule for rule, _ in REFUSED} == {rule for rule, _ in ACCEPTED} == set(BY_ID)


def capped(cap: float, **more: Any) -> Any:
    settings = load("prod")
    environment = settings.environment.model_copy(update={"monthly_cost_cap_usd": cap, **more})
    return cost_cap(settings.model_copy(update={"environment": environment}))


def fleet(machine: str = "ml.g6e.xlarge") -> dict[str, Any]:
    champion = {"VariantName": "champion", "InstanceType": machine, "InitialInstanceCount": 2}
    challenger = champion | {"VariantName": "challenger"}
    return template(
        "AWS::SageMaker::EndpointConfig",
        ProductionVariants=[champion, {"Fn::If": ["AbTest", challenger, NO_VALUE]}],
        ShadowProductionVariants={"Fn::If": ["Shadow", [challenger], NO_VALUE]},
    )


def test_cost_counts_the_champion_at_its_maximum_and_one_challenger():
    # 4 machines at most and 2 of the challenger, at 2.605 USD for 730 hours: 11,410 USD. 16 updates a month
    # may take 7,800 s each, with as many machines beside them: 542 USD.
    (finding,) = capped(11_951.0).check(fleet())

    assert "11,952 USD" in finding.why
    assert list(capped(11_953.0).check(fleet())) == []


def test_a_type_without_a_price_is_refused_until_the_settings_name_one():
    (finding,) = capped(20_000.0).check(fleet("ml.p6-b200.48xlarge"))
    priced = capped(20_000.0, prices_usd_per_hour={"ml.p6-b200.48xlarge": 1.0})

    assert "no price is known for ml.p6-b200.48xlarge" in finding.why
    assert list(priced.check(fleet("ml.p6-b200.48xlarge"))) == []


def test_the_price_table_knows_the_types_of_the_shipped_settings():
    for env in ("local", "dev", "staging", "prod"):
        assert load(env).endpoint.instances.type in price_table().usd_per_hour
