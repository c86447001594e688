"""What a stranger, or a caller with a key, might try at the deployed front door.

The whole list of attacks and faults, with the test that shows each survived, stands in docs/attacks.md.
"""

from __future__ import annotations

import concurrent.futures
import json
import socket
import time
import urllib.parse
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorReply
from tests.support.keys import EXPIRED, REVOKED, make_key
from tests.support.laptop import Laptop
from tests.support.waiting import running_requests

HELLO = [{"role": "user", "content": "Hi"}]
SECONDS = 60
RACERS, GRANTED = 200, 40


# --- keys ------------------------------------------------------------------------------------------------


def test_all_that_is_no_key_gets_the_same_bytes(laptop: Laptop) -> None:
    """Nobody learns from the answer whether a key has ever been one."""
    tried = {
        "none": {},
        "another scheme": {"Authorization": "Basic ZWc6"},
        "unknown": {"Authorization": "Bearer eg-" + "x" * 43},
        "short": {"Authorization": "Bearer e"},
        "expired": {"Authorization": f"Bearer {make_key(laptop, 'gone', **EXPIRED)}"},
        "revoked": {"Authorization": f"Bearer {make_key(laptop, 'gone', **REVOKED)}"},
        "valid, in another header": {"x-api-key": make_key(laptop, "misplaced")},
        "valid, beside another scheme": {
            "Authorization": "Basic ZWc6",
            "x-api-key": make_key(laptop, "misplaced"),
        },
    }
    seen = {}
    for name, headers in tried.items():
        reply = httpx.get(f"{laptop.api_url}/models", headers=headers, timeout=SECONDS)
        own = {"date", "x-amzn-requestid", "x-amz-apigw-id", "x-amzn-trace-id", "x-request-id", "request-id"}
        kept = {key: value for key, value in reply.headers.items() if key not in own}
        request_id = reply.headers["request-id"].encode()
        assert reply.content.count(request_id) == 1
        seen[name] = (reply.status_code, reply.content.replace(request_id, b""), kept)
    assert {answer[0] for answer in seen.values()} == {401}
    assert len({repr(answer) for answer in seen.values()}) == 1, seen


def test_another_tenants_answers_and_usage_are_as_if_they_never_were(laptop: Laptop) -> None:
    mine = laptop.settled(
        laptop.openai().chat.completions.create(model=laptop.model, messages=HELLO, max_tokens=2).id
    )
    stranger = {"Authorization": f"Bearer {make_key(laptop, 'stranger')}"}
    replies = [
        httpx.post(
            f"{laptop.api_url}/feedback",
            json={"request_id": request_id, "thumbs": "down"},
            headers=stranger,
            timeout=SECONDS,
        )
        for request_id in (mine, "chatcmpl-never-was")
    ]
    assert [reply.status_code for reply in replies] == [404, 404]
    assert replies[0].content == replies[1].content
    usage = httpx.get(f"{laptop.api_url}/usage", headers=stranger, timeout=SECONDS).json()
    assert (usage["data"], usage["requests"]) == ([], 0)


def test_a_budget_raced_by_many_is_never_overspent(laptop: Laptop) -> None:
    """Every request that is let in has taken a place of its own.

    One whose table did not answer in time passes unchecked, without those headers, and may be charged twice.
    """
    key = make_key(laptop, "racer", requests_per_day={"N": str(GRANTED)})
    body = {"model": laptop.model, "messages": HELLO, "max_tokens": 1}

    def ask(_: int) -> tuple[int, str | None]:
        reply = httpx.post(
            f"{laptop.api_url}/chat/completions",
            json=body, headers={"Authorization": f"Bearer {key}"}, timeout=2 * SECONDS,
        )  # fmt: skip
        if reply.status_code == 429:
            assert reply.json()["error"]["code"] == "requests_per_day_exceeded"
        return reply.status_code, reply.headers.get("x-ratelimit-remaining-requests")

    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        seen = list(pool.map(ask, range(RACERS)))
    # A model that is full answers 503, and the request has been counted all the same.
    assert {status for status, _ in seen} <= {200, 429, 503}
    places = [int(left) for status, left in seen if status != 429 and left is not None]
    assert len(set(places)) == len(places)
    assert set(places) <= set(range(GRANTED))
    assert len(places) >= GRANTED // 2


# --- smuggling -------------------------------------------------------------------------------------------


def raw(laptop: Laptop, request: bytes) -> tuple[int, bytes]:
    """The first reply to bytes as they are: status (0 where the connection was closed at once) and body."""
    with socket.create_connection(("127.0.0.1", laptop.port), timeout=SECONDS) as connection:
        connection.sendall(request)
        reply = connection.makefile("rb")
        first = reply.readline()
        if not first:
            return 0, b""
        headers: dict[str, str] = {}
        while line := reply.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            return int(first.split()[1]), reply.read(int(headers["content-length"]))
        connection.settimeout(2)
        return int(first.split()[1]), b""


def stage_path(laptop: Laptop) -> str:
    return urllib.parse.urlsplit(laptop.api_url).path.removesuffix("/v1")


NO_KEY_PATHS = [
    "/v1/models/..%2f..%2fhealth",
    "/v1/%2e%2e/health",
    "/v1/../v1/models",
    "/health/../v1/models",
    "/health/..%2fv1/models",
    "/health%2f..%2fv1%2fmodels",
    "//v1/models",
    "/v1//models",
    "/v1/models/",
    "/v1/models%00",
    "/v1/models;/health",
    "/v1/models?x=/health",
    "/health/v1/models",
    "/V1/models",
    "/iam/v1/models",
]


@pytest.mark.parametrize("path", NO_KEY_PATHS)
def test_no_spelling_of_a_path_gets_past_the_key(laptop: Laptop, path: str) -> None:
    request = f"GET {stage_path(laptop)}{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    status, body = raw(laptop, request.encode())
    assert status in (0, 400, 401, 403, 404) or json.loads(body) == {"status": "ok"}, (status, body)
    assert laptop.model.encode() not in body


def test_an_absolute_address_is_no_way_around_the_key(laptop: Laptop) -> None:
    for target in (laptop.api_url + "/models", "http://169.254.169.254" + stage_path(laptop) + "/v1/models"):
        status, body = raw(laptop, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert status in (0, 400, 401, 403, 404), (status, body)


def _post(laptop: Laptop, *headers: str, body: str = "") -> bytes:
    path = f"{stage_path(laptop)}/v1/chat/completions"
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


SMUGGLED = "GET /_evergreen/health HTTP/1.1\r\nHost: a\r\n\r\n"
TWO_LENGTHS = {
    "both a length and chunks": (["Content-Length: 4", "Transfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
    "two lengths": (["Content-Length: 0", "Content-Length: 60"], SMUGGLED),
    "a list of lengths": (["Content-Length: 0, 60"], SMUGGLED),
    "a signed length": (["Content-Length: +0"], SMUGGLED),
    "chunks that are not the last coding": (["Transfer-Encoding: chunked, identity"], "0\r\n\r\n" + SMUGGLED),
    "chunks, spelled oddly": (["Transfer-Encoding: xchunked"], "0\r\n\r\n" + SMUGGLED),
    "a space before the colon": (["Content-Length : 60"], SMUGGLED),
}


@pytest.mark.parametrize("case", TWO_LENGTHS)
def test_a_body_of_two_lengths_smuggles_nothing(laptop: Laptop, case: str) -> None:
    """Whatever its length is taken to be, nothing of it passes the door, and nothing fails."""
    headers, body = TWO_LENGTHS[case]
    status, _ = raw(laptop, _post(laptop, *headers, "Connection: close", body=body))
    assert status in (0, 400, 401, 411, 501), status


def test_of_several_keys_only_the_last_one_counts(laptop: Laptop) -> None:
    """As API Gateway has it; the function behind and the authorizer read the same one."""
    good, bad = f"Authorization: Bearer {laptop.outputs['api_key']}", "Authorization: Bearer eg-wrong"
    body = json.dumps({"model": laptop.model, "messages": HELLO, "max_tokens": 1})
    length = f"Content-Length: {len(body)}"
    for headers, expected in (((good, bad), 401), ((bad, good), 200)):
        status, text = raw(laptop, _post(laptop, *headers, length, "Connection: close", body=body))
        assert status == expected, text


@pytest.mark.parametrize(
    "value",
    ["a\tb", "a b", "champion, champion", "../x", "é", "x" * 4000, "champion\x01", "%0d%0aset-cookie:a"],
)
def test_a_variants_name_goes_into_no_header_as_it_came(laptop: Laptop, value: str) -> None:
    key = make_key(laptop, "chooser", scopes={"L": [{"S": "inference"}, {"S": "choose-variant"}]})
    body = json.dumps({"model": laptop.model, "messages": HELLO, "max_tokens": 1})
    request = _post(
        laptop,
        f"Authorization: Bearer {key}",
        f"x-evergreen-variant: {value}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        body=body,
    )
    status, text = raw(laptop, request)
    assert status in (0, 400, 431), text
    assert b"set-cookie" not in text.lower()


# --- bodies ----------------------------------------------------------------------------------------------

DEEP = {
    "lists": b"[" * 400_000,
    "closed lists": b"[" * 200_000 + b"]" * 200_000,
    "objects": b'{"a":' * 100_000,
    "within a field": b'{"model": "m", "messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "an enormous number": b'{"model": "m", "seed": ' + b"9" * 100_000 + b"}",
    "the same name again and again": b'{"model": "m", ' + b'"a": 1, ' * 50_000 + b'"b": 1}',
}


@pytest.mark.parametrize("route", ["/chat/completions", "/completions", "/embeddings", "/feedback"])
@pytest.mark.parametrize("case", DEEP)
def test_deep_and_endless_json_is_refused_quickly(laptop: Laptop, route: str, case: str) -> None:
    reply = httpx.post(
        f"{laptop.api_url}{route}", content=DEEP[case], headers=laptop.headers, timeout=SECONDS
    )
    assert reply.status_code in (400, 404, 413), reply.text[:300]
    ErrorReply.model_validate_json(reply.content)
    assert len(reply.content) < 10_000, "an answer need not repeat what was sent"


def test_a_body_larger_than_anything_is_refused_by_the_gateway(laptop: Laptop) -> None:
    reply = httpx.post(
        f"{laptop.api_url}/chat/completions",
        content=b"x" * (11 << 20),
        headers=laptop.headers,
        timeout=SECONDS,
    )
    assert reply.status_code == 413
    ErrorReply.model_validate_json(reply.content)


# --- callers that leave ----------------------------------------------------------------------------------


def test_a_caller_that_leaves_holds_no_slot_and_leaves_its_record(laptop: Laptop) -> None:
    """Lambda may let a function run on for nobody, as here: that ends by itself, and is on record."""
    body: dict[str, Any] = {
        "model": laptop.model, "messages": HELLO, "max_tokens": 1500, "stream": True, "temperature": 2,
    }  # fmt: skip
    with httpx.stream(
        "POST", f"{laptop.api_url}/chat/completions", json=body, headers=laptop.headers, timeout=SECONDS
    ) as reply:
        pieces = reply.iter_lines()
        first = next(line for line in pieces if line.startswith("data: {"))
        answer_id = json.loads(first[6:])["id"]
    laptop.settled(answer_id)
    deadline = time.monotonic() + SECONDS
    while running_requests(laptop) > 0:
        assert time.monotonic() < deadline, "the model still writes for nobody"
        time.sleep(0.1)
    table = laptop.stack_outputs("data")["RecordsTableName"]
    key = {"pk": {"S": answer_id.removeprefix("chatcmpl-")}, "sk": {"S": "RECORD"}}
    record = laptop.aws("dynamodb").get_item(TableName=table, Key=key)["Item"]
    assert record["status"]["N"] in ("200", "499")
