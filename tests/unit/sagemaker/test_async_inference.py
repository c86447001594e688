"""Asynchronous endpoints: a queue in front, S3 on both sides, a notification at the end."""

from __future__ import annotations

import asyncio
import functools
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.support.sagemaker import RecordedCloud, SageMakerHarness, build, eventually, gate, variant, waiting

OUTPUT = {
    "S3OutputPath": "s3://out/results",
    "S3FailurePath": "s3://out/failures",
    "NotificationConfig": {"SuccessTopic": "arn:aws:sns:us-east-1:123456789012:good"}
    | {"ErrorTopic": "arn:aws:sns:us-east-1:123456789012:bad"},
}


class Shelf:
    """An S3 of a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        body = self.objects.get(f"s3://{Bucket}/{Key}")
        if body is None:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "no such key"}}, "GetObject")
        return {"Body": io.BytesIO(body), "ContentLength": len(body)}

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:
        self.objects[f"s3://{Bucket}/{Key}"] = Body


Play = Callable[[SageMakerHarness, Shelf], Awaitable[None]]


def with_shelf(test: Play) -> Callable[[Path], None]:
    """A pytest test of a coroutine that takes an asynchronous endpoint `e`."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        async def drive() -> None:
            cloud, shelf = RecordedCloud(), Shelf()
            harness = SageMakerHarness(build(tmp_path, cloud, s3=lambda _: shelf), cloud)
            await harness.sagemaker.start()
            try:
                harness.model("m")
                more = {"ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}, "OutputConfig": OUTPUT}
                harness.config("c", variant(), AsyncInferenceConfig=more)
                assert (await harness.endpoint())["EndpointStatus"] == "InService"
                await test(harness, shelf)
            finally:
                await harness.sagemaker.stop()

        asyncio.run(drive())

    del run.__wrapped__  # pytest would ask for the coroutine's arguments
    return run


async def submit(harness: SageMakerHarness, body: bytes = b"", **headers: str) -> Any:
    named = {f"x-amzn-sagemaker-{name.replace('_', '-')}": value for name, value in headers.items()}
    return await harness.sagemaker.runtime.handle("/endpoints/e/async-invocations", named, body)


@with_shelf
async def test_a_request_goes_from_s3_to_s3_and_is_announced(harness: SageMakerHarness, shelf: Shelf) -> None:
    shelf.objects["s3://in/one.json"] = b'{"a": 1}'
    reply = await submit(
        harness, inputlocation="s3://in/one.json", content_type="application/json", inference_id="mine"
    )
    assert reply.status == 202
    assert json.loads(reply.body) == {"InferenceId": "mine"}
    location = reply.headers["X-Amzn-SageMaker-OutputLocation"]
    assert location.startswith("s3://out/results/")
    assert reply.headers["X-Amzn-SageMaker-FailureLocation"].endswith("-error.out")
    await eventually(lambda: bool(harness.cloud.published), "the topic is notified")
    answer = json.loads(shelf.objects[location])
    assert answer["body"] == '{"a": 1}'
    assert answer["headers"]["content-type"] == "application/json"
    topic, message = harness.cloud.published[0]
    notice = json.loads(message)
    assert topic.endswith(":good")
    assert notice["invocationStatus"] == "Completed"
    assert notice["inferenceId"] == "mine"
    assert notice["requestParameters"]["inputLocation"] == "s3://in/one.json"
    assert notice["responseParameters"]["outputLocation"] == location
    await eventually(lambda: not harness.sagemaker.store.async_requests, "the queue is empty")


@with_shelf
async def test_what_goes_wrong_is_in_the_failure_file_and_on_the_error_topic(
    harness: SageMakerHarness, shelf: Shelf
) -> None:
    await submit(harness, inputlocation="s3://in/missing.json")
    reply = await submit(harness, b'{"status": 500, "reply": "broken"}')
    await eventually(lambda: len(harness.cloud.published) == 2, "both outcomes are announced")
    assert {topic.rpartition(":")[2] for topic, _ in harness.cloud.published} == {"bad"}
    notices = [json.loads(message) for _, message in harness.cloud.published]
    assert {notice["invocationStatus"] for notice in notices} == {"Failed"}
    assert any("no such key" in notice["failureReason"] for notice in notices)
    text = shelf.objects[reply.headers["X-Amzn-SageMaker-FailureLocation"]].decode()
    assert 'Received server error (500) from primary with message "broken"' in text
    harness.sagemaker.metric_buffer.flush()
    names = {datum["MetricName"] for _, datum in harness.cloud.metrics}
    assert "InvocationFailures" in names


@with_shelf
async def test_a_backlog_waits_for_an_endpoint_at_zero_and_is_measured(
    harness: SageMakerHarness, shelf: Shelf
) -> None:
    async def scaled(count: int) -> None:
        harness.call(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="e",
            DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredInstanceCount": count}],
        )
        assert (await harness.settled())["ProductionVariants"][0]["CurrentInstanceCount"] == count

    await scaled(0)
    for _ in range(3):
        assert (await submit(harness, b"{}")).status == 202
    record = harness.sagemaker.store.endpoints.get("e")
    harness.sagemaker.queue.measure(record, harness.sagemaker.deployments.live["e"].pools())
    harness.sagemaker.metric_buffer.flush()
    backlog = {
        datum["MetricName"]: datum["Values"]
        for _, datum in harness.cloud.metrics
        if datum["Dimensions"] == [{"Name": "EndpointName", "Value": "e"}]
    }
    assert backlog["ApproximateBacklogSize"] == [3.0]
    assert backlog["HasBacklogWithoutCapacity"] == [1.0]
    assert "ApproximateBacklogSizePerInstance" not in backlog
    assert len(json.loads(json.dumps(harness.sagemaker.dump()))["async-requests"]) == 3
    await scaled(1)
    await eventually(lambda: len(shelf.objects) == 3, "all are answered")


@with_shelf
async def test_a_request_that_waited_too_long_fails(harness: SageMakerHarness, shelf: Shelf) -> None:
    with gate() as file:
        slow = await submit(harness, waiting(file))
        reply = await submit(harness, b"{}", requestttlseconds="60")
        harness.sagemaker.store.async_requests[-1]["Received"] -= 61
        await eventually(lambda: len(harness.cloud.published) == 1, "the second has expired")
        file.touch()
        await eventually(lambda: len(harness.cloud.published) == 2, "the first is done")
    failure = shelf.objects[reply.headers["X-Amzn-SageMaker-FailureLocation"]].decode()
    assert "RequestTTLSeconds" in failure
    assert slow.headers["X-Amzn-SageMaker-OutputLocation"] in shelf.objects


@with_shelf
async def test_what_an_asynchronous_endpoint_refuses(harness: SageMakerHarness, shelf: Shelf) -> None:
    refused = [
        (await submit(harness), "Exactly one of InputLocation and Body"),
        (await submit(harness, b"{}", inputlocation="s3://b/k"), "Exactly one of InputLocation and Body"),
        (await submit(harness, inputlocation="https://b/k"), "must be an S3 URI"),
        (await submit(harness, b"{}", requestttlseconds="59"), "requestTTLSeconds"),
        (await submit(harness, b"x" * 128_001), "128000"),
        (await harness.invoke(), "is asynchronous"),
    ]
    for reply, words in refused:
        assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
        assert words in json.loads(reply.body)["Message"]
    assert shelf.objects == {}
