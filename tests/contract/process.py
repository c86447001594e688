"""Starts the inference handler as a process of its own, as SageMaker would, and stops it again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
VENVS = Path(os.environ.get("EVERGREEN_VENVS", ROOT / ".evergreen" / "venvs"))
PYTHON = VENVS / "serving" / "bin" / "python"
MODEL = "tiny"
ENGINES = ["transformers", "openvino"]
START_SECONDS = 180.0
EXIT_SECONDS = 60.0
LOG_SECONDS = 30.0


class ServerProcess:
    """A running server; use it as a context manager. `lines` are its parsed log lines so far."""

    def __init__(self, model_folder: Path, **environment: str) -> None:
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

    def __enter__(self) -> ServerProcess:
        self.process = subprocess.Popen(
            [PYTHON, "-m", "model_code.serving"],
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
        deadline = time.monotonic() + LOG_SECONDS
        while time.monotonic() < deadline:
            for line in reversed(self.lines):
                if fields.items() <= line.items():
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no log line with {fields}:\n{self.output}")

    def client(self, timeout: float = 120.0) -> httpx.Client:
        """An HTTP client for it."""
        return httpx.Client(base_url=self.url, timeout=timeout)

    def wait_ready(self) -> ServerProcess:
        """Wait until `/ping` answers 200."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server exited:\n{self.output}"
            if self.ping() == 200:
                return self
            time.sleep(0.1)
        raise AssertionError(f"the server was not ready in {START_SECONDS} s:\n{self.output}")

    def ping(self) -> int | None:
        """The status of `/ping`; None when nobody listens."""
        try:
            return httpx.get(f"{self.url}/ping", timeout=30).status_code
        except httpx.TransportError:
            return None

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
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


def made(*words: str | Path, texts: list[str] | None = None) -> Any:
    """What `tests.contract.make_models` makes of these words, in the serving environment."""
    done = subprocess.run(
        [PYTHON, "-m", "tests.contract.make_models", *words],
        cwd=ROOT,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


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
