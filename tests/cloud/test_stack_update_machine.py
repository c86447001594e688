"""The state machine that updates a stack, by its own definition on an emulator: IAM enforced, real stacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.emulator import ACCOUNT, REGION, OwnEmulator, allow
from tests.support.waiting import until

DEFINITION = Path(__file__).parents[2] / "infra" / "state_machines" / "update_stack.asl.yaml"
STACK = "evergreen-test-serving"
BUSY_SECONDS = 3
TEMPLATE: dict[str, Any] = {
    "Parameters": {
        "ChampionModelVersion": {"Type": "String", "Default": "one"},
        "ChallengerModelVersion": {"Type": "String", "Default": ""},
        "Phase": {"Type": "String", "Default": "steady"},
        "Scaling": {"Type": "String", "Default": "on"},
    },
    "Conditions": {
        "Fails": {"Fn::Equals": [{"Ref": "Phase"}, "ab"]},
        "Lasts": {"Fn::Equals": [{"Ref": "Phase"}, "shadow"]},
    },
    "Resources": {
        "Version": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Name": "/test/version",
                "Type": "String",
                "Value": {"Fn::Sub": "${ChampionModelVersion}-${Scaling}"},
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Condition": "Fails",
            "Properties": {"EndpointConfigName": "there-is-none"},
        },
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle", "Condition": "Lasts"},
        "Pause": {
            "Type": "AWS::CloudFormation::WaitCondition",
            "Condition": "Lasts",
            "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": str(BUSY_SECONDS)},
        },
    },
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    emulator = OwnEmulator(tmp_path_factory.mktemp("updates"))
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture(autouse=True)
def stack(cloud: OwnEmulator) -> Iterator[None]:
    """The stack as the first deployment leaves it."""
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName=STACK, TemplateBody=json.dumps(TEMPLATE))
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    yield
    until(lambda: not status(cloud).endswith("_IN_PROGRESS"), "the stack rests")
    cloudformation.delete_stack(StackName=STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})


@pytest.fixture(scope="module")
def machine(cloud: OwnEmulator) -> str:
    """The state machine under the role that it has when deployed."""
    return make_machine(cloud, "update", "DescribeStacks", "DescribeStackEvents", "UpdateStack")


def make_machine(cloud: OwnEmulator, name: str, *actions: str) -> str:
    arn = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/*"
    role = cloud.make_role(
        name, "states.amazonaws.com", *(allow(f"cloudformation:{action}", arn) for action in actions)
    )
    text = json.dumps(yaml.safe_load(DEFINITION.read_text()))
    text = text.replace("${StackName}", STACK).replace("${PollSeconds}", "1")
    made = cloud.client("stepfunctions").create_state_machine(name=name, roleArn=role, definition=text)
    return str(made["stateMachineArn"])


def started(cloud: OwnEmulator, machine: str, given: dict[str, Any]) -> str:
    states = cloud.client("stepfunctions")
    return str(states.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"])


def ended(cloud: OwnEmulator, execution: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = cloud.client("stepfunctions").describe_execution(executionArn=execution)
        return dict(found) if found["status"] != "RUNNING" else None

    return dict(until(look, "the execution ends", seconds=60))


def update(cloud: OwnEmulator, machine: str, **parameters: str) -> dict[str, Any]:
    return ended(cloud, started(cloud, machine, {"parameters": parameters}))


def described(cloud: OwnEmulator) -> dict[str, Any]:
    return dict(cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0])


def status(cloud: OwnEmulator) -> str:
    return str(described(cloud)["StackStatus"])


def parameters(cloud: OwnEmulator) -> dict[str, str]:
    return {one["ParameterKey"]: one["ParameterValue"] for one in described(cloud)["Parameters"]}


def version(cloud: OwnEmulator) -> str:
    return str(cloud.client("ssm").get_parameter(Name="/test/version")["Parameter"]["Value"])


def test_a_parameter_changes_and_the_others_stay(cloud: OwnEmulator, machine: str) -> None:
    cloud.client("cloudformation").update_stack(
        StackName=STACK,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "Scaling", "ParameterValue": "off"}],
    )
    until(lambda: status(cloud) == "UPDATE_COMPLETE", "an operator's update is done")

    done = update(cloud, machine, ChampionModelVersion="two", ChallengerModelVersion="")

    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"]) == {"outcome": "updated", "status": "UPDATE_COMPLETE"}
    assert version(cloud) == "two-off"


def test_what_is_so_already_is_no_failure(cloud: OwnEmulator, machine: str) -> None:
    done = update(cloud, machine, ChampionModelVersion="one")

    assert json.loads(done["output"]) == {"outcome": "unchanged", "status": "CREATE_COMPLETE"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"Scaling": "off"}, "Scaling"),  # the template has it, and it is no release's to change
        (
            {"Phase": "steady", "ChampionModelUri": "s3://b/m/"},
            "ChampionModelUri",
        ),  # no parameter of this one
        ({"Phase": "shadow", "BootstrapVersion": "/x"}, "BootstrapVersion"),
    ],
)
def test_another_parameter_is_refused_before_anything_changes(
    cloud: OwnEmulator, machine: str, given: dict[str, str], named: str
) -> None:
    before = parameters(cloud)

    done = update(cloud, machine, **given)

    assert (done["status"], done["error"]) == ("FAILED", "ParameterNotAllowedError")
    assert done["cause"].endswith(f": {named}")
    assert (status(cloud), parameters(cloud)) == ("CREATE_COMPLETE", before)


def test_whoever_starts_it_cannot_bring_a_template_a_role_or_a_stack(
    cloud: OwnEmulator, machine: str
) -> None:
    other = {"Resources": {"Admin": {"Type": "AWS::SNS::Topic"}}}
    given = {
        "parameters": {"ChampionModelVersion": "two"},
        "TemplateBody": json.dumps(other),
        "UsePreviousTemplate": False,
        "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/admin",
        "StackName": "another",
        "allowed": ["Scaling"],
    }

    done = ended(cloud, started(cloud, machine, given))

    assert done["status"] == "SUCCEEDED", done
    body = cloud.client("cloudformation").get_template(StackName=STACK)["TemplateBody"]
    assert body == TEMPLATE or json.loads(body) == TEMPLATE
    assert version(cloud) == "two-on"


def test_an_update_that_rolls_back_fails_with_the_first_cause(cloud: OwnEmulator, machine: str) -> None:
    for _ in range(2):  # the second one's cause is its own, not the first one's
        done = update(cloud, machine, Phase="ab")

        assert (done["status"], done["error"]) == ("FAILED", "UpdateFailedError")
        assert done["cause"].startswith(
            f"The update of {STACK} ended in UPDATE_ROLLBACK_COMPLETE: Endpoint: "
        )
        assert "there-is-none" in done["cause"]


def test_it_waits_for_an_update_of_somebody_else(cloud: OwnEmulator, machine: str) -> None:
    cloud.client("cloudformation").update_stack(
        StackName=STACK,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "Phase", "ParameterValue": "shadow"}],
    )
    assert status(cloud) == "UPDATE_IN_PROGRESS"

    done = update(cloud, machine, ChampionModelVersion="two")

    assert done["status"] == "SUCCEEDED", done
    assert (version(cloud), parameters(cloud)["Phase"]) == ("two-on", "steady")


def test_cloudformations_refusal_is_the_cause(cloud: OwnEmulator) -> None:
    reader = make_machine(cloud, "reader", "DescribeStacks", "DescribeStackEvents")

    done = update(cloud, reader, ChampionModelVersion="two")

    assert (done["status"], done["error"]) == ("FAILED", "UpdateRefusedError")
    assert "cloudformation:UpdateStack" in done["cause"]
    assert version(cloud) == "one-on"


def test_without_the_events_it_says_where_the_cause_is(cloud: OwnEmulator) -> None:
    blind = make_machine(cloud, "blind", "DescribeStacks", "UpdateStack")

    done = update(cloud, blind, Phase="ab")

    assert done["error"] == "UpdateFailedError"
    assert done["cause"].endswith("UPDATE_ROLLBACK_COMPLETE: the reason is in its events")


def parent(cloud: OwnEmulator, name: str, machine: str, *, may_stop: bool = True) -> str:
    """A state machine that starts the other and waits, as the refresh loop does."""
    child = machine.replace(":stateMachine:", ":execution:") + ":*"
    role = cloud.make_role(
        name,
        "states.amazonaws.com",
        allow("states:StartExecution", machine),
        allow("states:DescribeExecution", child),
        *([allow("states:StopExecution", child)] if may_stop else []),
        allow("events:*"),
    )
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": machine, "Input": {"parameters.$": "$.changes"}},
        "End": True,
    }
    made = cloud.client("stepfunctions").create_state_machine(
        name=name, roleArn=role, definition=json.dumps({"StartAt": "Only", "States": {"Only": state}})
    )
    return str(made["stateMachineArn"])


def test_another_state_machine_waits_for_it_and_learns_its_end(cloud: OwnEmulator, machine: str) -> None:
    waiting = parent(cloud, "waiting", machine)

    done = ended(cloud, started(cloud, waiting, {"changes": {"ChampionModelVersion": "two"}}))
    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"])["Output"]["outcome"] == "updated"

    failed = ended(cloud, started(cloud, waiting, {"changes": {"Phase": "ab"}}))
    assert (failed["status"], failed["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(failed["cause"])
    assert (cause["Error"], cause["Status"]) == ("UpdateFailedError", "FAILED")
    assert "Endpoint: " in cause["Cause"]


def test_who_may_not_start_it_starts_nothing(cloud: OwnEmulator, machine: str) -> None:
    elsewhere = make_machine(cloud, "elsewhere", "DescribeStacks")
    stranger = parent(cloud, "stranger", elsewhere)
    states = cloud.client("stepfunctions")
    text = states.describe_state_machine(stateMachineArn=stranger)["definition"]
    states.update_state_machine(stateMachineArn=stranger, definition=text.replace(elsewhere, machine))

    done = ended(cloud, started(cloud, stranger, {"changes": {"ChampionModelVersion": "two"}}))

    assert done["status"] == "FAILED"
    assert "states:StartExecution" in done["cause"]
    assert version(cloud) == "one-on"


def test_stopping_who_waits_stops_it(cloud: OwnEmulator, machine: str) -> None:
    waiting = parent(cloud, "stopped", machine)
    states = cloud.client("stepfunctions")
    execution = started(cloud, waiting, {"changes": {"Phase": "shadow"}})
    until(lambda: status(cloud) == "UPDATE_IN_PROGRESS", "the update is under way")

    states.stop_execution(executionArn=execution)

    def last() -> str:
        return str(states.list_executions(stateMachineArn=machine)["executions"][0]["status"])

    until(lambda: last() == "ABORTED", "the one it started has been stopped")
