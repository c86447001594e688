"""The data plane against real processes: what reaches the container and what comes back to the caller."""

from __future__ import annotations

import json

import pytest

from local.sagemaker.data_plane import container_call, runtime_api
from tests.support.sagemaker import SageMakerHarness, collect, eventually, scenario, variant


async def serve(harness: SageMakerHarness, *variants: dict, **more: object) -> None:
    """Endpoint `e` with a model per variant, named as the variant's model."""
    for each in (*variants, *more.get("ShadowProductionVariants", [])):
        harness.model(each["ModelName"])
    harness.config("c", *variants, **more)
    assert (await harness.endpoint())["EndpointStatus"] == "InService"


@scenario
async def test_a_whole_reply(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    reply = await harness.invoke(
        b'{"a": 1}',
        Content_Type="application/json",
        Accept="text/plain",
        X_Amzn_SageMaker_Custom_Attributes="request_id=7",
        X_Amzn_SageMaker_Inference_Id="i7",
        X_Amzn_SageMaker_Session_Id="s7",
        Authorization="secret",
        X_Forwarded_For="1.2.3.4",
    )
    seen = json.loads(reply.body)
    assert reply.status == 200
    assert seen["body"] == '{"a": 1}'
    assert {name for name in seen["headers"] if name not in ("host", "content-length")} == {
        "content-type",
        "accept",
        "x-amzn-sagemaker-custom-attributes",
        "x-amzn-sagemaker-inference-id",
        "x-amzn-sagemaker-session-id",
    }
    assert seen["headers"]["accept"] == "text/plain"
    assert reply.headers == {
        "x-Amzn-Invoked-Production-Variant": "champion",
        "X-Amzn-SageMaker-Custom-Attributes": "name=m",
        "Content-Type": "application/json",
    }


@scenario
async def test_a_streamed_reply_arrives_piece_by_piece(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    reply = await harness.invoke(b'{"chunks": 3, "pause": 0.2}', stream=True)
    assert reply.headers["Content-Type"] == "application/vnd.amazon.eventstream"
    assert reply.headers["X-Amzn-SageMaker-Content-Type"] == "text/event-stream"
    payload, headers = await collect(reply)
    assert payload == b"chunk 0\nchunk 1\nchunk 2\n"
    assert [each[":event-type"] for each in headers] == ["PayloadPart"] * 3


@scenario
async def test_a_caller_who_leaves_ends_the_containers_work(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    reply = await harness.invoke(b'{"chunks": 10000, "pause": 0.02}', stream=True)
    await anext(reply.body)
    await reply.body.aclose()
    await eventually(
        lambda: any("caller left" in line for _, _, line in harness.cloud.lines), "the container notices"
    )
    (pool,) = harness.sagemaker.deployments.live["e"].blue.pools
    assert pool.outstanding == 0


@scenario
async def test_a_stream_that_is_never_read_is_released(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    reply = await harness.invoke(b'{"chunks": 100, "pause": 0.02}', stream=True)
    (pool,) = harness.sagemaker.deployments.live["e"].blue.pools
    assert pool.outstanding == 1
    await reply.body.aclose()
    assert pool.outstanding == 0


@scenario
async def test_a_container_that_breaks_off_midstream(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    payload, headers = await collect(await harness.invoke(b'{"chunks": 5, "break_at": 1}', stream=True))
    assert payload == b"chunk 0\nchunk 1\n"
    assert headers[-1][":exception-type"] == "ModelStreamError"
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("MidStreamErrors", "champion") == 1
    assert harness.cloud.total("InvocationModelErrors", "champion") == 1


@scenario
async def test_a_container_that_dies_before_it_answers(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    reply = await harness.invoke(b'{"exit": true}', stream=True)
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("Invocation5XXErrors", "champion") == 1
    assert harness.cloud.total("InvocationModelErrors", "champion") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "side"), [(400, "client"), (503, "server")])
def test_a_containers_error_is_a_model_error(tmp_path, stream: bool, status: int, side: str) -> None:
    @scenario
    async def run(harness: SageMakerHarness) -> None:
        await serve(harness, variant())
        order = json.dumps({"status": status, "reply": "no"}).encode()
        reply = await harness.invoke(order, stream=stream)
        error = json.loads(reply.body)
        assert reply.status == 424
        assert reply.headers["x-amzn-ErrorType"] == "ModelError"
        assert error["OriginalStatusCode"] == status
        assert error["OriginalMessage"] == "no"
        assert error["LogStreamArn"].endswith("log-group:/aws/sagemaker/Endpoints/e")
        assert f'Received {side} error ({status}) from primary with message "no".' in error["Message"]

    run(tmp_path)


@scenario
async def test_an_invocation_that_takes_too_long(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container_call, "WHOLE_SECONDS", 0.3)
        patch.setattr(container_call, "STREAM_SECONDS", 8.0)
        reply = await harness.invoke(b'{"sleep": 30}')
        assert reply.status == 424
        assert b"Your invocation timed out while waiting" in reply.body
        _, headers = await collect(await harness.invoke(b'{"chunks": 100, "pause": 0.5}', stream=True))
        assert headers[0][":event-type"] == "PayloadPart"
        assert headers[-1][":exception-type"] == "ModelStreamError"


@scenario
async def test_requests_that_never_reach_a_container(harness: SageMakerHarness) -> None:
    await serve(harness, variant())

    async def refused(status: int, code: str, words: str, **request: object) -> None:
        reply = await harness.invoke(**request)
        assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (status, code)
        assert words in json.loads(reply.body)["Message"]

    await refused(
        400,
        "ValidationError",
        "Endpoint evergreen-x of account 123456789012 not found.",
        endpoint="evergreen-x",
    )
    await refused(400, "ValidationError", "Variant nope", X_Amzn_SageMaker_Target_Variant="nope")
    await refused(400, "ValidationError", "TargetModel", X_Amzn_SageMaker_Target_Model="m.tar.gz")
    await refused(400, "ValidationError", "customAttributes", X_Amzn_SageMaker_Custom_Attributes="a" * 1025)
    asynchronous = await harness.sagemaker.runtime.handle("/endpoints/e/async-invocations", {}, b"")
    assert (asynchronous.status, asynchronous.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    too_large = b"x" * (runtime_api.MAX_BODY_BYTES + 1)
    await refused(413, "413", "exceeded 6291456 bytes", body=too_large)
    assert (await harness.invoke(b"x" * runtime_api.MAX_BODY_BYTES)).status == 200


@scenario
async def test_weights_and_the_target_variant(harness: SageMakerHarness) -> None:
    await serve(
        harness, variant("a", "ma", InitialVariantWeight=1.0), variant("b", "mb", InitialVariantWeight=0.0)
    )

    async def answered_by(**headers: str) -> str:
        reply = await harness.invoke(**headers)
        assert json.loads(reply.body)["name"] == "m" + reply.headers["x-Amzn-Invoked-Production-Variant"]
        return reply.headers["x-Amzn-Invoked-Production-Variant"]

    assert {await answered_by() for _ in range(20)} == {"a"}
    assert await answered_by(X_Amzn_SageMaker_Target_Variant="b") == "b"
    harness.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0.0},
            {"VariantName": "b", "DesiredWeight": 3.0},
        ],
    )
    described = await harness.settled()
    assert [each["CurrentWeight"] for each in described["ProductionVariants"]] == [0.0, 3.0]
    assert {await answered_by() for _ in range(20)} == {"b"}


@scenario
async def test_a_shadow_gets_copies_and_the_caller_never_notices(harness: SageMakerHarness) -> None:
    await serve(
        harness, variant(), ShadowProductionVariants=[variant("shadow", "ms", InitialVariantWeight=1.0)]
    )
    for _ in range(5):
        reply = await harness.invoke(b"{}")
        assert json.loads(reply.body)["name"] == "m"
    await eventually(lambda: not harness.sagemaker.runtime.shadow_traffic.busy, "the copies are done")
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("Invocations", "shadow") == 5
    assert harness.cloud.total("Invocations", "champion") == 5
    refused = await harness.invoke(X_Amzn_SageMaker_Target_Variant="shadow")
    assert refused.status == 400


@scenario
async def test_metrics_of_good_and_bad_requests(harness: SageMakerHarness) -> None:
    await serve(harness, variant())
    await harness.invoke(b"{}")
    await harness.invoke(b'{"status": 404, "reply": ""}')
    await harness.invoke(b'{"status": 500, "reply": ""}')
    await collect(await harness.invoke(b'{"chunks": 1}', stream=True))
    harness.sagemaker.metric_buffer.flush()
    expected = {
        "Invocations": 4,
        "Invocation4XXErrors": 1,
        "Invocation5XXErrors": 1,
        "InvocationModelErrors": 2,
        "MidStreamErrors": 0,
        "InvocationsPerInstance": 4,
    }
    assert {name: harness.cloud.total(name, "champion") for name in expected} == expected
    units = {datum["MetricName"]: datum["Unit"] for _, datum in harness.cloud.metrics}
    assert units["ModelLatency"] == units["OverheadLatency"] == units["FirstChunkLatency"] == "Microseconds"
    assert harness.cloud.total("ModelLatency", "champion") > 0
    assert {namespace for namespace, _ in harness.cloud.metrics} == {"AWS/SageMaker"}
