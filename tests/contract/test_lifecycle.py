"""Start, overload, departure, deadline and shutdown, each with a server of its own."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contracts.artefact import MANIFEST_NAME, describe
from tests.support.model_server import ENGINES, ServerProcess, chat, events
from tests.support.peers import HOOKED_PARAMS
from tests.support.waiting import until

LONG = chat(stream=True, max_tokens=8000, temperature=0)  # drawn at random, an end might come early
SHORTER = chat(stream=True, max_tokens=900)
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module", params=[*ENGINES, *HOOKED_PARAMS])
def narrow(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[ServerProcess]:
    """A server that computes one request and lets one more wait."""
    with ServerProcess(
        tiny_model,
        EVERGREEN_ENGINE=request.param,
        EVERGREEN_MAX_RUNNING_REQUESTS="1",
        EVERGREEN_MAX_QUEUED_REQUESTS="1",
    ) as process:
        yield process.wait_ready()


def wait_for(server: ServerProcess, metric: str, value: float) -> None:
    until(lambda: server.metric(metric) == value, f"{metric} is {value}", WAIT_SECONDS)


def copy_model(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to / "model"))


def critical_lines(server: ServerProcess) -> list[str]:
    return [line["message"] for line in server.lines if line["level"] == "CRITICAL"]


def test_a_corrupt_shard_is_named_and_nothing_is_served(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_model(tiny_model, tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    with ServerProcess(folder) as server:
        assert server.wait_exit() == 1
        assert len(critical_lines(server)) == 1
        assert "model.safetensors" in critical_lines(server)[0]
        assert "Traceback" not in server.output


def test_a_missing_file_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_model(tiny_model, tmp_path)
    (folder / "tokenizer.json").unlink()

    with ServerProcess(folder) as server:
        assert server.wait_exit() == 1
        assert "tokenizer.json is missing" in critical_lines(server)[0]


def test_a_shard_that_never_came_along_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """Given an artefact that is what its manifest says, but whose index speaks of one more file."""
    folder = copy_model(tiny_model, tmp_path)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    names = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    shards = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    shards.pop("__metadata__", None)
    index = {"metadata": {"total_size": len(content)}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    weights.rename(folder / "model-00001-of-00002.safetensors")
    (folder / MANIFEST_NAME).write_bytes(describe(folder, "incomplete").canonical())

    with ServerProcess(folder) as server:
        assert server.wait_exit() == 1
        assert len(critical_lines(server)) == 1
        assert "model-00002-of-00002.safetensors" in critical_lines(server)[0]
        assert "Traceback" not in server.output


def test_another_digest_than_expected_is_refused(tiny_model: Path) -> None:
    with ServerProcess(tiny_model, EVERGREEN_MODEL_DIGEST="00" * 32) as server:
        assert server.wait_exit() == 1
        assert "00" * 32 in critical_lines(server)[0]


def test_a_wrong_setting_is_named(tiny_model: Path) -> None:
    with ServerProcess(tiny_model, EVERGREEN_MAX_RUNNING_REQUESTS="many") as server:
        assert server.wait_exit() == 1
        assert "EVERGREEN_MAX_RUNNING_REQUESTS" in critical_lines(server)[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_computes_no_numbers_is_never_ready(
    tiny_model: Path, tmp_path: Path, engine: str
) -> None:
    """Given intact files whose weights are not numbers, the start fails instead of serving nonsense."""
    folder = copy_model(tiny_model, tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4096:] = b"\xc0\x7f" * 2048  # bfloat16's NaN
    weights.write_bytes(content)
    (folder / MANIFEST_NAME).write_bytes(describe(folder, "broken").canonical())

    with ServerProcess(folder, EVERGREEN_ENGINE=engine) as server:
        assert server.wait_exit() == 1
        assert len(critical_lines(server)) == 1
        assert "not numbers" in server.output or "not finite" in server.output


def test_a_dead_engine_ends_the_server_so_that_it_is_replaced(tiny_model: Path) -> None:
    with ServerProcess(tiny_model, EVERGREEN_ENGINE="openvino") as server:
        server.wait_ready()
        with server.client() as client, client.stream("POST", "/invocations", json=LONG) as running:
            lines = running.iter_lines()
            first = next(lines)
            os.kill(worker_of(server), signal.SIGKILL)
            last = [line for line in [first, *lines] if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
        assert server.wait_exit() == 1
        assert "the engine died" in critical_lines(server)[0]


def test_an_engine_that_hangs_is_seen_though_nobody_asks(tiny_model: Path) -> None:
    with ServerProcess(tiny_model, EVERGREEN_ENGINE="openvino", EVERGREEN_STALL_SECONDS="1") as server:
        server.wait_ready()
        worker = worker_of(server)
        os.kill(worker, signal.SIGSTOP)
        try:
            until(lambda: server.ping() == 503, "the engine is missed", WAIT_SECONDS)
        finally:
            os.kill(worker, signal.SIGCONT)
        until(lambda: server.ping() == 200, "the engine is back", WAIT_SECONDS)


def worker_of(server: ServerProcess) -> int:
    """The process that computes for a server."""
    pid = server.process.pid
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return next(int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text())


def test_ping_refuses_until_the_model_answers(tiny_model: Path) -> None:
    with ServerProcess(tiny_model) as server:
        seen = set()
        while (status := server.ping()) != 200:
            seen.add(status)
            assert server.process.poll() is None, server.output
            time.sleep(0.02)

    assert seen <= {None, 503}
    assert 503 in seen


def test_a_full_queue_refuses_with_a_hint(narrow: ServerProcess) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool, narrow.client() as client:
        with client.stream("POST", "/invocations", json=LONG) as running:
            lines = running.iter_lines()  # kept: a forgotten iterator closes the stream
            next(lines)
            waiting = pool.submit(httpx.post, f"{narrow.url}/invocations", json=chat(), timeout=WAIT_SECONDS)
            wait_for(narrow, "evergreen_queued_requests", 1)

            refused = httpx.post(f"{narrow.url}/invocations", json=chat(), timeout=WAIT_SECONDS)

        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert narrow.metric("evergreen_rejections_total") >= 1
        assert waiting.result().status_code == 200  # its turn came when the first one left


def test_a_client_that_leaves_frees_its_slot(narrow: ServerProcess) -> None:
    before = narrow.metric("evergreen_cancellations_total")
    with narrow.client() as client, client.stream("POST", "/invocations", json=LONG) as running:
        lines = running.iter_lines()  # kept: a forgotten iterator closes the stream
        next(lines)
        assert narrow.metric("evergreen_running_requests") == 1

    wait_for(narrow, "evergreen_running_requests", 0)
    assert narrow.metric("evergreen_cancellations_total") == before + 1
    line = narrow.line(message="request", failure="client_disconnected")
    assert line["completion_tokens"] < LONG["max_tokens"]


def test_a_client_that_leaves_the_queue_frees_its_place(narrow: ServerProcess) -> None:
    with narrow.client() as client, client.stream("POST", "/invocations", json=LONG) as running:
        lines = running.iter_lines()  # kept: a forgotten iterator closes the stream
        next(lines)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{narrow.url}/invocations", json=chat(), timeout=0.2)
        wait_for(narrow, "evergreen_queued_requests", 0)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_deadline_ends_a_request(narrow: ServerProcess, streamed: bool) -> None:
    wait_for(narrow, "evergreen_running_requests", 0)
    # Time enough for a first token where one is expected, never enough for the last.
    patience = {"X-Amzn-SageMaker-Custom-Attributes": "timeout_ms=300"}
    reply = httpx.post(
        f"{narrow.url}/invocations", json={**LONG, "stream": streamed}, headers=patience, timeout=60
    )

    if reply.status_code == 200:
        assert streamed
        last = [line for line in reply.text.splitlines() if line][-1]
        error = json.loads(last.removeprefix("data: "))["error"]
    else:
        assert reply.status_code == 504
        error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("timeout_error", "request_timeout")
    wait_for(narrow, "evergreen_running_requests", 0)


def test_on_sigterm_running_streams_finish_and_new_work_is_refused(tiny_model: Path) -> None:
    """None that was accepted is lost, whether it is computed or waits for its turn."""
    with ServerProcess(tiny_model, EVERGREEN_MAX_RUNNING_REQUESTS="5") as server:
        server.wait_ready()
        with concurrent.futures.ThreadPoolExecutor(8) as pool, server.client() as client:
            with client.stream("POST", "/invocations", json=SHORTER) as running:
                lines = running.iter_lines()
                first = next(lines)
                others = [pool.submit(_stream, server, 300) for _ in range(8)]
                wait_for(server, "evergreen_queued_requests", 4)
                server.terminate()
                _wait_until_refusing(server)

                refused = httpx.post(f"{server.url}/invocations", json=chat(), timeout=60)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "not_ready"
                assert [first, *lines][-2:] == ["data: [DONE]", ""]
            assert all(other.result(WAIT_SECONDS)[-1]["choices"] for other in others)
        assert server.wait_exit() == 0


def test_what_outlasts_the_drain_ends_with_an_error_event(tiny_model: Path) -> None:
    with ServerProcess(tiny_model, EVERGREEN_DRAIN_SECONDS="0.2") as server:
        server.wait_ready()
        with server.client() as client, client.stream("POST", "/invocations", json=LONG) as running:
            lines = running.iter_lines()
            first = next(lines)
            server.terminate()
            last = [line for line in [first, *lines] if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "draining"
        assert server.wait_exit() == 0, server.output


def _stream(server: ServerProcess, tokens: int) -> list[dict]:
    with server.client() as client:
        with client.stream("POST", "/invocations", json=chat(stream=True, max_tokens=tokens)) as reply:
            return events(reply)


def _wait_until_refusing(server: ServerProcess) -> None:
    until(lambda: server.ping() == 503, "a ping is refused after SIGTERM", WAIT_SECONDS)
