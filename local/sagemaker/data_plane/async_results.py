"""What an asynchronous request reads and leaves behind: objects in S3, and the notice that a topic gets."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

from local.sagemaker.instances.model_data import s3_prefix
from local.sagemaker.records import AsyncRequestRecord, JsonObject

MAX_INPUT_BYTES = 64 * 1024**2
"""A limit of the laptop's: AWS takes inputs of up to 1 GB."""


class AsyncInferenceError(Exception):
    """An inference that has failed for good, in words for the failure file and the notification."""


def read_input(s3: Any, item: AsyncRequestRecord) -> bytes:
    """The request's own body or the object that it names. Raises AsyncInferenceError, botocore's errors."""
    if item["Body"] is not None:
        return base64.b64decode(item["Body"])
    source = s3_prefix(item["Params"]["InputLocation"])
    found = s3.get_object(Bucket=source.bucket, Key=source.key)
    if found["ContentLength"] > MAX_INPUT_BYTES:
        raise AsyncInferenceError(
            f"The input is larger than {MAX_INPUT_BYTES} bytes, the laptop cloud's limit."
        )
    return bytes(found["Body"].read())


def write_object(s3: Any, location: str, body: bytes, content_type: str) -> bytes:
    """Put an object at `s3://bucket/key`; answers nothing, in bytes. Raises botocore's errors."""
    target = s3_prefix(location)
    s3.put_object(Bucket=target.bucket, Key=target.key, Body=body, ContentType=content_type)
    return b""


def notification_of(item: AsyncRequestRecord, region: str, failure: str, content_type: str) -> JsonObject:
    """What a topic gets, in the shape of the service's own notifications."""
    params = item["Params"]
    fields = (("accept", "Accept"), ("contentType", "ContentType"), ("customAttributes", "CustomAttributes"))
    asked = {ours: params[theirs] for ours, theirs in fields if theirs in params}
    if "InputLocation" in params:
        asked["inputLocation"] = params["InputLocation"]
    notice: JsonObject = {
        "awsRegion": region,
        "eventTime": _iso(time.time()),
        "receivedTime": _iso(item["Received"]),
        "invocationStatus": "Failed" if failure else "Completed",
        "requestParameters": {"endpointName": item["EndpointName"], **asked},
        "inferenceId": item["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    if failure:
        notice["failureReason"] = failure
        if "FailureLocation" in item:
            notice["responseParameters"] = {"failureLocation": item["FailureLocation"]}
    else:
        notice["responseParameters"] = {"contentType": content_type, "outputLocation": item["OutputLocation"]}
    return notice


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
