"""Least privilege, proved by running: for every role of ours, each thing it is allowed is taken away,
and something breaks that worked before. What cannot be seen on a laptop stands in UNPROVED with the
reason, and nowhere else.
"""

from __future__ import annotations

import pytest

from tests.cloud.roles import door, grants, jobs, loop, work
from tests.cloud.roles.world import Probe, World
from tests.support.laptop import Laptop

PROBES: list[Probe] = [*door.PROBES, *loop.PROBES, *jobs.PROBES, *work.PROBES]
UNSEEN_SECONDS = 5.0
"""How long a probe waits for what must not happen any more."""

FUNCTIONS = (
    *("AuthorizerRole", "InferenceRole", "ApiRole", "JobsRole", "WorkerRole"),
    *("FunctionsJudgeRole", "FunctionsReleaseRole"),
)
JOBS = ("TrainingRole", "ProcessingRole")
MACHINES = ("MachineRole", "ServingUpdateRole")
_KEYS = "S3 and DynamoDB do not ask the key here"
_TRACES = "there is no X-Ray here: trace ids are passed on, segments are not collected"
_GROUPS = "streams need not be created here: only the right to write into them is asked for"
_DELIVERY = "a state machine's log is written by the emulator, not by way of a delivery"
UNPROVED: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {
    (FUNCTIONS, ("kms:Decrypt",)): _KEYS,
    (
        tuple(role for role in FUNCTIONS if role != "AuthorizerRole"),
        ("kms:Encrypt", "kms:GenerateDataKey"),
    ): _KEYS,
    ((*FUNCTIONS, *MACHINES), ("xray:PutTelemetryRecords", "xray:PutTraceSegments")): _TRACES,
    (MACHINES, ("xray:GetSamplingRules", "xray:GetSamplingTargets")): _TRACES,
    (FUNCTIONS, ("logs:CreateLogStream",)): _GROUPS,
    (
        (*JOBS, "ExecutionRole"),
        ("cloudwatch:PutMetricData",),
    ): "unit/sagemaker/test_execution_role.py takes it away; endpoints' metrics are SageMaker's own here",
    (
        ("ModelExecutionRole",),
        (
            *("cloudwatch:PutMetricData", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage"),
            *("ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer", "kms:Decrypt"),
            *("logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:ListBucket"),
        ),
    ): "the construct is ExecutionRole's, which is probed",
    (JOBS, ("logs:CreateLogGroup",)): "the groups of jobs are there once the first job of all has run",
    (JOBS, ("logs:DescribeLogStreams",)): _GROUPS,
    (JOBS, ("s3:AbortMultipartUpload",)): "only an upload that breaks off in the middle is aborted",
    (
        ("FunctionsJudgeRole",),
        ("s3:ListBucket",),
    ): "S3 says here that an object is missing to whoever may read it; AWS says so only to whoever may list",
    (
        ("ServingUpdateRole",),
        ("cloudformation:DescribeStackEvents",),
    ): "only an update that fails has its events read: test_stack_update_machine.py",
    (
        ("ServingUpdateRole",),
        ("ssm:GetParameters",),
    ): "CloudFormation here does not read a template's parameters in the name of who updates it",
    (
        MACHINES,
        (
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        ),
    ): _DELIVERY,
}


@pytest.fixture(scope="module")
def world(laptop: Laptop) -> World:
    return World(laptop)


def _cases() -> list[object]:
    return [
        pytest.param(probe, id=f"{probe.role}-{getattr(probe.works, '__name__', 'works')}-{probe.grants[0]}")
        for probe in PROBES
    ]


@pytest.mark.parametrize("probe", _cases())
def test_without_any_of_its_grants_it_breaks(world: World, probe: Probe) -> None:
    def prepare() -> None:
        if probe.given is not None:
            probe.given(world)

    with world.routing_kept():
        prepare()
        assert probe.works(world), f"{probe.role}: it does not work even with all its grants"
        for grant in probe.grants:
            prepare()
            with world.lacking(probe.role, grant):
                world.patience, patient = UNSEEN_SECONDS, world.patience
                try:
                    needless = probe.works(world)
                finally:
                    world.patience = patient
            assert not needless, (
                f"{probe.role} works without {grant}: it need not be allowed, or not be probed so"
            )


def test_every_grant_is_proved_or_said_to_be_unproved(world: World) -> None:
    """A new role or grant has to come with a probe, or with the reason why there can be none."""
    allowed = {
        (name, grant) for name, role in world.roles.items() for grant in grants.grants(world.laptop, role)
    }
    proved = {(probe.role, grant) for probe in PROBES for grant in probe.grants}
    unproved = {(role, grant) for roles, listed in UNPROVED for role in roles for grant in listed}
    assert allowed - proved - unproved == set(), "neither proved nor in UNPROVED"
    assert (proved | unproved) - allowed == set(), "no role is allowed this any more"
    assert proved & unproved == set(), "proved after all: take it out of UNPROVED"
