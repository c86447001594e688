"""The systems that `make bench` puts beside each other, each started once and asked in turns.

Our handler and the other servers answer over HTTP with streaming; libraries run in a process of
`bench.serving_peers`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx

from bench.serving_load import RequestTiming, ScheduledRequest, ServerTarget, closed_loop, open_loop
from bench.serving_peers import PAGE_TOKENS, PAGES, STEP_TOKENS
from tests.support.model_server import MODEL, PYTHON, ServerProcess, free_port

REPOSITORY = Path(__file__).resolve().parents[1]
START_SECONDS = 600.0
ONE_AT_A_TIME_REQUESTS = 4
"""Its rate does not depend on how many wait, so more requests only cost time; its TTFT is then flattered."""
RUNNING = "128"
_SERVE = "from transformers.cli.transformers import main; main()"


@dataclass(frozen=True)
class LoadResult:
    """One turn of one system: all its answers and the seconds until the last."""

    seconds: float
    answers: list[RequestTiming]

    @property
    def rate(self) -> float:
        """Tokens per second of all clients together."""
        return sum(answer.tokens for answer in self.answers) / self.seconds


class System(Protocol):
    """Something that answers prompts."""

    name: str
    start_seconds: float

    def turn(self, clients: int, tokens: int) -> LoadResult:
        """RequestTiming `clients` prompts at once."""

    def peak_megabytes(self) -> float:
        """Largest resident memory so far."""


def _run(load: Coroutine[Any, Any, tuple[float, list[RequestTiming]]]) -> tuple[float, list[RequestTiming]]:
    import uvloop  # the bench runs where the handler does; reports are read elsewhere too

    answer: tuple[float, list[RequestTiming]] = uvloop.run(load)
    return answer


class HttpSystem:
    """A server that is ready at `target`."""

    def __init__(self, name: str, target: ServerTarget, pid: int, start_seconds: float) -> None:
        self.name, self.target, self.start_seconds = name, target, start_seconds
        self._pid = pid

    def turn(self, clients: int, tokens: int) -> LoadResult:
        """See `System`."""
        return LoadResult(*_run(closed_loop(self.target, clients, tokens)))

    def open_turn(self, asks: Sequence[ScheduledRequest]) -> LoadResult:
        """Requests at their own times."""
        return LoadResult(*_run(open_loop(self.target, asks)))

    def peak_megabytes(self) -> float:
        """See `System`."""
        return peak_megabytes(self._pid)


class HandlerServer(AbstractContextManager[HttpSystem]):
    """Our handler, or a server of `tests.contract`, with as many slots as the bench has clients."""

    def __init__(self, name: str, engine: str, folder: Path, path: str = "/invocations") -> None:
        self._name, self._path = name, path
        cores = str(len(os.sched_getaffinity(0)))
        self._server = ServerProcess(
            folder,
            EVERGREEN_ENGINE=engine,
            OMP_NUM_THREADS=cores,
            EVERGREEN_MAX_RUNNING_REQUESTS=RUNNING,
            EVERGREEN_MAX_QUEUED_REQUESTS="4096",
        )

    def __enter__(self) -> HttpSystem:
        started = time.perf_counter()
        self._server.__enter__()
        self._server.wait_ready()
        seconds = time.perf_counter() - started
        target = ServerTarget(self._server.url, self._path, MODEL)
        return HttpSystem(self._name, target, self._server.process.pid, seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)


class TransformersServe(AbstractContextManager[HttpSystem]):
    """`transformers serve` with continuous batching, from the serving environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    def __enter__(self) -> HttpSystem:
        started = time.perf_counter()
        command: list[str | Path] = [PYTHON, "-c", _SERVE, "serve", str(self._folder)]
        command += ["--continuous-batching", "--host", "127.0.0.1", "--port", str(self._port)]
        # Without a bound its cache takes most of the machine's memory.
        command += ["--device", "cpu", "--cb-num-blocks", str(PAGES), "--cb-block-size", str(PAGE_TOKENS)]
        command += ["--cb-max-batch-tokens", str(STEP_TOKENS)]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{self._port}"
        deadline = started + START_SECONDS
        while True:
            if self._process.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"'{' '.join(map(str, command))}' did not start")
            try:
                httpx.get(f"{url}/health", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        target = ServerTarget(url, "/v1/chat/completions", str(self._folder))
        return HttpSystem("transformers serve", target, self._process.pid, time.perf_counter() - started)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(60)


class Library:
    """A process of `bench.serving_peers`."""

    def __init__(self, name: str, folder: Path, prompts: list[list[int]]) -> None:
        self.name = name
        self._folder, self._prompts = folder, prompts

    def __enter__(self) -> Library:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [PYTHON, "-m", "bench.serving_peers", self.name, str(self._folder)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()
        self.start_seconds = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(60)

    def turn(self, clients: int, tokens: int) -> LoadResult:
        """See `System`."""
        asked = min(clients, ONE_AT_A_TIME_REQUESTS) if self.name == "generate() one at a time" else clients
        prompts = [self._prompts[number % len(self._prompts)] for number in range(asked)]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        measured = self._read()
        answers = [RequestTiming(*figures) for figures in measured["answers"]]
        return LoadResult(measured["seconds"], answers)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"the peer '{self.name}' ended")

    def peak_megabytes(self) -> float:
        """See `System`."""
        return peak_megabytes(self._process.pid)


def tokenise(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """The prompts in tokens, as the handler makes them."""
    script = (
        "import json,sys; from pathlib import Path; from contracts.messages import Message;"
        "from model_code.serving.generation.chat_tokenizer import ChatTokenizer;"
        "t = ChatTokenizer(Path(sys.argv[1]));"
        "print(json.dumps([t.encode(t.render([Message(role='user', content=q)])) for q in sys.argv[2:]]))"
    )
    command = [PYTHON, "-c", script, str(folder), *texts]
    return list(json.loads(_output(command)))


def machine_limits() -> dict[str, float]:
    """See `bench.machine_limits`."""
    return dict(json.loads(_output([PYTHON, "-m", "bench.machine_limits"])))


def _output(command: list[Any]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=START_SECONDS)
    if done.returncode:
        sys.exit(f"evergreen: {command[0]} failed:\n{done.stderr}")
    return done.stdout


def peak_megabytes(pid: int) -> float:
    """VmHWM of a process and of its children: an engine may compute in a process of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = {int(child) for thread in threads for child in (thread / "children").read_text().split()}
    return own + sum(peak_megabytes(child) for child in children)
