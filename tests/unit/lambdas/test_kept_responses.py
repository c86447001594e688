"""Requests that refer to earlier answers of `/v1/responses`: by item or by answer, for a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from contracts.access import Principal
from contracts.guards import GuardSettings
from contracts.kept_response import KeptResponse
from contracts.response_objects import ModelResponse, OutputMessage, OutputText
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.responses_table import ResponsesTable
from lambdas.pipeline.environment import InferenceEnvironment
from lambdas.pipeline.responses import keeping
from lambdas.pipeline.responses.operation import Responses
from lambdas.pipeline.responses.recall import MOST_REFERENCES, Recall
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import AUTHORIZER, MODEL, SETTINGS, Door
from tests.support.jobs_api import KEY, Jobs
from tests.support.openai_client import client_of
from tests.support.response_requests import ASK, function
from tests.unit.lambdas.test_door_tools import CALL, stream

KEEPING = SETTINGS.model_copy(update={"responses_kept_seconds": 3_600})
MakeDoor = Callable[..., Door]


@pytest.fixture
def make(make_door: MakeDoor, monkeypatch: pytest.MonkeyPatch) -> MakeDoor:
    """Doors that keep answers, and do not wait for one that is not there."""
    monkeypatch.setattr("lambdas.pipeline.responses.recall._PAUSES", (0.0,))

    def door(settings: InferenceEnvironment = KEEPING) -> Door:
        return make_door(settings, responses=ResponsesTable("work", DynamoDB(read_timeout=60)))

    return door


@pytest.fixture
def keeping_door(make: MakeDoor) -> Door:
    return make()


def respond(door: Door, name: str = "r1", *, caller: dict[str, str] = AUTHORIZER, **fields: Any) -> Any:
    """The answer, or the error, of a request with that id."""
    body = {"model": MODEL, "input": [ASK], **fields}
    reply, text = door.ask(body, route=Responses.route, headers={}, request_id=name, **caller)
    told = json.loads(text)
    return told if reply.status == 200 else told["error"]


def said_next(door: Door, *texts: str) -> None:
    door.sagemaker.replies = [Reply(parts=cut(chat_events(*texts), 50))]


def turns(door: Door) -> list[dict[str, Any]]:
    """What the model read last."""
    messages: list[dict[str, Any]] = json.loads(door.sagemaker.calls[-1][1])["messages"]
    return messages


def rows(door: Door) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = door.tables.scan(TableName="work")["Items"]
    return found


def reference(id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": id}


RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "sent"}


@pytest.mark.parametrize("typed", [True, False])
def test_references_of_a_tool_loop_resolve(keeping_door: Door, typed: bool) -> None:
    """As the AI SDK replays its first turn by default."""
    door = keeping_door
    door.sagemaker.replies = stream(
        {"delta": {"reasoning_content": "Hm."}}, {"delta": {"content": "Wait."}}, *CALL
    )
    first = respond(door, tools=[function("mail")])
    assert first["store"] is False
    notes, message, call = (
        reference(item["id"]) if typed else {"id": item["id"]} for item in first["output"]
    )
    said_next(door, "Done.")
    second = respond(door, "r2", input=[ASK, notes, message, call, RESULT], tools=[function("mail")])
    assert second["status"] == "completed"
    assert turns(door)[1:] == [
        {
            "role": "assistant",
            "content": "Wait.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "mail", "arguments": '{"to": "bob@y.org"}'},
                }
            ],
        },
        {"role": "tool", "content": "sent", "tool_call_id": "call_1"},
    ]


def test_a_conversation_goes_on_by_the_id_of_its_answer(keeping_door: Door) -> None:
    door = keeping_door
    door.sagemaker.replies = stream(*CALL)
    first = respond(door, instructions="Be brief.", tools=[function("mail")])
    said_next(door, "Done.")
    second = respond(door, "r2", input=[RESULT], previous_response_id=first["id"], instructions="Be kind.")
    assert second["previous_response_id"] == first["id"]
    third = respond(door, "r3", input="Thanks", previous_response_id=second["id"])
    assert third["object"] == "response"
    assert [(turn["role"], turn.get("content")) for turn in turns(door)] == [
        ("user", "Weather?"),
        ("assistant", None),
        ("tool", "sent"),
        ("assistant", "Done."),
        ("user", "Thanks"),
    ]


def test_openais_client_goes_on_by_id_reads_and_deletes(keeping_door: Door, jobs: Jobs) -> None:
    client = client_of(keeping_door, KEY)
    first = client.responses.create(model=MODEL, input="Hi", store=True)
    second = client.responses.create(model=MODEL, input="And?", previous_response_id=first.id)
    assert (first.model_extra or {})["store"] is True, "told back where it was asked for"
    assert [turn["content"] for turn in turns(keeping_door)] == ["Hi", "Hello", "And?"]

    status, kept = jobs.ask("GET", f"/v1/responses/{second.id}")
    assert (status, ModelResponse.model_validate(kept).model_dump()) == (200, kept)
    assert (kept["id"], kept["output"][0]["content"][0]["text"]) == (second.id, "Hello")
    assert jobs.ask("GET", f"/v1/responses/{second.id}", caller={**KEY, "key_id": "other"})[0] == 404
    assert jobs.ask("DELETE", f"/v1/responses/{second.id}", caller={**KEY, "tenant": "rival"})[0] == 404
    assert jobs.ask("DELETE", f"/v1/responses/{second.id}") == (
        200, {"id": second.id, "object": "response", "deleted": True},
    )  # fmt: skip
    assert jobs.ask("GET", f"/v1/responses/{second.id}")[0] == 404
    assert jobs.ask("GET", f"/v1/responses/{'x' * 2_000}")[0] == 404
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="x", previous_response_id=second.id)
    assert (refused.value.code, refused.value.param) == (
        "previous_response_not_found", "previous_response_id",
    )  # fmt: skip
    assert "store: false" in refused.value.message


@pytest.mark.parametrize(
    ("asked", "caller"),
    [
        ({"store": False}, AUTHORIZER),
        ({}, {**AUTHORIZER, "keep_text": "false"}),
        ({"model": "other"}, AUTHORIZER),
    ],
    ids=["store is false", "the key opted out", "a refused request"],
)
def test_what_is_not_kept(keeping_door: Door, asked: dict[str, Any], caller: dict[str, str]) -> None:
    respond(keeping_door, caller=caller, **asked)
    assert rows(keeping_door) == []
    error = respond(keeping_door, "r2", caller=caller, input=[ASK, reference("msg_r1_0")])
    assert (error["code"], error["param"]) == ("item_not_found", "input[1].id")
    assert "store: false" in error["message"]


def test_an_answer_that_broke_off_is_not_kept(keeping_door: Door) -> None:
    begun = chat_events("Hel", done=False).partition(b'"finish_reason": "stop"')[0].rpartition(b"data: ")[0]
    keeping_door.sagemaker.replies = [Reply(parts=cut(begun, 40), break_off=True)]
    keeping_door.ask({"model": MODEL, "input": "x", "stream": True}, route=Responses.route)
    assert rows(keeping_door) == []


@pytest.mark.parametrize("stranger", [{"tenant": "rival"}, {"key_name": "app"}, {"subject": "eve"}])
def test_nobody_else_can_refer_to_it(keeping_door: Door, stranger: dict[str, str]) -> None:
    first = respond(keeping_door)
    assert (
        respond(keeping_door, "r2", input=[reference(first["output"][0]["id"]), ASK])["status"] == "completed"
    )
    error = respond(
        keeping_door,
        "r3",
        caller={**AUTHORIZER, **stranger},
        input=[reference(first["output"][0]["id"]), ASK],
    )
    assert error["code"] == "item_not_found"


def test_it_is_kept_for_its_time_and_no_longer(keeping_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    first, now = respond(keeping_door), time.time()
    [row] = rows(keeping_door)
    assert 3_590 < int(row["expires_at"]["N"]) - now <= 3_600
    monkeypatch.setattr("lambdas.aws.responses_table.time.time", lambda: now + 3_601)
    error = respond(keeping_door, "r2", previous_response_id=first["id"])
    assert error["code"] == "previous_response_not_found", "the table deletes some time later"


def test_without_keeping_there_is_nothing_to_refer_to(make_door: MakeDoor) -> None:
    door = make_door(SETTINGS)
    first = respond(door)
    assert respond(door, "r2", previous_response_id=first["id"])["code"] == "previous_response_not_found"


def test_what_guards_mask_is_not_kept(make: MakeDoor) -> None:
    door = make(KEEPING.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    door.sagemaker.replies = stream(
        {"delta": {"content": "To [EMAIL_1]."}},
        {"delta": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                                   "function": {"name": "mail", "arguments": '{"to": "[EMAIL_1]"}'}}]}},
        {"delta": {}, "finish_reason": "tool_calls"},
    )  # fmt: skip
    asked = {"role": "user", "content": "Mail bob@y.org"}
    first = respond(
        door,
        input=[asked],
        instructions="You are bob@y.org.",
        metadata={"who": "ann@z.org"},
        tools=[function("mail", description="For bob@y.org")],
    )
    assert "bob@y.org" in first["output"][0]["content"][0]["text"], "the caller gets its own data back"
    [row] = rows(door)
    assert "y.org" not in json.dumps(row)
    assert "ann@z.org" not in json.dumps(row), "no guard has seen it"
    assert "EMAIL_1" not in json.dumps(row), "it would stand for another address in the next request"

    said_next(door, "Sent to [EMAIL_1].")
    second = respond(
        door, "r2", input=[RESULT, {"role": "user", "content": "eve@z.org"}], previous_response_id=first["id"]
    )
    assert second["output"][0]["content"][0]["text"] == "Sent to eve@z.org."
    assert [turn.get("content") for turn in turns(door)] == [
        "Mail [EMAIL]",
        "To [EMAIL].",
        "sent",
        "[EMAIL_1]",
    ]
    assert turns(door)[1]["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL]"}'


def test_too_long_a_conversation_leaves_its_items(
    keeping_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_BYTES", 4_000)
    first = respond(keeping_door, input="x" * 4_000)
    error = respond(keeping_door, "r2", previous_response_id=first["id"])
    assert error["code"] == "previous_response_not_found"
    assert "too long" in error["message"]
    assert respond(keeping_door, "r3", input=[reference("msg_r1_0"), ASK])["status"] == "completed"
    said_next(keeping_door, "y" * 4_000)
    respond(keeping_door, "r4")
    assert respond(keeping_door, "r5", input=[reference("msg_r4_0"), ASK])["code"] == "item_not_found"


class Slow:
    """A table in which an answer appears after some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def find(self, owner: str, id: str) -> Any:
        self.looks -= 1
        if self.looks > 0:
            return None
        output = OutputMessage(id="msg_r_0", status="completed", content=[OutputText(text="Hi")])
        return KeptResponse(
            tenant="t",
            response=ModelResponse(id=id, created_at=0, status="completed", model=MODEL, output=[output]),
        )

    def keep(self, owner: str, kept: Any, seconds: int) -> None:
        """Not asked here."""


@pytest.mark.parametrize(("looks", "is_found"), [(1, True), (4, True), (5, False)])
def test_an_answer_on_its_way_is_waited_for_a_moment(looks: int, is_found: bool) -> None:
    pauses: list[float] = []
    recall = Recall(Slow(looks), pauses.append)
    asked = Responses.request.model_validate({"model": MODEL, "input": [reference("msg_r_0")]})
    principal = Principal.from_context(AUTHORIZER)
    if is_found:
        assert [item.type for item in recall.items(asked, principal)] == ["message"]  # type: ignore[arg-type]
        assert len(pauses) == looks - 1
    else:
        with pytest.raises(Exception, match="invalid_request_error"):
            recall.items(asked, principal)  # type: ignore[arg-type]
    assert sum(pauses) < 0.5


def test_references_are_limited(keeping_door: Door) -> None:
    many = [reference(f"msg_r{n}_0") for n in range(MOST_REFERENCES + 1)]
    error = respond(keeping_door, input=many)
    assert (error["param"], error["code"]) == ("input", "invalid_value")


class Broken:
    """A table that fails."""

    def find(self, owner: str, id: str) -> Any:
        raise OSError

    keep = find


def test_a_table_that_fails_hurts_only_those_who_refer_to_it(
    make_door: MakeDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    door = make_door(KEEPING, responses=Broken())
    assert respond(door)["status"] == "completed"
    assert "response_write_failed" in capsys.readouterr().out
    reply, text = door.ask(
        {"model": MODEL, "input": "x", "previous_response_id": "resp_r1"}, route=Responses.route
    )
    assert (reply.status, json.loads(text)["error"]["code"]) == (503, "responses_unavailable")
    assert reply.headers["retry-after"] == "2"


def test_what_a_request_refers_to_counts_against_its_budget(keeping_door: Door) -> None:
    limited = {**AUTHORIZER, "key_id": "k", "tokens_per_day": "1500"}
    first = respond(keeping_door, caller=limited, input="x" * 4_000, max_output_tokens=1)
    assert first["object"] == "response"
    short: dict[str, Any] = {"caller": limited, "input": "And?", "max_output_tokens": 495}
    error = respond(keeping_door, "r2", previous_response_id=first["id"], **short)
    assert error["code"] == "tokens_per_day_exceeded"
    assert respond(keeping_door, "r3", **short)["object"] == "response"
