"""The door before other kinds of endpoint: a component is called by name, whole answers become streams."""

from __future__ import annotations

import json
from collections.abc import Callable

from contracts.fallback import FallbackTarget
from lambdas.pipeline.environment import InferenceEnvironment
from lambdas.runtime.environment import load
from tests.support.fake_model_endpoint import FakeSageMaker, Reply, chat_events
from tests.support.front_door import ENDPOINT, SETTINGS, Door, chat, events

COMPONENT = "evergreen-test-base"
ASLEEP = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress."
)


def door_before(sagemaker: FakeSageMaker, make_door: Callable[..., Door], **changes: object) -> Door:
    settings = SETTINGS.model_copy(update=changes)
    return make_door(settings)


def test_a_component_is_called_by_its_name(sagemaker: FakeSageMaker, make_door: Callable[..., Door]) -> None:
    door = door_before(sagemaker, make_door, inference_component=COMPONENT)

    reply, _ = door.ask(chat(stream=True))

    assert reply.status == 200
    headers, _ = sagemaker.calls[-1]
    assert headers["x-amzn-sagemaker-inference-component"] == COMPONENT
    assert "x-amzn-sagemaker-target-variant" not in headers


def test_a_fallback_has_no_component(sagemaker: FakeSageMaker, make_door: Callable[..., Door]) -> None:
    other = FallbackTarget(endpoint_name="other", model_version="v0")
    door = door_before(sagemaker, make_door, inference_component=COMPONENT, fallbacks=[other])
    sagemaker.replies_of = {ENDPOINT: Reply(status=503, error=("ServiceUnavailable", {"Message": "down"}))}

    reply, _ = door.ask(chat(stream=True))

    assert reply.status == 200
    assert sagemaker.paths[-1] == "/endpoints/other/invocations-response-stream"
    assert "x-amzn-sagemaker-inference-component" not in sagemaker.calls[-1][0]


def test_a_sleeping_component_is_said_to_be_waking(
    sagemaker: FakeSageMaker, make_door: Callable[..., Door]
) -> None:
    door = door_before(sagemaker, make_door, inference_component=COMPONENT)
    sagemaker.replies = [Reply(status=400, error=("ValidationError", {"Message": ASLEEP}))]

    reply, body = door.ask(chat())

    assert reply.status == 503
    assert reply.headers["retry-after"] == "60"
    assert json.loads(body)["error"]["message"] == "The model was asleep and is being started."


def test_whole_answers_reach_the_caller_as_streams_and_as_bodies(
    sagemaker: FakeSageMaker, make_door: Callable[..., Door]
) -> None:
    door = door_before(sagemaker, make_door, streamed=False)
    sagemaker.replies = [Reply(parts=[chat_events("Hel", "lo")])]

    _, streamed = door.ask(chat(stream=True))
    _, whole = door.ask(chat())

    texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in events(streamed)[:-1]]
    assert "".join(texts) == "Hello"
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Hello"
    assert set(sagemaker.paths) == {f"/endpoints/{ENDPOINT}/invocations"}
    headers, _ = sagemaker.calls[-1]
    assert headers["accept"] == "text/event-stream"


def test_a_whole_answer_that_breaks_off_is_an_error(
    sagemaker: FakeSageMaker, make_door: Callable[..., Door]
) -> None:
    door = door_before(sagemaker, make_door, streamed=False)
    sagemaker.replies = [Reply(parts=[chat_events("Hel", done=False)], break_off=True)]

    reply, body = door.ask(chat())

    assert reply.status >= 500
    assert "error" in json.loads(body)


def test_the_function_reads_both_from_its_environment() -> None:
    given = {name.upper(): str(value) for name, value in SETTINGS.model_dump(exclude_defaults=True).items()}
    settings = load(InferenceEnvironment, given | {"INFERENCE_COMPONENT": COMPONENT, "STREAMED": "false"})

    assert (settings.inference_component, settings.streamed) == (COMPONENT, False)
    plain = load(InferenceEnvironment, given)
    assert (plain.inference_component, plain.streamed) == (None, True)
