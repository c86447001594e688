"""Files and batches through their entry point: uploads, files that cannot be run, lists, other keys."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.jobs import Batch, File
from lambdas.jobs.multipart import MOST_PARTS, InvalidFormError, fields
from tests.support.jobs_api import CHAT, KEY, Jobs, line

OTHER = {**KEY, "key_id": "def"}
NAMED = 'Content-Disposition: form-data; name="a"'


def test_an_upload_comes_back_as_it_was(jobs: Jobs) -> None:
    content = json.dumps(line("a", "Grüße \r\n --xyzzy?")) + "\n"
    status, file = jobs.upload(content)
    assert (status, file["purpose"], file["filename"], file["status"]) == (
        200,
        "batch",
        "in.jsonl",
        "processed",
    )
    assert file["bytes"] == len(content.encode())
    assert jobs.ask("GET", f"/v1/files/{file['id']}")[1] == file
    assert json.loads(json.dumps(jobs.ask("GET", f"/v1/files/{file['id']}/content")[1])) == json.loads(
        content
    )
    File.model_validate(file)


def test_files_are_listed_newest_first_page_by_page(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_700_000_000, 1_700_001_000))
    monkeypatch.setattr("contracts.tasks.time.time", lambda: float(next(clock)))
    ids = [jobs.upload("{}")[1]["id"] for _ in range(3)]
    _, page = jobs.ask("GET", "/v1/files", limit="2")
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    assert page["has_more"] is True
    _, rest = jobs.ask("GET", "/v1/files", limit="2", after=page["last_id"])
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "²"}, {"limit": "101"}, {"after": "x"}])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_a_bad_page_is_refused(jobs: Jobs, path: str, query: dict[str, str]) -> None:
    status, body = jobs.ask("GET", path, **query)
    assert (status, body["error"]["param"]) == (400, next(iter(query)))


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/content"), ("DELETE", "")])
def test_another_keys_file_looks_like_none(jobs: Jobs, method: str, path: str) -> None:
    _, file = jobs.upload("{}")
    theirs = jobs.ask(method, f"/v1/files/{file['id']}{path}", caller=OTHER)
    assert theirs[0] == 404
    assert theirs == jobs.ask(method, f"/v1/files/file-{'0' * 28}{path}", caller=OTHER)
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    assert jobs.ask("POST", "/v1/batches", request, caller=OTHER)[0] == 404
    assert jobs.ask("GET", "/v1/files", caller=OTHER)[1]["data"] == []
    assert jobs.ask("GET", f"/v1/files/{file['id']}")[0] == 200


def test_another_keys_batch_looks_like_none(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a"))
    for method, path in (("GET", ""), ("POST", "/cancel")):
        theirs = jobs.ask(method, f"/v1/batches/{batch['id']}{path}", caller=OTHER)
        assert theirs == jobs.ask(method, f"/v1/batches/batch_{'0' * 28}{path}", caller=OTHER)
    assert jobs.ask("GET", "/v1/batches", caller=OTHER)[1]["data"] == []
    assert [b["id"] for b in jobs.ask("GET", "/v1/batches")[1]["data"]] == [batch["id"]]


def test_a_deleted_file_is_gone(jobs: Jobs) -> None:
    _, file = jobs.upload("{}")
    assert jobs.ask("DELETE", f"/v1/files/{file['id']}")[1] == {
        "id": file["id"],
        "object": "file",
        "deleted": True,
    }
    assert jobs.ask("GET", f"/v1/files/{file['id']}")[0] == 404
    assert jobs.stores.objects == {}


def test_a_large_file_is_refused(jobs: Jobs) -> None:
    assert jobs.upload("x" * 50_001)[0] == 413


def test_an_upload_without_purpose_is_refused(jobs: Jobs) -> None:
    status, body = jobs.upload("{}", purpose="fine-tune")
    assert (status, body["error"]["param"]) == (400, "purpose")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", "{}"),
        ("multipart/form-data", "--x--"),
        ("multipart/form-data; boundary=x", ""),
        ("multipart/form-data; boundary=x", "--x\r\nno headers\r\n--x--"),
        ("multipart/form-data; boundary=x", "--x\r\nContent-Type: a/b\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", "--x\r\n" * 30 + "--x--"),
        ("multipart/form-data; boundary=x", f"--x\r\n{NAMED}\r\n\r\n1\r\n" * 17 + "--x--"),
        ("multipart/form-data; boundary=x", f"--x\r\n{NAMED}\r\n\r\n1\r\n--x"),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name=""\r\n\r\n1\r\n--x--',
        ),
        ("multipart/form-data; boundary=\u20ac", "--x--"),
        (f"multipart/form-data; boundary={'x' * 71}", f"--{'x' * 71}--"),
    ],
)
def test_what_is_no_form_is_refused(jobs: Jobs, content_type: str, body: str) -> None:
    status, answer = jobs.ask("POST", "/v1/files", body, headers={"content-type": content_type})
    assert (status, answer["error"]["code"]) == (400, "invalid_form")


def test_the_clients_own_encoding_is_understood() -> None:
    content = bytes(range(256)) * 3
    request = httpx.Request(
        "POST", "http://x", data={"purpose": "batch"}, files={"file": ("a b.jsonl", content, "text/plain")}
    )
    found = fields(request.headers["content-type"], request.read())
    assert (found["purpose"].content, found["file"].content) == (b"batch", content)
    assert found["file"].filename == "a b.jsonl"


@given(st.binary(max_size=200), st.sampled_from(["x", "ab", "--", "x y"]))
def test_no_body_breaks_the_parser(body: bytes, boundary: str) -> None:
    with contextlib.suppress(InvalidFormError):
        fields(f'multipart/form-data; boundary="{boundary}"', body)


@given(
    st.lists(
        st.sampled_from(
            [
                *(b"--x", b"--", b"\r\n", b"\r", b":", b"a", NAMED.encode(), b"; filename=f", b"\xff"),
                b"Content-Transfer-Encoding: base64\r\n",
                b"Content-Transfer-Encoding: quoted-printable\r\n",
            ]
        ),
        max_size=30,
    )
)
def test_no_order_of_a_forms_pieces_breaks_the_parser(pieces: list[bytes]) -> None:
    with contextlib.suppress(InvalidFormError):
        fields("multipart/form-data; boundary=x", b"".join(pieces))


def test_as_many_parts_as_allowed_pass() -> None:
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{n}\r\n' for n in range(MOST_PARTS)
    )
    found = fields("multipart/form-data; boundary=x", f"{parts}--x--".encode())
    assert [(field.name, field.content) for field in found.values()] == [
        (str(n), str(n).encode()) for n in range(MOST_PARTS)
    ]


def test_a_large_file_comes_whole_under_its_own_name() -> None:
    content = b"0123456789abcdef" * 200_000
    request = httpx.Request("POST", "http://x", files={"file": ("Grüße.jsonl", content)})
    file = fields(request.headers["content-type"], request.read())["file"]
    assert (file.filename, file.content == content) == ("Grüße.jsonl", True)


@given(st.binary(max_size=300))
def test_every_content_survives_a_form(content: bytes) -> None:
    request = httpx.Request("POST", "http://x", files={"file": ("f", content)})
    assert fields(request.headers["content-type"], request.read())["file"].content == content


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "empty_file"),
        ([line(str(n)) for n in range(51)], "too_many_requests"),
        ([line("a"), line("a")], "duplicate_custom_id"),
        ([{**line("a"), "url": "/v1/completions"}], "mismatched_url"),
        ([{**line("a"), "method": "GET"}], "invalid_request"),
        ([{"custom_id": "a"}], "invalid_request"),
        ([line("a", stream=True)], "stream_not_allowed"),
    ],
)
def test_a_file_that_is_not_in_order_makes_a_failed_batch(
    jobs: Jobs, lines: list[dict[str, Any]], code: str
) -> None:
    status, batch = jobs.batch(*lines)
    assert (status, batch["status"]) == (200, "failed")
    assert batch["errors"]["data"][-1]["code"] == code
    assert batch["failed_at"]
    assert jobs.stores.messages == []
    assert jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]["errors"] == batch["errors"]


def test_a_line_that_is_no_json_is_named_by_its_number(jobs: Jobs) -> None:
    _, file = jobs.upload(json.dumps(line("a")) + "\n{nonsense\n")
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    _, batch = jobs.ask("POST", "/v1/batches", request)
    (error,) = batch["errors"]["data"]
    assert (error["code"], error["line"]) == ("invalid_json_line", 2)


@pytest.mark.parametrize(
    "change",
    [
        {"completion_window": "1h"},
        {"endpoint": "/v1/models"},
        {"metadata": {"a": "x" * 513}},
        {"magic": 1},
        {"input_file_id": ""},
    ],
)
def test_a_bad_batch_is_refused(jobs: Jobs, change: dict[str, Any]) -> None:
    _, file = jobs.upload(json.dumps(line("a")))
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"} | change
    assert jobs.ask("POST", "/v1/batches", request)[0] == 400


def test_an_output_file_is_no_input(jobs: Jobs) -> None:
    _, batch = jobs.batch(line("a"))
    jobs.work()
    output = jobs.ask("GET", f"/v1/batches/{batch['id']}")[1]["output_file_id"]
    request = {"input_file_id": output, "endpoint": CHAT, "completion_window": "24h"}
    status, body = jobs.ask("POST", "/v1/batches", request)
    assert (status, body["error"]["param"]) == (400, "input_file_id")


def test_metadata_is_kept_and_the_batch_reads_as_the_contract_says(jobs: Jobs) -> None:
    _, file = jobs.upload(json.dumps(line("a")))
    request = {
        "input_file_id": file["id"],
        "endpoint": CHAT,
        "completion_window": "24h",
        "metadata": {"nightly": "eval"},
    }
    _, batch = jobs.ask("POST", "/v1/batches", request)
    assert Batch.model_validate(batch).metadata == {"nightly": "eval"}
    assert batch["object"] == "batch"


def test_the_same_idempotency_key_is_the_same_batch(jobs: Jobs) -> None:
    _, file = jobs.upload(json.dumps(line("a", "Hello")) + "\n")
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    once = {"Idempotency-Key": "nightly"}
    _, first = jobs.ask("POST", "/v1/batches", request, headers=once)
    again = dict(reversed(request.items()))
    assert jobs.ask("POST", "/v1/batches", again, headers=once)[1]["id"] == first["id"]
    assert len(jobs.stores.messages) == 1

    status, body = jobs.ask("POST", "/v1/batches", {**request, "metadata": {"a": "b"}}, headers=once)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")
    _, other = jobs.ask("POST", "/v1/batches", request, headers={"Idempotency-Key": "hourly"})
    _, unnamed = jobs.ask("POST", "/v1/batches", request)
    assert len({first["id"], other["id"], unnamed["id"]}) == 3
    listed = [batch["id"] for batch in jobs.ask("GET", "/v1/batches")[1]["data"]]
    assert set(listed) == {first["id"], other["id"], unnamed["id"]}
    assert jobs.ask("POST", "/v1/batches", request, headers={"Idempotency-Key": "a\tb"})[0] == 400


def test_a_batch_over_a_bad_file_is_the_same_one_too(jobs: Jobs) -> None:
    _, file = jobs.upload("no JSON\n")
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    once = {"Idempotency-Key": "k"}
    first, second = (jobs.ask("POST", "/v1/batches", request, headers=once)[1] for _ in range(2))
    assert (first["status"], second["id"]) == ("failed", first["id"])


def test_an_idempotency_key_whose_first_call_broke_off_makes_the_batch(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = jobs.upload(json.dumps(line("a", "Hello")) + "\n")
    request = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    once = {"Idempotency-Key": "k"}
    with monkeypatch.context() as broken:
        broken.setattr("lambdas.aws.s3.Bucket.get", lambda *_: (_ for _ in ()).throw(TimeoutError()))
        assert jobs.ask("POST", "/v1/batches", request, headers=once)[0] >= 500
    status, batch = jobs.ask("POST", "/v1/batches", request, headers=once)
    assert (status, batch["request_counts"]["total"]) == (200, 1)
