"""With the credentials of any function of ours, no other template comes to life."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import bundle
from tests.support.laptop import Laptop
from tests.support.waiting import until

NAME = "credentials"
CODE = """
import os
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
def handler(event, context):
    return {name.lower(): os.environ[name] for name in NAMES}
"""
# A role that everybody may assume and that may do everything: what an attacker would let CloudFormation make.
ADMINISTRATOR = {
    "Resources": {
        "Administrator": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "ManagedPolicyArns": ["arn:aws:iam::aws:policy/AdministratorAccess"],
                "AssumeRolePolicyDocument": {
                    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]
                },
            },
        }
    }
}


@pytest.fixture(scope="module")
def credentials_of(laptop: Laptop) -> Iterator[Callable[[str], dict[str, str]]]:
    """`credentials_of(role_arn)` are what a function under that role finds in its environment."""
    functions = laptop.aws("lambda")
    made: list[str] = []

    def of(role: str) -> dict[str, str]:
        name = f"{NAME}-{len(made)}"
        made.append(name)
        functions.create_function(
            FunctionName=name,
            Role=role,
            Runtime="python3.11",
            Handler="app.handler",
            Timeout=60,
            Code={"ZipFile": bundle({"app.py": CODE})},
        )
        functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        reply = json.loads(functions.invoke(FunctionName=name)["Payload"].read())
        return dict(reply)

    yield of
    for name in made:
        functions.delete_function(FunctionName=name)


def refused(call: Callable[..., Any], **parameters: Any) -> bool:
    """Whether a call is refused for want of a right; anything else is a broken test."""
    try:
        call(**parameters)
    except ClientError as error:
        code = error.response["Error"]["Code"]
    else:
        return False
    assert code in ("AccessDenied", "AccessDeniedException"), code
    return True


def attempts(laptop: Laptop, stack: str, credentials: dict[str, str]) -> dict[str, bool]:
    """Each way to another template or to more rights, and whether it was refused."""
    cloudformation = laptop.aws("cloudformation", **credentials)
    states, iam = laptop.aws("stepfunctions", **credentials), laptop.aws("iam", **credentials)
    body = json.dumps(ADMINISTRATOR)
    capabilities = {"Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]}
    outputs = laptop.stack_outputs("refresh")
    change = {"StackName": stack, "ChangeSetName": "another"}
    return {
        "UpdateStack": refused(
            cloudformation.update_stack, StackName=stack, TemplateBody=body, **capabilities
        ),
        "UpdateStack, previous template": refused(
            cloudformation.update_stack, StackName=stack, UsePreviousTemplate=True, **capabilities
        ),
        "CreateChangeSet": refused(cloudformation.create_change_set, **change, TemplateBody=body),
        "ExecuteChangeSet": refused(cloudformation.execute_change_set, **change),
        "CreateStack": refused(
            cloudformation.create_stack, StackName="another", TemplateBody=body, **capabilities
        ),
        "DeleteStack": refused(cloudformation.delete_stack, StackName=stack),
        "StartExecution of the update": refused(
            states.start_execution, stateMachineArn=outputs["UpdateMachineArn"], input='{"parameters": {}}'
        ),
        "UpdateStateMachine": refused(
            states.update_state_machine,
            stateMachineArn=outputs["UpdateMachineArn"],
            definition='{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}',
        ),
        "PutRolePolicy": refused(
            iam.put_role_policy,
            RoleName="FunctionsReleaseRole",
            PolicyName="more",
            PolicyDocument=json.dumps({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}),
        ),
    }


def test_no_functions_credentials_bring_another_template_to_life(
    laptop: Laptop, credentials_of: Callable[[str], dict[str, str]]
) -> None:
    stack = f"{laptop.outputs['endpoint_name']}-serving"
    operator = laptop.aws("cloudformation")
    before = operator.get_template(StackName=stack)["TemplateBody"]
    roles = {
        function["Role"]: function["FunctionName"]
        for function in laptop.aws("lambda").list_functions()["Functions"]
        if "lambdas." in function.get("Handler", "")
    }
    assert any("Release" in name for name in roles.values()), roles

    for role, function in roles.items():
        tried = attempts(laptop, stack, credentials_of(role))
        assert [way for way, was_refused in tried.items() if not was_refused] == [], function

    assert operator.get_template(StackName=stack)["TemplateBody"] == before


def test_the_update_machine_changes_parameters_of_a_release_and_no_others(laptop: Laptop) -> None:
    """Whoever may start it: the operator here."""
    stack = f"{laptop.outputs['endpoint_name']}-serving"
    cloudformation, states = laptop.aws("cloudformation"), laptop.aws("stepfunctions")
    before = cloudformation.get_template(StackName=stack)["TemplateBody"]
    given = {
        "parameters": {"BootstrapVersion": "/another/parameter"},
        "TemplateBody": json.dumps(ADMINISTRATOR),
        "UsePreviousTemplate": False,
    }
    execution = states.start_execution(
        stateMachineArn=laptop.stack_outputs("refresh")["UpdateMachineArn"], input=json.dumps(given)
    )["executionArn"]

    def over() -> dict[str, Any] | None:
        found = states.describe_execution(executionArn=execution)
        return dict(found) if found["status"] != "RUNNING" else None

    ended = until(over, "the execution ends")
    assert (ended["status"], ended["error"]) == ("FAILED", "ParameterNotAllowedError")
    assert cloudformation.get_template(StackName=stack)["TemplateBody"] == before
