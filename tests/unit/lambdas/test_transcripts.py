"""What was said: masked, kept, opted out of, and forgotten on request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from contracts import metrics
from contracts.records import InferenceRecord
from contracts.transcripts import Transcript, transcript_key
from lambdas.aws.dynamodb import to_item
from lambdas.aws.s3 import Bucket, StoreError
from operations import forget
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import AUTHORIZER, MODEL, SETTINGS, Door, chat, emitted

MakeDoor = Callable[..., Door]
SECRET = "ann@x.org"


class Sink:
    """Keeps transcripts in memory, or fails."""

    def __init__(self, failing: bool = False) -> None:
        self.lines: dict[str, bytes] = {}
        self.failing = failing

    def put(self, key: str, line: bytes) -> None:
        if self.failing:
            raise OSError
        self.lines[key] = line

    def only(self) -> Transcript:
        (line,) = self.lines.values()
        return Transcript.model_validate_json(line)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def keeping(make_door: MakeDoor, sink: Sink) -> Door:
    return make_door(SETTINGS, sink)


@pytest.mark.parametrize("stream", [True, False])
def test_a_transcript_holds_prompt_and_answer_masked(keeping: Door, sink: Sink, stream: bool) -> None:
    keeping.sagemaker.replies = [Reply(parts=cut(chat_events("Mail bob", "@y.org now"), 45))]
    _, body = keeping.ask(chat(f"I am {SECRET}", stream=stream, user="u-7"))
    assert b"bob" in body
    kept = sink.only()
    assert [(turn.role, turn.text) for turn in kept.prompt] == [("user", "I am [EMAIL]")]
    assert kept.answer == "Mail [EMAIL] now"
    assert (kept.record.user, kept.record.completion_tokens, kept.record.status) == ("u-7", 3, 200)


def test_the_key_names_day_and_tenant_but_not_the_user(keeping: Door, sink: Sink) -> None:
    keeping.ask(chat(user="u-7"))
    (key,) = sink.lines
    assert key.startswith("transcripts/day=20")
    assert "/tenant=shop/user=" in key
    assert key.endswith("/req-1.jsonl")
    assert "u-7" not in key


def test_a_key_that_opted_out_leaves_no_transcript(keeping: Door, sink: Sink) -> None:
    keeping.ask(chat(), **AUTHORIZER, keep_text="false")
    assert sink.lines == {}
    assert keeping.record() is not None


def test_a_refused_request_leaves_no_transcript(keeping: Door, sink: Sink) -> None:
    keeping.ask(b"{")
    assert sink.lines == {}


def test_a_transcript_that_cannot_be_kept_breaks_nothing(
    make_door: MakeDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    reply, _ = make_door(SETTINGS, Sink(failing=True)).ask(chat("zanzibar-4711"))
    output = capsys.readouterr().out
    assert reply.status == 200
    assert emitted(output, metrics.RECORDS_LOST)
    assert "zanzibar-4711" not in output


# --- the bucket ------------------------------------------------------------------------------------------


@contextmanager
def s3(status: int) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A server that takes puts and answers with `status`."""
    puts: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            puts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", puts
    finally:
        server.shutdown()
        server.server_close()


def test_an_object_is_put_signed_under_its_encoded_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3(200) as (url, puts):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        Bucket("records").put("transcripts/day=2026-11-22/a.jsonl", b"{}\n")
    ((path, headers, body),) = puts
    assert path == "/records/transcripts/day%3D2026-11-22/a.jsonl"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"{}\n").hexdigest()
    assert "/us-east-1/s3/aws4_request" in headers["authorization"]
    assert body == b"{}\n"


def test_a_put_that_is_refused_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3(403) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(StoreError, match="403"):
            Bucket("records").put("k", b"x")


# --- forgetting ------------------------------------------------------------------------------------------


def record(request_id: str, tenant: str, user: str | None) -> InferenceRecord:
    return InferenceRecord(
        request_id=request_id,
        tenant=tenant,
        user=user,
        received_at=1.0,
        model=MODEL,
        model_version="v1",
        variant=None,
        streamed=False,
        status=200,
        duration_ms=1.0,
    )


class Stacks:
    """CloudFormation with the outputs of the data stack."""

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        outputs = {
            "RecordsBucketName": "bucket",
            "RecordsTableName": "records",
            "WorkBucketName": "work",
            "WorkTableName": "work",
        }
        listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {"Stacks": [{"StackName": StackName, "Outputs": listed}]}


@pytest.fixture
def stores(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A versioned bucket and the table, with requests of several users."""
    bucket = boto3.client("s3")
    bucket.create_bucket(Bucket="bucket")
    bucket.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    for number, (tenant, user, day) in enumerate(
        [
            ("shop", "u-7", "2026-11-21"),
            ("shop", "u-7", "2026-11-22"),
            ("shop", "u-8", "2026-11-22"),
            ("shop", None, "2026-11-22"),
            ("rival", "u-7", "2026-11-22"),
        ]
    ):
        kept = record(f"req-{number}", tenant, user)
        for _ in range(2):
            bucket.put_object(Bucket="bucket", Key=transcript_key(day, kept), Body=b"{}")
        row = {"pk": kept.request_id, "sk": "RECORD", **kept.model_dump()}
        tables.put_item(TableName="records", Item=to_item(row))
    feedback = {"pk": "req-0", "sk": "FEEDBACK#1", "tenant": "shop", "comment": "mine"}
    tables.put_item(TableName="records", Item=to_item(feedback))
    clients = {"cloudformation": Stacks(), "s3": bucket, "dynamodb": tables}
    # Who may ask: tests/unit/operations
    monkeypatch.setattr(
        forget, "open_target", lambda env: SimpleNamespace(name=env, client=clients.__getitem__)
    )
    return bucket


def test_a_user_is_forgotten_everywhere_and_nobody_else(
    stores: Any, tables: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forget.main(["--env", "dev", "--tenant", "shop", "--user", "u-7"]) == 0
    # Two requests with two versions each; their two rows and one piece of feedback.
    assert capsys.readouterr().out == (
        "deleted 4 transcripts and 3 rows; 0 jobs, 0 lines of files and 0 kept answers\n"
    )
    left = stores.list_object_versions(Bucket="bucket")
    assert len(left["Versions"]) == 6
    assert "DeleteMarkers" not in left
    rows = tables.scan(TableName="records")["Items"]
    assert {row["pk"]["S"] for row in rows} == {"req-2", "req-3", "req-4"}


def test_forgetting_twice_is_no_error(stores: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert forget.main(["--env", "dev", "--tenant", "shop", "--user", "u-7"]) == 0
    assert capsys.readouterr().out.endswith(
        "deleted 0 transcripts and 0 rows; 0 jobs, 0 lines of files and 0 kept answers\n"
    )


def test_a_transcript_reads_back(sink: Sink, keeping: Door) -> None:
    keeping.ask(chat())
    (line,) = sink.lines.values()
    assert line.endswith(b"\n")
    assert json.loads(line)["record"]["request_id"] == "req-1"
