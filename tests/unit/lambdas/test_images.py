"""Image parts: passed to models that declare them, refused in the right words elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.catalogue import Capabilities, ModelEntry
from contracts.chat import ChatRequest
from contracts.guards import GuardSettings
from contracts.targets import BedrockTarget, EndpointTarget
from lambdas.pipeline.budgets import estimate
from lambdas.pipeline.resolution import check_capabilities
from lambdas.runtime.errors import ApiError
from tests.support.front_door import MODEL, SETTINGS, Door

PNG = "data:image/png;base64,iVBORw0KGgo="
READS = Capabilities(images=True)
OWN = ModelEntry(
    name="eyes", capabilities=READS, target=EndpointTarget(endpoint_name="eyes", model_version="1")
)
FAR = ModelEntry(
    name="far", capabilities=READS, target=BedrockTarget(kind="bedrock", model_id="openai.gpt-oss-20b-1:0")
)


def look(url: str = PNG, role: str = "user", text: str = "What is it?") -> dict[str, Any]:
    parts = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    return {"messages": [{"role": role, "content": parts}]}


@pytest.fixture
def seeing(make_door: Callable[..., Door]) -> Door:
    guards = GuardSettings(mask_pii=True)
    return make_door(SETTINGS.model_copy(update={"models": [OWN, FAR], "guards": guards}))


def test_an_image_reaches_the_model_that_declares_it_beside_a_masked_text(seeing: Door) -> None:
    reply, _ = seeing.ask({"model": "eyes", **look(text="Is it mia@example.com?")})
    assert reply.status == 200
    (message,) = json.loads(seeing.sagemaker.calls[-1][1])["messages"]
    text, image = message["content"]
    assert "mia@example.com" not in text["text"]
    assert image == {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}


def test_a_model_that_reads_text_says_so(seeing: Door) -> None:
    reply, body = seeing.ask({"model": MODEL, **look()})
    error = json.loads(body)["error"]
    assert (reply.status, error["code"], error["param"]) == (
        400,
        "unsupported_parameter",
        "messages[0].content[1]",
    )
    assert "reads text only, no 'image_url'" in error["message"]
    assert seeing.sagemaker.calls == []


def test_only_a_hosted_model_is_given_an_address() -> None:
    body = ChatRequest.model_validate({"model": "eyes", **look("https://example.com/a.png")})
    check_capabilities(FAR, body)
    with pytest.raises(ApiError, match="invalid_request_error") as refused:
        check_capabilities(OWN, body)
    assert "'data:' URL" in refused.value.message


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (look("http://example.com/a.png"), "messages[0].content[1].image_url.url"),
        (look("data:text/html;base64,AAAA"), "messages[0].content[1].image_url.url"),
        (look("file:///etc/passwd"), "messages[0].content[1].image_url.url"),
        (look(role="system"), "messages[0]"),
    ],
)
def test_what_is_no_image_is_refused_by_its_place(seeing: Door, request_: dict[str, Any], param: str) -> None:
    reply, body = seeing.ask({"model": "eyes", **request_})
    assert (reply.status, json.loads(body)["error"]["param"]) == (400, param)


def test_an_images_bytes_are_no_measure_of_its_tokens() -> None:
    big = look("data:image/png;base64," + "A" * 400_000)
    body = ChatRequest.model_validate({"model": "eyes", "max_tokens": 1, **big})
    assert 1_000 < estimate(len(json.dumps(big)), body) < 1_200
