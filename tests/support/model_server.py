"""Starts a server as a process of its own, as SageMaker would, and stops it: ours, or a peer by name."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

from contracts import container
from contracts.errors import ErrorObject, ErrorReply
from tests.contract.differences import NUMBERED_ERRORS
from tests.support import peers

ROOT = Path(__file__).parents[2]
VENVS = Path(os.environ.get("EVERGREEN_VENVS", ROOT / ".evergreen" / "venvs"))
PYTHON = VENVS / "serving" / "bin" / "python"
MODEL = "tiny"
CONTEXT_TOKENS = 1024
"""What a request to the shared server may hold."""
ENGINES = ["transformers", "openvino"]
SERVERS = [*ENGINES, *(pytest.param(name, marks=pytest.mark.peers) for name in peers.PEERS)]
"""Ours by engine, and the opt-in ones."""
UNENCRYPTED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `verify`: a client of its own would read the machine's certificates, 20 ms of a core for each."""
START_SECONDS = 180.0
PEER_START_SECONDS = 600.0  # vLLM's start takes minutes
EXIT_SECONDS = 60.0
LOG_SECONDS = 30.0


class ServerProcess:
    """A running server; use it as a context manager. `lines` are its parsed log lines so far."""

    def __init__(self, model_folder: Path, **environment: str) -> None:
        self.kind = environment.get("EVERGREEN_ENGINE", "auto")
        self.is_peer = self.kind in peers.PEERS
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[dict[str, Any]] = []
        self.plain: list[str] = []
        self._environment = {
            **os.environ,
            "SM_MODEL_DIR": str(model_folder),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "EVERGREEN_HOST": "127.0.0.1",
            "EVERGREEN_MODEL_NAME": MODEL,
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self._command = [str(PYTHON), "-m", "model_code.serving"]
        if self.is_peer:
            self._command, own = peers.command(self.kind, model_folder, self.port, self._environment)
            self._environment |= own

    def __enter__(self) -> ServerProcess:
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            if self.is_peer:  # its own processes end with it only when asked
                self.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(EXIT_SECONDS)
            self.process.kill()
        self.process.wait(EXIT_SECONDS)
        self._reader.join(EXIT_SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.plain.append(line)

    @property
    def output(self) -> str:
        """Everything it wrote, for messages."""
        return "\n".join([*(json.dumps(line) for line in self.lines), *self.plain])

    def line(self, **fields: str) -> dict[str, Any]:
        """The last log line with these fields, waited for: it may be on its way."""
        assert self.kind not in peers.PATHS, "this server logs no lines of ours"
        deadline = time.monotonic() + LOG_SECONDS
        while time.monotonic() < deadline:
            for line in reversed(self.lines):
                if fields.items() <= line.items():
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no log line with {fields}:\n{self.output}")

    def client(self, timeout: float = 120.0) -> Client:
        """An HTTP client for it."""
        return Client(self.kind, base_url=self.url, timeout=timeout)

    def wait_ready(self) -> ServerProcess:
        """Wait until `/ping` answers 200."""
        seconds = PEER_START_SECONDS if self.is_peer else START_SECONDS
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server exited:\n{self.output}"
            if self.ping() == 200:
                return self
            time.sleep(0.1)
        raise AssertionError(f"the server was not ready in {seconds} s:\n{self.output}")

    def ping(self) -> int | None:
        """The status of `/ping`; None when nobody listens."""
        try:
            path = peers.PATHS.get(self.kind, {}).get("/ping", "/ping")
            return httpx.get(f"{self.url}{path}", timeout=30, verify=UNENCRYPTED).status_code
        except httpx.TransportError:
            return None

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"{self.url}/metrics", timeout=30, verify=UNENCRYPTED).text
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + "{")
        )

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self) -> int:
        """The exit status, once it has ended by itself."""
        status = self.process.wait(EXIT_SECONDS)
        self._reader.join(EXIT_SECONDS)
        return status


def made(*words: str | Path, texts: list[Any] | None = None) -> Any:
    """What `tests.support.make_models` makes of these words, in the serving environment."""
    done = subprocess.run(
        [PYTHON, "-m", "tests.support.make_models", *words],
        cwd=ROOT,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


class Client(httpx.Client):
    """Asks a server that is no SageMaker container where it has what the contract asks for."""

    def __init__(self, kind: str, **options: Any) -> None:
        if kind == peers.LLAMA:  # it closes a connection after a hundred requests, without a word
            options["limits"] = httpx.Limits(max_keepalive_connections=0)
        super().__init__(verify=UNENCRYPTED, **options)
        self.kind = kind
        self._paths = peers.PATHS.get(kind, {})

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """See httpx."""
        path = self._paths.get(str(url), url)
        if self._paths and str(url) == "/invocations":  # what the attribute names is a path of its own there
            attributes = (options.get("headers") or {}).get(container.HEADER_CUSTOM_ATTRIBUTES)
            path = container.decode_attributes(attributes).get(container.ATTRIBUTE_ROUTE, path)
        if self._paths and options.get("content") is not None:  # SageMaker's callers need not say what it is
            options["headers"] = {"content-type": "application/json", **(options.get("headers") or {})}
        return super().build_request(method, path, **options)


def refused(client: Client, reply: httpx.Response, status: int) -> ErrorObject | None:
    """The error in a reply with this status; None from a server whose errors have a form of their own."""
    assert reply.status_code == status, reply.text
    if client.kind not in NUMBERED_ERRORS:
        return ErrorReply.model_validate_json(reply.content).error
    error = reply.json()["error"]
    assert error["message"]
    assert error["type"]
    assert error["code"] == status
    return None


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request's body; `fields` override the defaults, None removes one."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 8,
        **fields,
    }
    return {name: value for name, value in body.items() if value is not None}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a streamed reply up to `[DONE]`, which must be the last one."""
    data = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert data[-1] == "[DONE]", data[-3:]
    return [json.loads(item) for item in data[:-1]]


def streamed_text(chunks: list[dict[str, Any]]) -> str:
    """The text that a stream's chunks add up to."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)
