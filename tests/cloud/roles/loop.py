"""Probes of the refresh loop's two functions, each by a task given to it directly.

What a task needs is laid out beforehand under a release of its own; nothing here touches what serves.
"""

from __future__ import annotations

import json
import time
from typing import Any

from contracts.access import routing_pk
from contracts.artefact import ArtefactFile, Manifest
from tests.cloud.roles.world import Answer, Probe, World, marker

JUDGE, RELEASE = "lambdas.release.analysis_handler", "lambdas.release.handler"
_REFUSED = {"AccessDenied", "AccessDeniedException", "ClientError", "DynamoError"}
"""The errors of a call that was not allowed: boto3's and our own client's."""


def _worked(answer: Answer, *expected: str | None) -> bool:
    """Whether a task ended as it should; ended by a refusal, it did not. Anything else is a broken probe."""
    assert answer.error in {*expected, *_REFUSED}, answer.payload
    return answer.error in expected


def _model(world: World, name: str) -> dict[str, str]:
    return {"uri": f"s3://{world.bucket}/models/{name}/", "digest": "", "version": name}


def report_is_read(world: World) -> bool:
    """A report that says nothing is refused once it has been read, and the refusal goes into the ledger."""
    release = marker()
    uri = world.put(f"releases/{release}/report/report.json", b"{}")
    models = {"champion": _model(world, "a"), "challenger": _model(world, "b")}
    answer = world.invoke(JUDGE, {"task": "gate", "release_id": release, "report_uri": uri, **models})
    return _worked(answer, "ReportUnusableError") and bool(
        world.rows("LedgerTableName", f"RELEASE#{release}")
    )


def traffic_is_judged(world: World) -> bool:
    """A split of this release's own, of which no call has come yet: the verdict is to go on."""
    release, endpoint = marker(), world.laptop.outputs["endpoint_name"]
    split = [
        {"M": {"name": {"S": name}, "weight": {"N": "1"}, "model_version": {"S": f"{release}-{name}"}}}
        for name in ("champion", "challenger")
    ]
    key = {"pk": {"S": routing_pk(endpoint)}}
    item = {**key, "endpoint_name": {"S": endpoint}, "experiment": {"S": release}, "variants": {"L": split}}
    task = {"task": "verdict", "release_id": release, "stage": 0, "share": 0.1}
    with world.routing_kept():
        world.item("AccessTableName", item)
        answer = world.invoke(JUDGE, task | {"started_at": time.time()})
    return _worked(answer, None) and answer.payload["verdict"] == "continue"


def challenger_is_described(world: World) -> bool:
    release = marker()
    file = ArtefactFile(path="weights", bytes=1, sha256="0" * 64)
    manifest = Manifest(name="probe", files=[file])
    world.put(f"releases/{release}/model/weights", b"w")
    uri = world.put(f"releases/{release}/model/manifest.json", manifest.canonical()).rpartition("/")[0]
    task = {"task": "describe_challenger", "release_id": release, "model_uri": f"{uri}/"}
    answer = world.invoke(RELEASE, task)
    return _worked(answer, None) and answer.payload["digest"] == manifest.digest


def _locked(world: World, task: dict[str, Any], *expected: str | None) -> bool:
    """A task under a lock that the operator lays down and takes away."""
    release = marker()
    with_lock = _Lock(world, release)
    with_lock.lay()
    try:
        with world.routing_kept():
            return _worked(world.invoke(RELEASE, task | {"release_id": release}), *expected)
    finally:
        with_lock.clear()


class _Lock:
    """The endpoint's lock as a row that the operator writes."""

    def __init__(self, world: World, release: str) -> None:
        self._world, self._release = world, release
        endpoint = world.laptop.outputs["endpoint_name"]
        self.key = {"pk": {"S": f"LOCK#{endpoint}"}, "sk": {"S": "LOCK"}}

    def lay(self) -> None:
        """Hold it for the release."""
        champion = {name: {"S": text} for name, text in _model(self._world, "a").items()}
        self._world.item(
            "LedgerTableName",
            {
                **self.key,
                "release_id": {"S": self._release},
                "execution_arn": {"S": _execution(self._world, self._release)},
                "acquired_at": {"N": "1.5"},
                "champion": {"M": champion},
            },
        )

    def row(self) -> dict[str, Any] | None:
        """What holds it."""
        reply = self._world.laptop.aws("dynamodb").get_item(
            TableName=self._world.data["LedgerTableName"], Key=self.key
        )
        return reply.get("Item")

    def clear(self) -> None:
        """Free it."""
        self._world.laptop.aws("dynamodb").delete_item(
            TableName=self._world.data["LedgerTableName"], Key=self.key
        )


def _execution(world: World, release: str) -> str:
    arn = world.laptop.outputs["refresh_state_machine_arn"]
    return f"{arn.replace(':stateMachine:', ':execution:')}:{release}"


def dead_lock_is_taken_over(world: World) -> bool:
    """Held by an execution that is not there any more: asked for, found gone, taken over."""
    dead, release = marker(), marker()
    lock = _Lock(world, dead)
    lock.lay()
    try:
        task = {"task": "acquire_lock", "release_id": release, "execution_arn": _execution(world, release)}
        worked = _worked(world.invoke(RELEASE, task), None)
        row = lock.row()
        return worked and row is not None and row["release_id"]["S"] == release
    finally:
        lock.clear()


def rest_is_noticed(world: World) -> bool:
    """Stack and endpoint are at rest; callers are sent to the champion by the routing item."""
    return _locked(world, {"task": "await_topology", "phase": "steady"}, None)


def wrong_phase_is_explained(world: World) -> bool:
    """The stack is not in this phase: its events are read for the reason."""
    return _locked(world, {"task": "await_topology", "phase": "ab"}, "TopologyFailedError")


def lock_is_freed(world: World) -> bool:
    release = marker()
    lock = _Lock(world, release)
    lock.lay()
    try:
        task = {"task": "release_lock", "release_id": release, "outcome": "kept", "reason": "a probe"}
        return _worked(world.invoke(RELEASE, task), None) and lock.row() is None
    finally:
        lock.clear()


def stack_is_updated(world: World) -> bool:
    """Without a parameter nothing is to change, but CloudFormation is asked."""
    states = world.laptop.aws("stepfunctions")
    machine = world.laptop.stack_outputs("refresh")["UpdateMachineArn"]
    execution = states.start_execution(stateMachineArn=machine, input='{"parameters": {}}')["executionArn"]

    def over() -> dict[str, Any] | None:
        found = states.describe_execution(executionArn=execution)
        return dict(found) if found["status"] != "RUNNING" else None

    ended = world.until(over, "the update ends")
    assert ended["status"] == "SUCCEEDED" or "cloudformation:" in ended["cause"], ended
    return bool(ended["status"] == "SUCCEEDED")


def weights_are_moved(world: World) -> bool:
    """Promoting takes all traffic back before it plans an update of the stack, which nobody makes here."""
    sagemaker, endpoint = world.laptop.aws("sagemaker"), world.laptop.outputs["endpoint_name"]

    def weigh(weight: float) -> None:
        wanted = [{"VariantName": "champion", "DesiredWeight": weight}]
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=wanted
        )
        world.until(lambda: _described(world)["EndpointStatus"] == "InService", "the endpoint rests")

    weigh(0.5)
    try:
        models = {"champion": _model(world, "a"), "challenger": _model(world, "b")}
        _locked(world, {"task": "promote", **models}, None)
        world.until(lambda: _described(world)["EndpointStatus"] == "InService", "the endpoint rests")
        (champion,) = _described(world)["ProductionVariants"]
        return bool(champion["CurrentWeight"] == 1.0)
    finally:
        weigh(1.0)


def _described(world: World) -> dict[str, Any]:
    name = world.laptop.outputs["endpoint_name"]
    return dict(world.laptop.aws("sagemaker").describe_endpoint(EndpointName=name))


def package_is_registered_and_approved(world: World) -> bool:
    release = marker()
    side = {"rows": 1, "users": 1, "groups": 1}
    card = {
        "sources": [], "evaluation_sets": [], "files": [], "rows_read": 1, "dropped": {}, "masked": {},
        "train": side, "heldout": side, "settings": {},
    }  # fmt: skip
    data = world.put(f"releases/{release}/data/data_card.json", json.dumps(card).encode())
    models = {"champion": _model(world, "a"), "challenger": _model(world, "b")}
    uris = {"report_uri": f"s3://{world.bucket}/r.json", "data_uri": data.rpartition("/")[0]}
    answer = world.invoke(RELEASE, {"task": "register", "release_id": release, **models, **uris})
    if not _worked(answer, None):
        return False
    package = answer.payload["package_arn"]
    task = {"task": "approve", "release_id": release, "package_arn": package, "status": "Approved"}
    try:
        return _worked(world.invoke(RELEASE, task), None)
    finally:
        world.laptop.aws("sagemaker").delete_model_package(ModelPackageName=package)


def _log_of(module: str) -> Any:
    """A task of no known name is named in the error, which the runtime logs."""

    def works(world: World) -> bool:
        word = marker()
        assert world.invoke(module, {"task": word}).error == "BadInputError"
        return world.logged(module, word)

    return works


PROBES = [
    Probe("FunctionsJudgeRole", ("s3:GetObject", "dynamodb:PutItem@LedgerTable"), report_is_read),
    Probe(
        "FunctionsJudgeRole",
        ("dynamodb:GetItem@AccessTable", "dynamodb:Query@RecordsTable"),
        traffic_is_judged,
    ),
    Probe("FunctionsJudgeRole", ("logs:PutLogEvents",), _log_of(JUDGE)),
    Probe("FunctionsReleaseRole", ("s3:GetObject", "s3:ListBucket"), challenger_is_described),
    Probe(
        "FunctionsReleaseRole",
        ("dynamodb:GetItem@LedgerTable", "dynamodb:PutItem@LedgerTable", "states:DescribeExecution"),
        dead_lock_is_taken_over,
    ),
    Probe(
        "FunctionsReleaseRole",
        (
            *("cloudformation:DescribeStacks", "cloudformation:ListStackResources"),
            *("sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig", "sagemaker:DescribeModel"),
            "dynamodb:PutItem@AccessTable",
        ),
        rest_is_noticed,
    ),
    Probe("FunctionsReleaseRole", ("cloudformation:DescribeStackEvents",), wrong_phase_is_explained),
    Probe("FunctionsReleaseRole", ("dynamodb:DeleteItem@LedgerTable",), lock_is_freed),
    Probe(
        "ServingUpdateRole", ("cloudformation:DescribeStacks", "cloudformation:UpdateStack"), stack_is_updated
    ),
    Probe("FunctionsReleaseRole", ("sagemaker:UpdateEndpointWeightsAndCapacities",), weights_are_moved),
    Probe(
        "FunctionsReleaseRole",
        ("sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"),
        package_is_registered_and_approved,
    ),
    Probe("FunctionsReleaseRole", ("logs:PutLogEvents",), _log_of(RELEASE)),
]
