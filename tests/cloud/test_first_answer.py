"""The whole path: a client's request through API Gateway, Lambda and SageMaker to the model and back."""

from __future__ import annotations

import subprocess

import httpx
import openai
import pytest

from tests.support.laptop import EMBEDDING, Laptop
from tests.support.waiting import running_requests

HELLO = [{"role": "user", "content": "Hello there, who are you?"}]
ATTEMPTS = 20


def test_openai_client_chats_with_address_and_key_alone(laptop: Laptop) -> None:
    answer = laptop.openai().chat.completions.create(model=laptop.model, messages=HELLO, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 12


def test_openai_client_streams_and_the_pieces_make_the_answer(laptop: Laptop) -> None:
    client, question = laptop.openai(), {"messages": HELLO, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(model=laptop.model, **question)
    chunks = list(
        client.chat.completions.create(
            model=laptop.model, stream=True, stream_options={"include_usage": True}, **question
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([p for p in pieces if p]) > 1
    assert chunks[-1].usage == whole.usage


def test_stream_reaches_the_client_while_the_model_still_writes(laptop: Laptop) -> None:
    """With the first piece at the client the model's own metrics say that it still works on the answer: of a
    collected reply no piece comes before that is over. If it had ended, it is tried again."""
    body = {
        "model": laptop.model, "messages": HELLO, "max_tokens": 1900, "temperature": 0, "stream": True,
    }  # fmt: skip
    for _ in range(ATTEMPTS):
        with httpx.stream(
            "POST", f"{laptop.api_url}/chat/completions", json=body, headers=laptop.headers, timeout=120
        ) as reply:
            assert reply.status_code == 200
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = (line for line in reply.iter_lines() if line)
            assert next(lines).startswith("data: {")
            still_writes = running_requests(laptop)
            assert list(lines)[-1] == "data: [DONE]"
        if still_writes:
            return
    pytest.fail("the model had ended each time when the client had the first piece")


def test_models_are_listed_and_found_by_name(laptop: Laptop) -> None:
    client = laptop.openai()
    own, embedding = client.models.list().data
    assert (own.id, embedding.id) == (laptop.model, EMBEDDING)
    assert client.models.retrieve(embedding.id).id == embedding.id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_head_says_what_get_says_without_the_body(laptop: Laptop) -> None:
    for url in (f"{laptop.api_url}/models", f"{laptop.api_url}/models/"):
        got, head = (httpx.request(verb, url, headers=laptop.headers, timeout=60) for verb in ("GET", "HEAD"))
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert httpx.head(f"{laptop.api_url}/models", timeout=60).status_code == 401


def test_guards_moderate_and_a_chat_model_ranks_nothing(laptop: Laptop) -> None:
    judged = laptop.openai().moderations.create(input=["Hello there", "you are an idiot"])
    assert [result.flagged for result in judged.results] == [False, True]
    body = {"model": laptop.model, "query": "a", "documents": ["b"]}
    reply = httpx.post(f"{laptop.api_url}/rerank", json=body, headers=laptop.headers, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_operation")


def test_texts_are_embedded_by_the_model_that_is_for_that(laptop: Laptop) -> None:
    client, texts = laptop.openai(), ["An evergreen keeps its leaves.", "Rain"]
    whole = client.embeddings.create(model=EMBEDDING, input=texts)
    assert [len(one.embedding) for one in whole.data] == [32, 32]
    again = client.embeddings.create(model=EMBEDDING, input=texts[1])
    assert again.data[0].embedding == pytest.approx(whole.data[1].embedding, abs=1e-5)
    with pytest.raises(openai.BadRequestError):  # each says what it is not for
        client.embeddings.create(model=laptop.model, input=texts)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=EMBEDDING, messages=HELLO)


def test_the_printed_curl_line_answers(laptop: Laptop) -> None:
    printed = laptop.up().stdout
    start = printed.index("curl -N")
    line = printed[start : printed.index("}'", start) + 2]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.stdout.rstrip().endswith("data: [DONE]"), done.stdout + done.stderr


def test_plain_boto3_describes_and_invokes(laptop: Laptop) -> None:
    name = laptop.outputs["endpoint_name"]
    described = laptop.aws("sagemaker").describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "InService"
    reply = laptop.aws("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName=name,
        ContentType="application/json",
        Body=f'{{"model": "{laptop.model}", "stream": true, "max_tokens": 5, '
        '"messages": [{"role": "user", "content": "Hi"}]}',
    )
    data = b"".join(event["PayloadPart"]["Bytes"] for event in reply["Body"])
    assert data.rstrip().endswith(b"data: [DONE]")
    assert reply["InvokedProductionVariant"] == "champion"


def test_stacks_are_described(laptop: Laptop) -> None:
    stacks = laptop.aws("cloudformation").describe_stacks()["Stacks"]
    status = {stack["StackName"]: stack["StackStatus"] for stack in stacks}
    for room in ("data", "serving", "gateway"):
        assert status[f"evergreen-local-{room}"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def test_feedback_is_tied_to_the_request_and_its_variant(laptop: Laptop) -> None:
    answer = laptop.openai().chat.completions.create(model=laptop.model, messages=HELLO, max_tokens=4)
    given = httpx.post(
        f"{laptop.api_url}/feedback",
        json={"request_id": laptop.settled(answer.id), "thumbs": "up", "comment": "fine"},
        headers=laptop.headers,
        timeout=30,
    )
    assert given.status_code in (200, 201), given.text
    table = laptop.stack_outputs("data")["RecordsTableName"]
    rows = laptop.aws("dynamodb").query(
        TableName=table,
        KeyConditionExpression="pk = :id",
        ExpressionAttributeValues={":id": {"S": answer.id.removeprefix("chatcmpl-")}},
    )["Items"]
    kinds = {row["sk"]["S"].split("#")[0]: row for row in rows}
    assert kinds["FEEDBACK"]["variant"] == kinds["RECORD"]["variant"] == {"S": "champion"}
    assert kinds["RECORD"]["status"] == {"N": "200"}


def test_feedback_for_an_unknown_request_is_not_found(laptop: Laptop) -> None:
    given = httpx.post(
        f"{laptop.api_url}/feedback",
        json={"request_id": "never-was", "thumbs": "up"},
        headers=laptop.headers,
        timeout=30,
    )
    assert given.status_code == 404
    assert given.json()["error"]["type"] == "not_found_error"
