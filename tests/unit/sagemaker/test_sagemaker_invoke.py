"""The data plane against real processes: what reaches the container and what comes back to the caller."""

from __future__ import annotations

import json

import pytest

from local.sagemaker.data_plane import container_call
from local.sagemaker.data_plane import runtime_api as invoke
from tests.support.sagemaker import Bench, collect, eventually, scenario, variant


async def serve(bench: Bench, *variants: dict, **more: object) -> None:
    """Endpoint `e` with a model per variant, named as the variant's model."""
    for each in (*variants, *more.get("ShadowProductionVariants", [])):
        bench.model(each["ModelName"])
    bench.config("c", *variants, **more)
    assert (await bench.endpoint())["EndpointStatus"] == "InService"


@scenario
async def test_a_whole_reply(bench: Bench) -> None:
    await serve(bench, variant())
    reply = await bench.invoke(
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
async def test_a_streamed_reply_arrives_piece_by_piece(bench: Bench) -> None:
    await serve(bench, variant())
    reply = await bench.invoke(b'{"chunks": 3, "pause": 0.2}', stream=True)
    assert reply.headers["Content-Type"] == "application/vnd.amazon.eventstream"
    assert reply.headers["X-Amzn-SageMaker-Content-Type"] == "text/event-stream"
    payload, headers = await collect(reply)
    assert payload == b"chunk 0\nchunk 1\nchunk 2\n"
    assert [each[":event-type"] for each in headers] == ["PayloadPart"] * 3


@scenario
async def test_a_caller_who_leaves_ends_the_containers_work(bench: Bench) -> None:
    await serve(bench, variant())
    reply = await bench.invoke(b'{"chunks": 10000, "pause": 0.02}', stream=True)
    await anext(reply.body)
    await reply.body.aclose()
    await eventually(
        lambda: any("caller left" in line for _, _, line in bench.cloud.lines), "the container notices"
    )
    (pool,) = bench.sagemaker.deployments.live["e"].blue.pools
    assert pool.outstanding == 0


@scenario
async def test_a_stream_that_is_never_read_is_released(bench: Bench) -> None:
    await serve(bench, variant())
    reply = await bench.invoke(b'{"chunks": 100, "pause": 0.02}', stream=True)
    (pool,) = bench.sagemaker.deployments.live["e"].blue.pools
    assert pool.outstanding == 1
    await reply.body.aclose()
    assert pool.outstanding == 0


@scenario
async def test_a_container_that_breaks_off_midstream(bench: Bench) -> None:
    await serve(bench, variant())
    payload, headers = await collect(await bench.invoke(b'{"chunks": 5, "break_at": 1}', stream=True))
    assert payload == b"chunk 0\nchunk 1\n"
    assert headers[-1][":exception-type"] == "ModelStreamError"
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("MidStreamErrors", "champion") == 1
    assert bench.cloud.total("InvocationModelErrors", "champion") == 1


@scenario
async def test_a_container_that_dies_before_it_answers(bench: Bench) -> None:
    await serve(bench, variant())
    reply = await bench.invoke(b'{"exit": true}', stream=True)
    assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("Invocation5XXErrors", "champion") == 1
    assert bench.cloud.total("InvocationModelErrors", "champion") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "side"), [(400, "client"), (503, "server")])
def test_a_containers_error_is_a_model_error(tmp_path, stream: bool, status: int, side: str) -> None:
    @scenario
    async def play(bench: Bench) -> None:
        await serve(bench, variant())
        order = json.dumps({"status": status, "reply": "no"}).encode()
        reply = await bench.invoke(order, stream=stream)
        error = json.loads(reply.body)
        assert reply.status == 424
        assert reply.headers["x-amzn-ErrorType"] == "ModelError"
        assert error["OriginalStatusCode"] == status
        assert error["OriginalMessage"] == "no"
        assert error["LogStreamArn"].endswith("log-group:/aws/sagemaker/Endpoints/e")
        assert f'Received {side} error ({status}) from primary with message "no".' in error["Message"]

    play(tmp_path)


@scenario
async def test_an_invocation_that_takes_too_long(bench: Bench) -> None:
    await serve(bench, variant())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container_call, "WHOLE_SECONDS", 0.3)
        patch.setattr(container_call, "STREAM_SECONDS", 1.5)
        reply = await bench.invoke(b'{"sleep": 30}')
        assert reply.status == 424
        assert b"Your invocation timed out while waiting" in reply.body
        _, headers = await collect(await bench.invoke(b'{"chunks": 100, "pause": 0.5}', stream=True))
        assert headers[0][":event-type"] == "PayloadPart"
        assert headers[-1][":exception-type"] == "ModelStreamError"


@scenario
async def test_requests_that_never_reach_a_container(bench: Bench) -> None:
    await serve(bench, variant())

    async def refused(status: int, code: str, words: str, **request: object) -> None:
        reply = await bench.invoke(**request)
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
    asynchronous = await bench.sagemaker.runtime.handle("/endpoints/e/async-invocations", {}, b"")
    assert (asynchronous.status, asynchronous.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    too_large = b"x" * (invoke.MAX_BODY_BYTES + 1)
    await refused(413, "413", "exceeded 6291456 bytes", body=too_large)
    assert (await bench.invoke(b"x" * invoke.MAX_BODY_BYTES)).status == 200


@scenario
async def test_weights_and_the_target_variant(bench: Bench) -> None:
    await serve(
        bench, variant("a", "ma", InitialVariantWeight=1.0), variant("b", "mb", InitialVariantWeight=0.0)
    )

    async def answered_by(**headers: str) -> str:
        reply = await bench.invoke(**headers)
        assert json.loads(reply.body)["name"] == "m" + reply.headers["x-Amzn-Invoked-Production-Variant"]
        return reply.headers["x-Amzn-Invoked-Production-Variant"]

    assert {await answered_by() for _ in range(20)} == {"a"}
    assert await answered_by(X_Amzn_SageMaker_Target_Variant="b") == "b"
    bench.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0.0},
            {"VariantName": "b", "DesiredWeight": 3.0},
        ],
    )
    described = await bench.settled()
    assert [each["CurrentWeight"] for each in described["ProductionVariants"]] == [0.0, 3.0]
    assert {await answered_by() for _ in range(20)} == {"b"}


@scenario
async def test_a_shadow_gets_copies_and_the_caller_never_notices(bench: Bench) -> None:
    await serve(
        bench, variant(), ShadowProductionVariants=[variant("shadow", "ms", InitialVariantWeight=1.0)]
    )
    for _ in range(5):
        reply = await bench.invoke(b"{}")
        assert json.loads(reply.body)["name"] == "m"
    await eventually(lambda: not bench.sagemaker.runtime.mirror.busy, "the copies are done")
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("Invocations", "shadow") == 5
    assert bench.cloud.total("Invocations", "champion") == 5
    refused = await bench.invoke(X_Amzn_SageMaker_Target_Variant="shadow")
    assert refused.status == 400


@scenario
async def test_metrics_of_good_and_bad_requests(bench: Bench) -> None:
    await serve(bench, variant())
    await bench.invoke(b"{}")
    await bench.invoke(b'{"status": 404, "reply": ""}')
    await bench.invoke(b'{"status": 500, "reply": ""}')
    await collect(await bench.invoke(b'{"chunks": 1}', stream=True))
    bench.sagemaker.meter.flush()
    expected = {
        "Invocations": 4,
        "Invocation4XXErrors": 1,
        "Invocation5XXErrors": 1,
        "InvocationModelErrors": 2,
        "MidStreamErrors": 0,
        "InvocationsPerInstance": 4,
    }
    assert {name: bench.cloud.total(name, "champion") for name in expected} == expected
    units = {datum["MetricName"]: datum["Unit"] for _, datum in bench.cloud.metrics}
    assert units["ModelLatency"] == units["OverheadLatency"] == units["FirstChunkLatency"] == "Microseconds"
    assert bench.cloud.total("ModelLatency", "champion") > 0
    assert {namespace for namespace, _ in bench.cloud.metrics} == {"AWS/SageMaker"}
