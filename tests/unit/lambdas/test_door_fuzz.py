"""Whatever is sent, the answer is well-formed: an error object of the caller's fault, or a proper answer."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.chat import ChatCompletion
from contracts.errors import ErrorReply
from contracts.guards import GuardSettings
from lambdas.pipeline.assembly import Service
from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime.streaming import StreamingReply
from tests.support.fake_model_endpoint import chat_events
from tests.support.front_door import MODEL, SETTINGS

ANSWER = chat_events("Hel", "lo")
GUARDED = SETTINGS.model_copy(
    update={"guards": GuardSettings(mask_pii=True, block_injection=True, denied_topics={"t": ["bomb"]})}
)


class Model:
    """Answers everything; nothing else of AWS is there."""

    provider = "aws.sagemaker"
    variant = "champion"

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> Model:
        json.loads(body)
        assert attributes.isascii()
        return self

    def __iter__(self) -> Any:
        return iter([ANSWER])

    def close(self) -> None:
        """Nothing is held."""

    def read(self) -> None:
        """No routing item."""

    def store(self, *_: Any) -> None:
        """Kept nowhere."""

    def settle(self, *_: Any) -> None:
        """Booked nowhere."""


EVERYTHING: Any = Model()
DOOR = Service(GUARDED, lambda *_: EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "nobody"])
messages = st.lists(
    st.fixed_dictionaries(
        {"role": roles, "content": st.text(max_size=60) | json_values}, optional={"name": json_values}
    ),
    max_size=4,
)
almost = st.fixed_dictionaries(
    {"model": st.just(MODEL), "messages": messages},
    optional={
        "max_tokens": st.integers() | json_values,
        "temperature": st.floats() | json_values,
        "top_p": st.floats(0, 1),
        "stop": st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=6),
        "seed": st.integers(),
        "stream": st.booleans() | json_values,
        "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}) | json_values,
        "user": st.text(max_size=10) | json_values,
        "metadata": json_values,
    },
)
bodies = (
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | almost.map(lambda value: json.dumps(value).encode())
)
routes = st.sampled_from(
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/../v1/models", "/v1/chat/completions/"]
)
some_text = st.text(max_size=20) | json_values
some_texts = some_text | st.lists(some_text, max_size=4)
about_texts = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([MODEL, "guards", "gpt-x"]) | json_values,
        "input": some_texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": some_text})),
        "query": some_text,
        "documents": st.lists(some_text | st.fixed_dictionaries({"text": some_text})) | json_values,
        "text_1": some_texts,
        "text_2": some_texts,
        "top_n": st.integers() | json_values,
        "truncate_prompt_tokens": st.integers() | json_values,
        "return_documents": st.booleans() | json_values,
        "user": json_values,
    },
).map(lambda value: json.dumps(value).encode())
text_routes = st.sampled_from(["/v1/rerank", "/v1/score", "/v1/classify", "/v1/moderations"])
headers = st.dictionaries(
    st.sampled_from(["x-evergreen-variant", "authorization", "content-type"]), st.text(max_size=20)
)


def ask(route: str, body: bytes, sent: dict[str, str]) -> tuple[StreamingReply, bytes]:
    caller = {"tenant": "shop", "key_name": "web", "scopes": "inference choose-variant"}
    reply = DOOR.answer(route, IncomingRequest("req-1", body, caller, sent, None, 1_700_000_000.0))
    text = b"".join(reply.body)
    reply.after()
    return reply, text


@given(about_texts | bodies, text_routes, headers)
def test_no_request_about_texts_makes_the_door_fail(body: bytes, route: str, sent: dict[str, str]) -> None:
    reply, text = ask(route, body, sent)
    if reply.status >= 400:
        error = ErrorReply.model_validate_json(text).error
        # The model answers chat only: where it is asked, its answer is the wrong one.
        assert reply.status < 500 or error.code == "bad_model_answer", error
    else:
        assert route == "/v1/moderations"
        assert len(json.loads(text)["results"]) >= 1


@given(bodies, routes, headers)
def test_no_request_makes_the_door_fail(body: bytes, route: str, sent: dict[str, str]) -> None:
    reply, text = ask(route, body, sent)
    if route == "/v1/chat/completions":
        # The model answers chat only: elsewhere its answer is the wrong one, and that is a 500.
        assert reply.status < 500
    if reply.status >= 400:
        ErrorReply.model_validate_json(text)
    elif reply.headers["content-type"].startswith("text/event-stream"):
        assert text.endswith(b"data: [DONE]\n\n")
    elif route == "/v1/chat/completions":
        ChatCompletion.model_validate_json(text)
    # Nothing of a request may end a header and begin another.
    assert all("\n" not in value and "\r" not in value for value in reply.headers.values())


@given(almost)
def test_what_is_almost_right_is_refused_by_name_or_answered(request: dict[str, Any]) -> None:
    reply, text = ask("/v1/chat/completions", json.dumps(request).encode(), {})
    assert reply.status in {200, 400}
    if reply.status == 400:
        error = json.loads(text)["error"]
        assert error["message"]
        assert error["param"] is None or re.split(r"[.[]", error["param"])[0] in request
