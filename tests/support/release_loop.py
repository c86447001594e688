"""Both functions against fakes of the services, and the calls that a state machine would make of them."""

from __future__ import annotations

import json
from typing import Any

from contracts.artefact import MANIFEST_NAME, ArtefactFile, Manifest
from contracts.release_tasks import (
    ANALYSIS_TASKS,
    RELEASE_TASKS,
    CanarySettings,
    Gate,
    GateSettings,
    LoopSettings,
)
from contracts.training import DATA_CARD_FILE, DataCard, FileDigest, SideCount
from lambdas.aws.dynamodb import from_item, to_item
from lambdas.release.analysis_tasks import AnalysisService
from lambdas.release.approval import PackageApproval
from lambdas.release.aws.artefacts import ArtefactFiles
from lambdas.release.aws.endpoint import EndpointClient
from lambdas.release.aws.model_registry import ModelRegistry
from lambdas.release.aws.scaling import EndpointScaling
from lambdas.release.aws.serving import ServingState
from lambdas.release.aws.stack import CloudFormationStack
from lambdas.release.aws.stack_update import StackUpdateMachine
from lambdas.release.aws.workflow import ApprovalTopic, Workflow
from lambdas.release.dispatch import run
from lambdas.release.lock import ReleaseLocks
from lambdas.release.registry import ModelRegistration
from lambdas.release.replication import ModelReplication
from lambdas.release.source_data import SourceData
from lambdas.release.store import (
    CALLS_INDEX,
    RATINGS_INDEX,
    LockTable,
    PendingApprovalTable,
    ReleaseLedger,
    RoutingItem,
    TrafficTable,
    TrainedDataTable,
)
from lambdas.release.tasks import ReleaseService
from lambdas.release.topology import Topology
from lambdas.runtime.logs import Logger
from tests.support.fake_release_aws import (
    AutoScaling,
    Bucket,
    CloudFormation,
    CloudWatch,
    SageMaker,
    StepFunctions,
    Tables,
    Topic,
)

ENDPOINT, STACK, BUCKET = "evergreen-test", "evergreen-test-serving", "artefacts"
RELEASE = "release-1"
OLD = {"uri": f"s3://{BUCKET}/models/base/", "digest": "0" * 64, "version": "base-1"}
NEW = {
    "uri": f"s3://{BUCKET}/releases/{RELEASE}/training/job/output/model/",
    "digest": "1" * 64,
    "version": f"base-{RELEASE}",
}
STEADY = {
    "ChampionModelUri": OLD["uri"],
    "ChampionModelDigest": OLD["digest"],
    "ChampionModelVersion": OLD["version"],
    "ChallengerModelUri": "",
    "ChallengerModelDigest": "",
    "ChallengerModelVersion": "",
    "Phase": "steady",
    "DeploymentGuardrails": "use",
    "DeploymentGuardrailsVersion": "",
    "BootstrapVersion": "/cdk-bootstrap/hnb659fds/version",
}
SECOND_STACK, SECOND_BUCKET = "evergreen-test-failover", "copies"
SECOND_MACHINE = "arn:aws:states:us-west-2:123456789012:stateMachine:evergreen-test-failover-update"
SECOND = {
    "ChampionModelUri": f"s3://{SECOND_BUCKET}/models/base/",
    "ChampionModelDigest": OLD["digest"],
    "ChampionModelVersion": OLD["version"],
    "Scaling": "on",
}
GATE = GateSettings(metric="token_f1")
CANARY = CanarySettings(
    shares=[0.1, 0.5],
    planned_sample=[30, 60],
    deadline_minutes=10,
    maximum_error_rate=0.02,
    maximum_rating_loss=0.2,
)
JOB = {
    "cluster": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
    "max_seconds": 60,
}
LOOP = LoopSettings.model_validate(
    {
        "approval": "manual",
        "approval_seconds": 3600,
        "second_region": True,
        "shares": CANARY.shares,
        "poll_seconds": 2,
        "training": JOB | {"hyperparameters": {"epochs": "4"}},
        "processing": JOB,
        "tags": {"team": "a"},
    }
)

_KEYS = {"access": {"pk": "S"}, "ledger": {"pk": "S", "sk": "S"}, "records": {"pk": "S", "sk": "S"}}


class Clock:
    """Seconds that pass when told to, or when somebody sleeps."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ReleaseHarness:
    """Both functions before a release: one champion, no lock. Its tables exist already, and are empty."""

    def __init__(self, dynamodb: Any) -> None:
        self.tables = Tables(dynamodb)
        self.clock = Clock(1_800_000_000.0)
        self.stack = CloudFormation(STEADY)
        self.second = CloudFormation(SECOND, SECOND_STACK)
        self.sagemaker = SageMaker(self.stack)
        self.second_sagemaker = SageMaker(self.second)
        self.cloudwatch = CloudWatch()
        self.autoscaling = AutoScaling()
        self.workflow = StepFunctions()
        self.second_workflow = StepFunctions()
        self.topic = Topic()
        self.bucket = Bucket()
        self.ledger = ReleaseLedger("ledger", self.tables, self.clock)
        self.routing = RoutingItem("access", ENDPOINT, self.tables)
        self._logger = Logger("test")
        self._analysis = self._analysis_service()
        self._release = self._release_service()

    def _analysis_service(self) -> AnalysisService:
        return AnalysisService(
            ENDPOINT,
            BUCKET,
            GATE,
            CANARY,
            ArtefactFiles(BUCKET, self.bucket),
            self.routing,
            TrafficTable("records", self.tables),
            self.ledger,
            self.clock,
        )

    def _release_service(self) -> ReleaseService:
        workflow = Workflow(self.workflow)
        topology = Topology(
            ENDPOINT,
            CloudFormationStack(STACK, self.stack),
            EndpointClient(ENDPOINT, self.sagemaker),
            self.routing,
            EndpointScaling(ENDPOINT, self.autoscaling),
            ServingState(STACK, ENDPOINT, self.stack, self.sagemaker, self.cloudwatch),
            self.clock,
            self.clock.sleep,
        )
        packages = ModelRegistry("group", self.sagemaker)
        registration = ModelRegistration(ArtefactFiles(BUCKET, self.bucket), packages)
        approval = PackageApproval(
            packages,
            ApprovalTopic("arn:aws:sns:us-east-1:123456789012:approvals", self.topic),
            workflow,
            PendingApprovalTable("ledger", self.tables),
            "release",
        )
        locks = ReleaseLocks(LockTable("ledger", ENDPOINT, self.tables), workflow, self.clock)
        replication = ModelReplication(
            CloudFormationStack(SECOND_STACK, self.second),
            StackUpdateMachine(SECOND_MACHINE, self.second_workflow),
            ArtefactFiles(BUCKET, self.bucket),
            SECOND_BUCKET,
            ServingState(SECOND_STACK, ENDPOINT, self.second, self.second_sagemaker, self.cloudwatch),
        )
        return ReleaseService(
            ENDPOINT,
            STACK,
            locks,
            topology,
            registration,
            approval,
            self.ledger,
            LOOP,
            SourceData(ArtefactFiles(BUCKET, self.bucket), TrainedDataTable("ledger", ENDPOINT, self.tables)),
            self.clock,
            replication,
        )

    def invoke(self, task: str, *, release_id: str = RELEASE, **fields: Any) -> dict[str, Any]:
        """Invoke `release` as the state machine does, a second later: JSON in, JSON out.

        Like it, begin the update that the answer plans.
        """
        self.clock.now += 1
        event = json.loads(json.dumps({"task": task, "release_id": release_id, **fields}))
        answer = json.loads(
            json.dumps(run(event, RELEASE_TASKS, self._release.answer, self.ledger, self._logger))
        )
        planned = answer.get("restore", answer)
        if planned.get("needed"):
            self.stack.update(planned["parameters"])
        return dict(answer)

    def update_second(self, status: str, cause: str = "") -> None:
        """The execution that updates the second region's stack ends; when it succeeds, so does the update."""
        ((arn, _),) = self.second_workflow.executions.items()
        self.second_workflow.executions[arn] = status
        self.second_workflow.causes |= {arn: cause} if cause else {}
        if status == "SUCCEEDED":
            given = self.second_workflow.received("start_execution")[0]["input"]
            self.second.update(json.loads(given)["parameters"])
            self.second.finish()

    def analyze(self, task: str, *, release_id: str = RELEASE, **fields: Any) -> dict[str, Any]:
        """Invoke `analysis` as the state machine does."""
        event = json.loads(json.dumps({"task": task, "release_id": release_id, **fields}))

        def answer(parsed: Any) -> Any:
            return self._analysis.gate(parsed) if isinstance(parsed, Gate) else self._analysis.verdict(parsed)

        return run(event, ANALYSIS_TASKS, answer, self.ledger, self._logger)

    def lock(self, release_id: str = RELEASE) -> dict[str, Any]:
        """Acquire the lock for an execution that runs."""
        self.workflow.executions[f"arn:{release_id}"] = "RUNNING"
        return self.invoke("acquire_lock", release_id=release_id, execution_arn=f"arn:{release_id}")

    def experiment(self) -> None:
        """A release whose challenger stands beside the champion."""
        self.lock()
        self.invoke("start_experiment", champion=OLD, challenger=NEW)
        self.stack.finish()
        assert self.invoke("await_topology", phase="ab") == {"settled": True}

    def split(self) -> dict[str, tuple[float, str]]:
        """Weight and model version by variant, as the front door reads them."""
        routing = self.routing.read()
        return {one.name: (one.weight, one.model_version) for one in routing.variants} if routing else {}

    def story(self, release_id: str = RELEASE) -> list[tuple[str, str]]:
        """Step and outcome of each ledger row, in order."""
        return [(row["step"], row["outcome"]) for row in self.rows(release_id) if "step" in row]

    def rows(self, release_id: str = RELEASE) -> list[dict[str, Any]]:
        """The release's ledger rows, in order."""
        reply = self.tables.call(
            "Query",
            TableName="ledger",
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": f"RELEASE#{release_id}"}),
        )
        return [from_item(item) for item in reply["Items"]]

    def put_artefact(self, prefix: str, files: dict[str, bytes], name: str = "base") -> str:
        """An artefact with its manifest in the bucket; its digest."""
        manifest = Manifest(
            name=name,
            files=[
                ArtefactFile(path=path, bytes=len(content), sha256="2" * 64)
                for path, content in files.items()
            ],
        )
        self.bucket.objects |= {prefix + path: content for path, content in files.items()}
        self.bucket.objects[prefix + MANIFEST_NAME] = manifest.canonical()
        return manifest.digest

    def put_data_card(self, heldout_rows: int) -> None:
        """The card of the release's data."""
        side = SideCount(rows=heldout_rows, users=1, groups=1)
        card = DataCard(
            sources=[],
            evaluation_sets=[],
            files=[FileDigest(name="train.jsonl", sha256="3" * 64, rows=100)],
            rows_read=100,
            dropped={},
            masked={},
            train=side,
            heldout=side,
            settings={},
        )
        self.bucket.objects[f"releases/{RELEASE}/data/{DATA_CARD_FILE}"] = card.model_dump_json().encode()

    def answered(self, count: int, variant: str, version: str, *, start: int = 0, **fields: Any) -> None:
        """Requests that a variant answered, one per second from now on, with ratings where `thumbs` is given.

        `thumbs` is a list, one entry per request; None for a request that nobody rated.
        """
        thumbs = fields.pop("thumbs", None)
        for number in range(count):
            request, at = f"{variant}-{start + number}", self.clock.now + start + number
            record = {
                "pk": request,
                "sk": "RECORD",
                "model_version": version,
                "variant": variant,
                "received_at": at,
                "status": 200,
                "time_to_first_token_ms": 100.0 + number % 7,
                **fields,
            }
            self.tables.call("PutItem", TableName="records", Item=to_item(record))
            if thumbs and thumbs[number]:
                feedback = {
                    "pk": request,
                    "sk": "FEEDBACK#1",
                    "request_id": request,
                    "model_version": version,
                    "variant": variant,
                    "given_at": at + 0.5,
                    "thumbs": thumbs[number],
                }
                self.tables.call("PutItem", TableName="records", Item=to_item(feedback))


def create_tables(dynamodb: Any) -> None:
    """Make the tables, as the data stack does."""

    def table(name: str, keys: dict[str, str], indexes: dict[str, str] | None = None) -> None:
        numbers = dict.fromkeys((indexes or {}).values(), "N")
        attributes = keys | ({"model_version": "S", **numbers} if indexes else {})
        options: dict[str, Any] = {}
        if indexes:
            options["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": index,
                    "KeySchema": _schema(["model_version", at]),
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, at in indexes.items()
            ]
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": k, "AttributeType": v} for k, v in attributes.items()],
            KeySchema=_schema(list(keys)),
            **options,
        )

    indexes = {"records": {CALLS_INDEX: "received_at", RATINGS_INDEX: "given_at"}}
    for name, keys in _KEYS.items():
        table(name, keys, indexes.get(name))


def empty_tables(dynamodb: Any) -> None:
    """Delete every item."""
    for name, keys in _KEYS.items():
        for item in dynamodb.scan(TableName=name)["Items"]:
            dynamodb.delete_item(TableName=name, Key={key: item[key] for key in keys})


def _schema(keys: list[str]) -> list[dict[str, str]]:
    return [
        {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ["HASH", "RANGE"], strict=False)
    ]
