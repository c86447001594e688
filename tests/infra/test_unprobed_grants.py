"""What roles are allowed elsewhere but not on the laptop, where tests/cloud takes each grant away and sees
something break (test_least_privilege.py). Such a grant stands here with the reason, and with what tests it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))

_HASH = re.compile(r"[0-9A-F]{8}$")
_EXPORTED = re.compile(r":ExportsOutput(?:FnGetAtt|Ref)(\w+?)[0-9A-F]{8}(?:\w*)$")
_ACCOUNT = re.compile(r"\b\d{12}\b")
_ARN = re.compile(r"^arn:[^:]*:[^:]*:[^:]*:[^:]*:")

_IMAGES = "other images than the laptop's, whose pull is proved; cloud/test_execution_role.py"
_MODELS = "the laptop's model lies in the artefacts bucket, where the same rights are proved"
_SCALING = "a fleet of one machine does not scale; unit/release/test_release_scaling.py makes the calls"
_APPROVAL = "releases pass without a person on the laptop; unit/release/test_registry.py makes the calls"
_NETWORK = "the laptop has no networks; test_endpoint_kinds.py, TestPools"
_ASYNC = "the laptop's endpoint answers at once; test_endpoint_kinds.py, TestAsync"
_FOLLOW = "the laptop has one region; unit/release/test_replication.py makes the calls"
_COPIES = "the laptop has one region, and S3 itself uses these; test_failover.py looks at each"
_BEDROCK = "the laptop has no Bedrock; unit/lambdas/test_bedrock_guard.py and test_bedrock_fallback.py"
_HOSTED = (
    "the laptop calls no hosted model; unit/lambdas/test_hosted_models.py and test_spans.py read secrets"
)
_KEYS = "the laptop's endpoint neither queues nor captures; unit/sagemaker/test_execution_role.py asks keys"

UNPROBED: dict[tuple[str, str], str] = {
    ("*", "ecr:* on repository/*"): _IMAGES,
    ("*", "s3:GetObject on your-models-*"): _MODELS,
    ("*", "s3:ListBucket on your-models-*"): _MODELS,
    ("ExecutionRole", "ec2:*"): _NETWORK,
    ("ExecutionRole", "cloudwatch:DescribeAlarms on *"): (
        "the laptop's updates are not guarded; cloud/test_execution_role.py, and test_rollback_rights.py"
    ),
    ("ExecutionRole", "logs:* on ComponentLogs*"): (
        "the laptop's endpoint has no components; unit/sagemaker/test_execution_role.py asks for them"
    ),
    ("NetworkVpcRejectedIAMRole", "logs:*"): _NETWORK,
    ("ExecutionRole", "kms:* on Inference*Key"): _KEYS,
    ("ExecutionRole", "kms:* on RecordsKey"): _KEYS,
    ("ExecutionRole", "s3:PutObject on RecordsBucket/captured/*"): (
        "the laptop's endpoint copies no traffic; test_endpoint_kinds.py, TestPools"
    ),
    ("ExecutionRole", "s3:GetObject on RecordsBucket/<env>/input/?"): _ASYNC,
    ("ExecutionRole", "s3:PutObject on RecordsBucket/<env>/output/?"): _ASYNC,
    ("ExecutionRole", "s3:PutObject on RecordsBucket/<env>/failed/?"): _ASYNC,
    ("ExecutionRole", "sns:Publish on Inference*"): _ASYNC,
    ("FunctionsReleaseRole", "application-autoscaling:*"): _SCALING,
    ("FunctionsReleaseRole", "cloudwatch:*Alarm*"): _SCALING,
    ("FunctionsReleaseRole", "kms:* on ApprovalsKey"): "SNS does not ask the key of a function on the laptop",
    ("FunctionsReleaseRole", "sns:Publish on Approvals"): _APPROVAL,
    ("FunctionsReleaseRole", "states:SendTask* on stateMachine:*"): _APPROVAL,
    ("FunctionsReleaseRole", "cloudformation:* on stack/*-failover/?"): _FOLLOW,
    ("FunctionsReleaseRole", "states:*Execution on *:*-failover-update*"): _FOLLOW,
    ("FailoverUpdateRole", "*"): (
        "the laptop has one region, where ServingUpdateRole proves the same rights"
    ),
    ("ReplicationRole", "*"): _COPIES,
    ("MachineEventsRole", "states:StartExecution on Machine"): (
        "the laptop's loop has no schedule; test_refresh_stack.py looks at the rule"
    ),
    ("DoorAccountLogRole", "managed on *AmazonAPIGatewayPushToCloudWatchLogs"): (
        "`bootstrap` makes the account's log role; unit/operations/test_account_log_role.py makes the calls"
    ),
    ("*", "bedrock:*"): _BEDROCK,
    ("*", "xray:PutSpans on [*]"): (
        "the laptop has no X-Ray, and settings that name it there are refused; unit/lambdas/test_spans.py"
    ),
    ("*", "sagemaker:InvokeEndpointWithResponseStream on endpoint/small"): (
        "cloud/test_fallback.py gives the right and sees it missing before"
    ),
    ("*", "sagemaker:InvokeEndpointWithResponseStream on inference-component/*"): (
        "the laptop's endpoint has no components; unit/lambdas/test_door_kinds.py makes the calls"
    ),
    ("*", "sagemaker:InvokeEndpoint on endpoint/*"): (
        "the laptop's own endpoint streams; unit/lambdas/test_door_kinds.py makes the calls"
    ),
    ("*", "sagemaker:InvokeEndpointWithResponseStream on endpoint/*-serving-*"): (
        "the laptop's further model gives whole answers, and its own one proves streams"
    ),
    ("*", "secretsmanager:GetSecretValue on secret:*"): _HOSTED,
    ("ModelExecutionRole", "*"): (
        "the laptop's further model is serverless; the construct is ExecutionRole's, whose rights are proved"
    ),
}
"""Role and grant, as shell patterns, and why tests/cloud cannot take it away."""


def _words(value: Any) -> str:
    """A reference by the name of what it points to, anything else as it reads."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Fn::Join":
        return "".join(_words(part) for part in argument[1])
    if function == "Fn::ImportValue":
        found = _EXPORTED.search(argument)
        assert found, argument
        return found[1]
    named = argument if isinstance(argument, str) else argument[0]
    return "aws" if named == "AWS::Partition" else _HASH.sub("", named)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _grants(folder: Path, env: str) -> Iterator[tuple[str, str]]:
    """Every role by its name in the templates with every `action on resource` it is allowed."""
    for path in folder.glob("*.template.json"):
        resources = json.loads(path.read_text())["Resources"]
        for name, resource in resources.items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::IAM::Role":
                role = _HASH.sub("", name)
                assert not properties.get("Policies"), f"{name}: read its inline policies as well"
                for managed in properties.get("ManagedPolicyArns", []):
                    yield role, f"managed on {_words(managed)}"
            elif resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                for role in properties["Roles"]:
                    for statement in properties["PolicyDocument"]["Statement"]:
                        for action in _listed(statement["Action"]):
                            for place in _listed(statement["Resource"]):
                                where = _ARN.sub("", _words(place))
                                where = _ACCOUNT.sub("<account>", re.sub(rf"\b{env}\b", "<env>", where))
                                yield _HASH.sub("", _words(role)), f"{action} on {where}"


def test_every_grant_the_laptop_has_not_is_known(assembly, everything):
    shipped = {env: assembly(env) for env in ("dev", "prod", *EXAMPLES)}
    found = {grant for env, folder in shipped.items() for grant in _grants(folder, env)}
    found |= set(_grants(everything.folder, "prod"))
    elsewhere = found - set(_grants(assembly("local"), "local"))

    def known(grant: tuple[str, str]) -> list[tuple[str, str]]:
        return [entry for entry in UNPROBED if all(map(fnmatchcase, grant, entry))]

    unknown = sorted(grant for grant in elsewhere if not known(grant))
    listed = "".join(f"\n{role}: {grant}" for role, grant in unknown)
    assert not unknown, f"prove these on the laptop, or say in UNPROBED why not and what tests them:{listed}"
    used = {entry for grant in elsewhere for entry in known(grant)}
    assert sorted(UNPROBED.keys() - used) == [], "no role is allowed this any more"
