"""The fallback chain through the door: when it leads on, when it must not, and what is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from contracts.fallback import FallbackTarget
from tests.support.fake_model_endpoint import Reply, chat_events, cut, payload_part
from tests.support.front_door import AUTHORIZER, ENDPOINT, SETTINGS, Door, chat, events

TARGETS = [
    FallbackTarget(endpoint_name="second", model_version="v0"),
    FallbackTarget(endpoint_name="third", model_version="v-1", region="eu-west-1"),
]
DOWN = Reply(status=503, error=("ServiceUnavailable", {"Message": "no"}))
FULL = Reply(
    status=424, error=("ModelError", {"Message": "", "OriginalStatusCode": 503, "OriginalMessage": ""})
)
ASLEEP = Reply(status=429, error=("ModelNotReadyException", {"Message": "starting"}))
WRONG = Reply(
    status=424, error=("ModelError", {"Message": "", "OriginalStatusCode": 400, "OriginalMessage": ""})
)
GOOD = Reply(parts=cut(chat_events("Hel", "lo"), 50))


@pytest.fixture
def chained(make_door: Callable[..., Door]) -> Door:
    return make_door(SETTINGS.model_copy(update={"fallbacks": TARGETS}))


def asked(door: Door) -> list[str]:
    """The endpoints called, in order."""
    return [path.split("/")[2] for path in door.sagemaker.paths]


@pytest.mark.parametrize("failure", [DOWN, FULL, ASLEEP], ids=["down", "full", "asleep"])
def test_the_next_endpoint_answers_while_the_first_cannot(chained: Door, failure: Reply) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: failure, "second": GOOD}
    reply, body = chained.ask(chat())
    assert (reply.status, reply.headers["x-evergreen-variant"]) == (200, "fallback")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"
    record = chained.record()
    assert record is not None
    assert (record["variant"], record["model_version"]) == ("fallback", "v0")


def test_the_chain_is_followed_to_another_region(chained: Door) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: FULL, "second": FULL, "third": GOOD}
    assert chained.ask(chat())[0].status == 200
    assert asked(chained) == [ENDPOINT, "second", "third"]
    assert "/eu-west-1/sagemaker/" in chained.sagemaker.calls[-1][0]["authorization"]


def test_an_endpoint_that_answers_is_the_only_one_asked(chained: Door) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: GOOD}
    assert chained.ask(chat())[0].headers["x-evergreen-variant"] == "champion"
    assert asked(chained) == [ENDPOINT]


def test_a_wrong_request_is_wrong_everywhere(chained: Door) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: WRONG, "second": GOOD}
    assert chained.ask(chat())[0].status == 400
    assert asked(chained) == [ENDPOINT]


def test_when_nobody_answers_the_callers_endpoint_says_why(chained: Door) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: ASLEEP, "second": FULL, "third": FULL}
    reply, body = chained.ask(chat())
    assert (reply.status, reply.headers["retry-after"]) == (503, "15")
    assert "starting" in json.loads(body)["error"]["message"]


def test_nothing_is_repeated_after_the_first_event(chained: Door) -> None:
    broken = Reply(parts=[payload_part(chat_events("Hel", done=False))], break_off=True)
    chained.sagemaker.replies_of = {ENDPOINT: broken, "second": GOOD}
    _, body = chained.ask(chat(stream=True))
    assert events(body)[-1]["error"]["code"] == "stream_interrupted"
    assert asked(chained) == [ENDPOINT]


def test_a_variant_named_by_the_caller_has_no_stand_in(chained: Door) -> None:
    chained.sagemaker.replies_of = {ENDPOINT: FULL, "second": GOOD}
    caller = {**AUTHORIZER, "scopes": "inference choose-variant"}
    reply, _ = chained.ask(chat(), headers={"x-evergreen-variant": "champion"}, **caller)
    assert reply.status == 503
    assert asked(chained) == [ENDPOINT]
