"""An execution role that lacks one grant, against the emulator's own IAM: each is missed where AWS misses it.

The grants are those of the serving stack's role (infra/constructs/execution_role.py), spelled as there.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cloud.test_sagemaker import ACCOUNT, IMAGE, REGION, Emulator, until

BUCKET, ALARM = "encrypted", "role-alarm"
REPOSITORY = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/evergreen-serving"


@dataclass(frozen=True)
class Account:
    """An emulator with an encrypted bucket, an alarm and a group for logs."""

    emulator: Emulator
    key: str

    def statements(self, name: str) -> list[dict[str, Any]]:
        """All that the role of endpoint `name` needs, a grant each."""
        through_s3 = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
        listing = {"StringLike": {"s3:prefix": ["models/*"]}}
        grant = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
        place = f"{REGION}:{ACCOUNT}"
        group = f"arn:aws:logs:{place}:log-group:/aws/sagemaker/Endpoints/{name}:*"
        needs: list[tuple[str, str, dict[str, Any]]] = [
            ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/models/*", {}),
            ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", listing),
            ("kms:Decrypt", self.key, through_s3),
            ("kms:CreateGrant", self.key, grant),
            ("kms:DescribeKey", self.key, {}),
            ("ecr:GetAuthorizationToken", "*", {}),
            ("ecr:BatchGetImage", REPOSITORY, {}),
            ("ecr:GetDownloadUrlForLayer", REPOSITORY, {}),
            ("ecr:BatchCheckLayerAvailability", REPOSITORY, {}),
            ("logs:CreateLogStream", group, {}),
            ("logs:PutLogEvents", group, {}),
            ("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{place}:alarm:{ALARM}", {}),
        ]
        return [
            {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition}
            for action, resource, condition in needs
        ]

    def endpoint(self, name: str, *lacking: str) -> dict[str, Any]:
        """An endpoint under a role without some grants, once it has settled."""
        iam, sagemaker = self.emulator.aws("iam"), self.emulator.aws("sagemaker")
        role = self.emulator.role(name)
        iam.delete_role_policy(RoleName=name, PolicyName="service")
        kept = [each for each in self.statements(name) if each["Action"] not in lacking]
        document = json.dumps({"Version": "2012-10-17", "Statement": kept})
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document)
        source = {"S3Uri": f"s3://{BUCKET}/models/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
        for number in (1, 2):
            sagemaker.create_model(
                ModelName=f"{name}-{number}",
                ExecutionRoleArn=role,
                PrimaryContainer=container | {"Environment": {"FAKE_NAME": f"{name}-{number}"}},
            )
            variant: dict[str, Any] = {"VariantName": "champion", "ModelName": f"{name}-{number}"}
            variant |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            sagemaker.create_endpoint_config(
                EndpointConfigName=f"{name}-{number}", ProductionVariants=[variant], KmsKeyId=self.key
            )
        self.emulator.aws("logs").create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1")
        return self.emulator.settled(name)

    def updated(self, name: str) -> dict[str, Any]:
        """The endpoint after a guarded update to the other model."""
        shift = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
        self.emulator.aws("sagemaker").update_endpoint(
            EndpointName=name,
            EndpointConfigName=f"{name}-2",
            DeploymentConfig={
                "BlueGreenUpdatePolicy": shift,
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": ALARM}]},
            },
        )
        return self.emulator.settled(name)

    def lines(self, name: str) -> list[str]:
        """What the containers logged."""
        found = self.emulator.aws("logs").filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")
        return [event["message"] for event in found["events"]]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    cloud = Emulator(tmp_path_factory.mktemp("roles"))
    cloud.start()
    try:
        key = cloud.aws("kms").create_key()["KeyMetadata"]["Arn"]
        s3 = cloud.aws("s3")
        s3.create_bucket(Bucket=BUCKET)
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
        s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
        s3.put_object(Bucket=BUCKET, Key="models/m/weights", Body=b"w")
        cloud.aws("cloudwatch").put_metric_alarm(
            AlarmName=ALARM, Namespace="Test", MetricName="errors", Statistic="Sum", Period=60,
            EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
        )  # fmt: skip
        yield Account(cloud, key)
    finally:
        cloud.end()


def test_with_all_its_grants_the_endpoint_serves_logs_and_is_updated(account: Account) -> None:
    found = account.endpoint("whole")

    assert found["EndpointStatus"] == "InService", found.get("FailureReason")
    until(lambda: account.lines("whole"), "its lines arrive")
    assert account.updated("whole")["EndpointConfigName"] == "whole-2"


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("s3:GetObject", "Could not access model data"),
        ("s3:ListBucket", "Could not access model data"),
        ("kms:Decrypt", "Could not access model data"),
        ("kms:CreateGrant", "kms:CreateGrant on resource"),
        ("kms:DescribeKey", "kms:DescribeKey on resource"),
        ("ecr:GetAuthorizationToken", "does not have GetAuthorizationToken permission for the image"),
        ("ecr:BatchGetImage", "does not have BatchGetImage permission for the image"),
        ("ecr:GetDownloadUrlForLayer", "does not have GetDownloadUrlForLayer permission for the image"),
        ("ecr:BatchCheckLayerAvailability", "does not have BatchCheckLayerAvailability permission for"),
    ],
)
def test_without_a_grant_the_endpoint_fails_and_says_which(
    account: Account, action: str, reason: str
) -> None:
    found = account.endpoint(action.replace(":", "-").lower(), action)

    assert found["EndpointStatus"] == "Failed"
    assert reason in found["FailureReason"]


def test_a_condition_that_describe_key_never_carries_allows_nothing(account: Account) -> None:
    """As it once stood in the templates: both actions in one statement."""
    name = "conditioned"
    together: dict[str, Any] = {
        "Effect": "Allow",
        "Action": ["kms:CreateGrant", "kms:DescribeKey"],
        "Resource": account.key,
    }
    together["Condition"] = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    account.emulator.role(name, json.dumps({"Version": "2012-10-17", "Statement": [together]}))

    found = account.endpoint(name, "kms:CreateGrant", "kms:DescribeKey")

    assert "kms:DescribeKey" in found.get("FailureReason", "")


@pytest.mark.parametrize("action", ["logs:CreateLogStream", "logs:PutLogEvents"])
def test_without_a_right_to_the_group_there_are_no_lines_and_no_complaint(
    account: Account, action: str
) -> None:
    name = action.replace(":", "-").lower()

    assert account.endpoint(name, action)["EndpointStatus"] == "InService"
    for _ in range(5):  # longer than lines take to arrive
        with contextlib.suppress(Exception):
            account.emulator.invoke(name)
        time.sleep(0.3)
    assert account.lines(name) == []


def test_without_sight_of_its_alarms_an_update_goes_back(account: Account) -> None:
    assert account.endpoint("blind", "cloudwatch:DescribeAlarms")["EndpointStatus"] == "InService"

    found = account.updated("blind")

    assert found["EndpointConfigName"] == "blind-1"
    assert f"cloudwatch:DescribeAlarms on resource: arn:aws:cloudwatch:{REGION}" in found["FailureReason"]
