"""The execution role of a serving stack can make what the stack holds, of every kind, and nothing besides.

What CloudFormation calls for a resource stands in the resource type's schema (`handlers`), and cfn-lint ships
those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from contracts import bootstrap
from tests.support.iam_evaluator import ACCOUNT, Question, answers

TEMPLATE = Path(__file__).parents[2] / "infra" / "bootstrap" / "execution_role.yaml"
REGION = "us-east-1"
KINDS = ("local", "prod", "pools", "async", "serverless", "scale-to-zero", "two-regions")
CALLED = ("create", "read", "update", "delete")
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0f1e2d3c"
UNUSED = {
    "lambda:*": "a scalable target of functions",
    "vpc-lattice:*": "an endpoint into a service network",
    "vpce:*": "an endpoint of another region's service",
    "ec2:CreateVpcEncryptionControl": "no network of ours asks for it",
    "ec2:ModifyVpcTenancy": "no network of ours asks for it",
    "autoscaling:*": "flow logs of a group of machines",
    "s3:*": "flow logs into a bucket",
    "firehose:*": "log groups into a delivery stream",
    "logs:PutBearerTokenAuthentication": "no group of ours takes lines by HTTP",
    "logs:PutResourcePolicy": "no group of ours has a policy",
    "logs:DeleteResourcePolicy": "no group of ours has a policy",
    "iam:*GroupPolicy": "policies of ours belong to roles",
    "iam:*UserPolicy": "policies of ours belong to roles",
    "iam:DeleteRolePermissionsBoundary": "no role of ours loses its boundary",
}
"""Of the schemas' permissions those for properties that no template of ours sets, and why."""
_PASSED = {
    "AWS::SageMaker::Model": "sagemaker.amazonaws.com",
    "AWS::SageMaker::EndpointConfig": "sagemaker.amazonaws.com",
    "AWS::EC2::FlowLog": "vpc-flow-logs.amazonaws.com",
}
_LINKED = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "sagemaker.application-autoscaling.amazonaws.com",
    "AWS::EC2::FlowLog": "delivery.logs.amazonaws.com",
}
_BOUNDED = (
    "CreateRole", "PutRolePolicy", "DeleteRolePolicy", "AttachRolePolicy", "DetachRolePolicy",
    "PutRolePermissionsBoundary",
)  # fmt: skip


@cache
def template() -> dict[str, Any]:
    return dict(yaml.safe_load(TEMPLATE.read_text()))


def parameters(stack: str) -> dict[str, str]:
    """What `bootstrap` fills in, and CloudFormation."""
    return {
        "Stack": stack,
        "Endpoint": stack.rpartition("-")[0],
        "RoleName": bootstrap.execution_role(stack, REGION),
        "BoundaryName": bootstrap.permissions_boundary(stack, REGION),
        "Qualifier": "hnb659fds",
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::AccountId": ACCOUNT,
    }


def filled(value: Any, names: dict[str, str]) -> Any:
    """A value of the bootstrap template with its parameters in place."""
    if isinstance(value, dict):
        if "Fn::Sub" in value:
            return re.sub(r"\$\{([^}]+)\}", lambda name: names[name[1]], value["Fn::Sub"])
        if "Ref" in value:
            return names[value["Ref"]]
        return {key: filled(inner, names) for key, inner in value.items()}
    return [filled(inner, names) for inner in value] if isinstance(value, list) else value


def role_policies(stack: str) -> list[dict[str, Any]]:
    found = template()["Resources"]["CloudFormationRole"]["Properties"]["Policies"]
    return [filled(policy["PolicyDocument"], parameters(stack)) for policy in found]


def boundary(stack: str) -> dict[str, Any]:
    found = template()["Resources"]["Boundary"]["Properties"]["PolicyDocument"]
    return dict(filled(found, parameters(stack)))


def boundary_arn(stack: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:policy/{bootstrap.permissions_boundary(stack, REGION)}"


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def role_arn(stack: str, name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role{bootstrap.role_path(stack)}{name}"


def permissions(kind: str) -> set[str]:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return {
        action
        for verb, handler in schema["handlers"].items()
        if verb in CALLED
        for action in handler["permissions"]
    }


def is_unused(kind: str, action: str) -> bool:
    if action == "iam:PassRole":
        return kind not in _PASSED
    if kind == "AWS::SNS::Topic" or kind == "AWS::SNS::Subscription":
        return action.startswith("iam:")  # roles for delivery reports and streams
    return any(re.fullmatch(pattern.replace("*", ".*"), action) for pattern in UNUSED)


def places(kind: str, logical_id: str, properties: dict[str, Any], stack: str) -> list[str]:
    """ARNs that a resource may have: where CloudFormation draws a name, it begins with the stack's or the
    resource's own."""
    endpoint = stack.rpartition("-")[0]
    drawn = [f"{stack}-{logical_id}-AbCd1234", f"{logical_id}-AbCd1234"]
    drawn += [name.lower() for name in drawn]
    match kind:
        case "AWS::SageMaker::Model":
            return [arn("sagemaker", f"model/{name}") for name in drawn]
        case "AWS::SageMaker::EndpointConfig":
            return [arn("sagemaker", f"endpoint-config/{name}") for name in drawn]
        case "AWS::SageMaker::Endpoint":
            return [arn("sagemaker", f"endpoint/{properties['EndpointName']}")]
        case "AWS::SageMaker::InferenceComponent":
            return [arn("sagemaker", f"inference-component/{properties['InferenceComponentName']}")]
        case "AWS::IAM::Role" | "AWS::IAM::Policy":
            return [role_arn(stack, drawn[0])]
        case "AWS::Logs::LogGroup":
            return [arn("logs", f"log-group:{properties.get('LogGroupName', drawn[0])}")]
        case "AWS::CloudWatch::Alarm":
            return [arn("cloudwatch", f"alarm:{properties.get('AlarmName', drawn[0])}")]
        case "AWS::SSM::Parameter":
            return [arn("ssm", f"parameter{properties['Name']}")]
        case "AWS::SNS::Topic" | "AWS::SNS::TopicPolicy" | "AWS::SNS::Subscription":
            return [arn("sns", drawn[0])]
        case "AWS::ApplicationAutoScaling::ScalableTarget" | "AWS::ApplicationAutoScaling::ScalingPolicy":
            return [arn("application-autoscaling", "scalable-target/0a1b")]
        case "AWS::KMS::Key":
            return [KEY]
        case _ if kind.startswith("AWS::EC2::"):
            made = {"RouteTable": "route-table", "SecurityGroup": "security-group", "VPC": "vpc"}
            made |= {"SecurityGroupIngress": "security-group", "VPCEndpoint": "vpc-endpoint"}
            made |= {"SubnetRouteTableAssociation": "route-table", "FlowLog": "vpc-flow-log"}
            return [arn("ec2", f"{made.get(kind.split('::')[2], 'subnet')}/x-1")]
    raise AssertionError(f"{kind}: say what ARNs it has, and let the execution role make it ({endpoint})")


_ALL = re.compile(
    r"[a-z-]+:(List(?!TagsFor|Tags$|Attached|RolePol|ResourceTags|SubscriptionsByTopic)|Describe).*"
)
_DESCRIBED = ("sagemaker:Describe", "kms:Describe")
_TARGET_ALARMS = "alarm:TargetTracking-endpoint/{endpoint}/variant/champion-AlarmHigh-1"


def question(kind: str, action: str, place: str, stack: str) -> Question:
    """The question that CloudFormation's call amounts to."""
    if action == "iam:PassRole":
        return Question(action, role_arn(stack, "r"), {"iam:PassedToService": _PASSED[kind]})
    if action == "iam:CreateServiceLinkedRole":
        linked = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/x/AWSServiceRoleForX"
        return Question(action, linked, {"iam:AWSServiceName": _LINKED[kind]})
    if action.removeprefix("iam:") in _BOUNDED:
        return Question(action, place, {"iam:PermissionsBoundary": boundary_arn(stack)})
    if action in ("kms:CreateKey", "kms:TagResource"):
        return Question(action, "*", {"aws:RequestTag/evergreen:stack": stack})
    if action.startswith("kms:") and action not in ("kms:DescribeKey", "kms:ListKeys"):
        return Question(action, KEY, {"aws:ResourceTag/evergreen:stack": stack})
    if action == "kms:DescribeKey":
        return Question(action, KEY)
    if _ALL.fullmatch(action) and not action.startswith(_DESCRIBED):
        return Question(action, "*")
    if action in ("cloudwatch:GetMetricData", "logs:CreateLogDelivery", "logs:DeleteLogDelivery"):
        return Question(action, "*")
    if action.startswith("cloudwatch:") and kind.startswith("AWS::ApplicationAutoScaling"):
        return Question(action, arn("cloudwatch", _TARGET_ALARMS.format(endpoint=stack.rpartition("-")[0])))
    return Question(action, place)


def bounded(folder: Path, env: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and resources of each stack with an execution role of its own."""
    for part in ("serving", "failover"):
        path = folder / f"evergreen-{env}-{part}.template.json"
        if path.exists():
            yield f"evergreen-{env}-{part}", json.loads(path.read_text())["Resources"]


@pytest.mark.parametrize("env", KINDS)
def test_it_may_do_what_cloudformation_does_for_each_resource(assembly, env):
    for stack, resources in bounded(assembly(env), env):
        asked = [
            question(resource["Type"], action, place, stack)
            for name, resource in resources.items()
            if resource["Type"] != "AWS::CDK::Metadata"
            for action in sorted(permissions(resource["Type"]))
            if not is_unused(resource["Type"], action)
            for place in places(resource["Type"], name, resource.get("Properties", {}), stack)
        ]
        assert len(asked) > 50

        allowed = answers(role_policies(stack), asked)

        refused = {(one.action, one.resource) for one, may in zip(asked, allowed, strict=True) if not may}
        assert refused == set(), stack


OTHER = "evergreen-other-serving"
STACK = "evergreen-prod-serving"
BOUNDARY = {"iam:PermissionsBoundary": boundary_arn(STACK)}
TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
DENIED = [
    # Roles without the boundary, and ways around it
    Question("iam:CreateRole", role_arn(STACK, "r")),
    Question("iam:CreateRole", role_arn(STACK, "r"), {"iam:PermissionsBoundary": boundary_arn(OTHER)}),
    Question("iam:PutRolePolicy", role_arn(STACK, "r")),
    Question("iam:AttachRolePolicy", role_arn(STACK, "r")),
    Question("iam:DeleteRolePermissionsBoundary", role_arn(STACK, "r"), BOUNDARY),
    Question("iam:CreatePolicyVersion", boundary_arn(STACK)),
    Question("iam:CreatePolicy", boundary_arn(STACK)),
    Question("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/u", BOUNDARY),
    # Roles of other stacks, and itself
    Question("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/r", BOUNDARY),
    Question("iam:PutRolePolicy", role_arn(OTHER, "r"), BOUNDARY),
    Question(
        "iam:UpdateAssumeRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/evergreen-prod-refresh-MachineRole1"
    ),
    Question("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/{bootstrap.execution_role(STACK, REGION)}"),
    Question("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-cfn-exec-role", TO_SAGEMAKER),
    Question("iam:PassRole", role_arn(STACK, "r"), {"iam:PassedToService": "lambda.amazonaws.com"}),
    Question("iam:PassRole", role_arn(STACK, "r"), {"iam:PassedToService": "cloudformation.amazonaws.com"}),
    # Other stacks' resources, and other services
    Question("sagemaker:UpdateEndpoint", arn("sagemaker", "endpoint/evergreen-other")),
    Question("sagemaker:DeleteEndpoint", arn("sagemaker", "endpoint/team")),
    Question("sagemaker:DeleteModel", arn("sagemaker", "model/team")),
    Question("sagemaker:CreateTrainingJob", arn("sagemaker", "training-job/evergreen-prod")),
    Question("kms:PutKeyPolicy", KEY),
    Question("kms:ScheduleKeyDeletion", KEY, {"aws:ResourceTag/evergreen:stack": OTHER}),
    Question("kms:CreateKey", "*"),
    Question("kms:TagResource", KEY),
    Question("kms:CreateGrant", KEY),
    Question("logs:DeleteLogGroup", arn("logs", "log-group:/aws/lambda/f")),
    Question("sns:SetTopicAttributes", arn("sns", "team")),
    Question("ssm:PutParameter", arn("ssm", "parameter/cdk-bootstrap/hnb659fds/version")),
    Question("cloudwatch:DeleteAlarms", arn("cloudwatch", "alarm:team")),
    Question("cloudformation:UpdateStack", arn("cloudformation", f"stack/{STACK}/1")),
    Question("lambda:CreateFunction", arn("lambda", "function:f")),
    Question("states:UpdateStateMachine", arn("states", f"stateMachine:{STACK}-update")),
    Question("s3:GetObject", "arn:aws:s3:::bucket/key"),
    Question("ec2:RunInstances", arn("ec2", "instance/*")),
    Question("sts:AssumeRole", role_arn(STACK, "r")),
]


def test_it_may_do_nothing_to_other_stacks_and_make_no_role_without_the_boundary():
    allowed = answers(role_policies(STACK), DENIED)

    assert [one for one, may in zip(DENIED, allowed, strict=True) if may] == []


def granted(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def concrete(resource: Any) -> str:
    """Some ARN that a statement's resource matches, whatever it refers to."""
    match resource:
        case str():
            return resource.replace("*", "x") if resource != "*" else "*"
        case {"Fn::Join": [_, parts]}:
            return "".join(concrete(part) for part in parts).replace("*", "x")
        case {"Ref": "AWS::Partition"}:
            return "aws"
        case {"Fn::ImportValue": str(name)}:
            return KEY if "Key" in name else "arn:aws:s3:::bucket"
        case {"Ref": str(name)} if name.startswith(("InferenceDone", "InferenceFailed")):
            return arn("sns", "{stack}-topic")
        case {"Fn::GetAtt": [str(name), _]}:
            if "Key" in name:
                return KEY
            return arn("cloudwatch", "alarm:x") if "Rollback" in name else arn("logs", "log-group:x:*")
        case _:
            return "x"


@pytest.mark.parametrize("env", KINDS)
def test_every_role_of_the_stack_is_bounded_and_can_still_do_its_work(assembly, env):
    for stack, resources in bounded(assembly(env), env):
        roles = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::IAM::Role"]
        assert roles
        for role in roles:
            assert role["Path"] == bootstrap.role_path(stack)
            named = role["PermissionsBoundary"]["Fn::Join"][1][-1]
            assert named.endswith(f":policy/{stack}-boundary-{named.rpartition('-boundary-')[2]}")
        asked = [
            Question(action, concrete(resource).replace("{stack}", stack))
            for one in resources.values()
            if one["Type"] == "AWS::IAM::Policy"
            for statement in one["Properties"]["PolicyDocument"]["Statement"]
            for action in granted(statement["Action"])
            for resource in granted(statement["Resource"])
            if action != "iam:PassRole"
        ]

        allowed = answers([boundary(stack)], here(asked))

        assert [one for one, may in zip(asked, allowed, strict=True) if not may] == []


def here(asked: list[Question]) -> list[Question]:
    """The same in the region and account that the boundary was filled in for."""
    place = re.compile(r"^(arn:aws:(?:kms|logs|sns|cloudwatch):)[a-z0-9-]*:\d*:")
    return [
        Question(one.action, place.sub(rf"\g<1>{REGION}:{ACCOUNT}:", one.resource), one.context)
        for one in asked
    ]


def test_whatever_a_role_of_the_stack_is_given_it_can_do_no_more_than_serve():
    beyond = [
        *("iam:CreateRole", "iam:PassRole", "sts:AssumeRole", "cloudformation:UpdateStack"),
        *("lambda:InvokeFunction", "dynamodb:GetItem", "sagemaker:UpdateEndpoint"),
        *("secretsmanager:GetSecretValue", "s3:DeleteObject", "kms:PutKeyPolicy", "ec2:RunInstances"),
        "states:StartExecution",
    ]
    asked = [Question(action, where) for action in beyond for where in ("*", KEY, role_arn(STACK, "r"))]

    allowed = answers([boundary(STACK)], asked)

    assert [one for one, may in zip(asked, allowed, strict=True) if may] == []


def test_the_bootstrap_template_deploys_as_far_as_cloudformation_tells():
    assert [str(m) for m in lint(TEMPLATE.read_text(), config=ManualArgs(regions=[REGION]))] == []
    names = parameters("evergreen-" + "e" * 45 + "-serving")
    assert len(names["RoleName"]) <= 64
    inline = role_policies("evergreen-" + "e" * 45 + "-serving")
    assert sum(len(json.dumps(policy, separators=(",", ":"))) for policy in inline) <= 10_240


def test_long_names_stay_apart():
    first, second = (f"evergreen-{'e' * 45}{end}-serving" for end in "ab")
    assert bootstrap.execution_role(first, REGION) != bootstrap.execution_role(second, REGION)
    assert bootstrap.execution_role(first, REGION) != bootstrap.execution_role(first, "us-west-2")


@pytest.mark.parametrize("env", KINDS)
def test_each_bounded_stack_names_its_execution_role_and_no_other_has_one(assembly, env):
    manifest = json.loads((assembly(env) / "manifest.json").read_text())["artifacts"]
    for name, artefact in manifest.items():
        if artefact["type"] != "aws:cloudformation:stack":
            continue
        role = artefact["properties"]["cloudFormationExecutionRoleArn"].rpartition("/")[2]
        region = artefact["environment"].rpartition("/")[2]
        if name in (f"evergreen-{env}-serving", f"evergreen-{env}-failover"):
            assert role == bootstrap.execution_role(name, region)
        else:
            assert role.startswith("cdk-hnb659fds-cfn-exec-role-")
