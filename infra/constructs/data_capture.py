"""SageMaker's own copies of requests and answers: unmasked, so only where settings ask."""

from __future__ import annotations

from aws_cdk import aws_s3 as s3

from infra.constructs.encryption import EncryptionKey
from infra.constructs.execution_role import ExecutionRole

CAPTURED = "captured/"


def capture_config(bucket: s3.IBucket, key: EncryptionKey, percent: int) -> dict[str, object]:
    """An endpoint config's DataCaptureConfig, in CloudFormation's own terms."""
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": percent,
        "DestinationS3Uri": f"s3://{bucket.bucket_name}/{CAPTURED}",
        "KmsKeyId": key.key_arn,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }


def grant_capture(role: ExecutionRole, bucket: s3.IBucket, key: EncryptionKey) -> None:
    """Let containers' role write copies, and nothing else, there."""
    why = "Each copy is an object of its own, named by SageMaker by day and hour."
    role.allow_objects(bucket, key, CAPTURED, why, write=True)
