"""What is looked up after a failure: artefact, image, quota, alarms.

Each function adds sentences to the findings; the table of causes reads them (`facts` in causes.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError
from pydantic import ValidationError

from contracts import serving_state
from contracts.artefact import MANIFEST_NAME, Manifest
from contracts.container import HOOK_FILE
from operations.diagnosis.evidence import Findings, Source

_ECR = re.compile(
    r"^(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.\S+?/(?P<repository>[^:@]+)"
    r"(?::(?P<tag>[^@]+)|@(?P<digest>sha256:[0-9a-f]+))"
)
_S3 = re.compile(r"^s3://(?P<bucket>[^/]+)/(?P<prefix>.*)$")
_MISSING_IMAGE = ("ImageNotFoundException", "RepositoryNotFoundException")
_ALARM_TYPES = ["MetricAlarm", "CompositeAlarm"]  # without them CloudWatch tells of metric alarms alone
_FIRST_REGION = "us-east-1"  # whose buckets have no location constraint


def look_at_artefact(
    findings: Findings, s3: Any, uri: str, region: str, *, hook: bool, digest: str = ""
) -> None:
    """Whether the artefact is there, whole and in this region.

    Args:
        findings: Where sentences are added.
        s3: Client of the region.
        uri: `s3://` prefix of the artefact.
        region: The environment's region.
        hook: Whether it must hold our hook for the engine.
        digest: SHA-256 of the manifest that the stack asks for; empty where it asks for none.
    """
    match = _S3.match(uri)
    if not match:
        return
    bucket, prefix = match["bucket"], match["prefix"]
    location = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or _FIRST_REGION
    if location != region:
        findings.add(
            Source.REGION, f"bucket {bucket} is in region {location}, and the environment is in {region}"
        )
        return
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    sizes = {
        entry["Key"].removeprefix(prefix): entry["Size"]
        for page in pages
        for entry in page.get("Contents", [])
    }
    if not sizes:
        findings.add(Source.ARTEFACT, f"there is no object under {uri}")
        return
    if hook and HOOK_FILE not in sizes:
        findings.add(Source.ARTEFACT, f"{HOOK_FILE} is missing under {uri}")
    if MANIFEST_NAME not in sizes:
        if digest:  # without one nobody reads the manifest
            findings.add(Source.ARTEFACT, f"{MANIFEST_NAME} is missing under {uri}")
        return
    try:
        body = s3.get_object(Bucket=bucket, Key=prefix + MANIFEST_NAME)["Body"].read()
        manifest = Manifest.model_validate_json(body)
    except ValidationError:
        findings.add(Source.ARTEFACT, f"{MANIFEST_NAME} under {uri} is not a manifest")
        return
    if digest and manifest.digest != digest:
        words = f"the manifest under {uri} has the digest {manifest.digest}, and the stack asks for {digest}"
        findings.add(Source.ARTEFACT, words)
    for entry in manifest.files:
        if entry.path not in sizes:
            findings.add(Source.ARTEFACT, f"{entry.path} is missing under {uri}")
        elif sizes[entry.path] != entry.bytes:
            words = (
                f"{entry.path} has {sizes[entry.path]} bytes under {uri}, and {entry.bytes} in the manifest"
            )
            findings.add(Source.ARTEFACT, words)


def look_at_image(findings: Findings, ecr: Any, uri: str, region: str) -> None:
    """Whether the image is of this region, and in its registry where that may be read."""
    match = _ECR.match(uri)
    if not match:
        return
    if match["region"] != region:
        there = f"image {uri} is in region {match['region']}, and the environment is in {region}"
        findings.add(Source.REGION, there)
    image = {"imageTag": match["tag"]} if match["tag"] else {"imageDigest": match["digest"]}
    try:
        ecr.describe_images(
            registryId=match["registry"], repositoryName=match["repository"], imageIds=[image]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in _MISSING_IMAGE:
            raise
        findings.add(Source.IMAGE, f"image {uri} is not in the registry")


def look_at_quotas(findings: Findings, quotas: Any, types: Iterable[str], needed: int) -> None:
    """Whether the account may run as many instances of each type for endpoints as are needed."""
    names = {f"{name} for endpoint usage": name for name in types}
    pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    for quota in (entry for page in pages for entry in page["Quotas"]):
        name = quota["QuotaName"]
        if name in names and quota["Value"] < needed:
            findings.add(
                Source.QUOTA, f"the quota '{name}' is {quota['Value']:.0f}, and the endpoint needs {needed}"
            )


def look_at_alarms(findings: Findings, cloudwatch: Any, prefix: str) -> None:
    """The environment's alarms that are in ALARM now."""
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=prefix, StateValue="ALARM", AlarmTypes=_ALARM_TYPES
    )
    for page in pages:
        for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]:
            reason = alarm.get("StateReason", "")
            findings.add(Source.ALARM, f"is in ALARM: {reason}", alarm["AlarmName"])
            findings.failures.append(f"alarm {alarm['AlarmName']} is in ALARM")


def look_at_rollback_alarms(
    findings: Findings, cloudwatch: Any, names: Iterable[str], since: datetime
) -> None:
    """Which of the alarms that roll an update back went off since it began, or were on already."""
    history = [
        item
        for name in names
        for item in cloudwatch.describe_alarm_history(
            AlarmName=name, AlarmTypes=_ALARM_TYPES, HistoryItemType="StateUpdate"
        )["AlarmHistoryItems"]
    ]
    for alarm in serving_state.tripped_alarms([], history, since):
        findings.add(Source.ALARM, "was in ALARM during the update", subject=alarm.name)
