"""What a chat costs in the two functions by themselves: processor time, and the delay of the first token.

    python -m bench.gateway.function [--chats 1000] [--bundle] [--profile FILE]

Each function is a process as deployed, with its own runtime. Its Runtime API is served by this process, the
model and the tables by the stub: what is measured is ours alone, no emulator has a part in it. Processor
time hardly depends on what else the machine does, so this can be run beside other work. Without `--bundle`
the sources of the working tree run as they are. `--profile` writes cProfile's statistics of streamed chats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.common import REPOSITORY, command_line, machine
from bench.gateway import cold
from bench.gateway.asking import PROMPT
from bench.gateway.processes import cpu_clock, free_port, running
from bench.gateway.stub import MODEL

VENVS = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
WARM_UP = 100
ROUNDS = 5
FUNCTIONS = ("inference", "authorizer")
_TEXT = b'"content":"An'
_PROFILED = (
    "import atexit, cProfile, runpy, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
    "p = cProfile.Profile(); p.enable(); atexit.register(lambda: (p.disable(), p.dump_stats({file!r})));"
    "runpy.run_module('lambdas.runtime.streaming', run_name='__main__')"
)


@dataclass
class RuntimeApi:
    """A Lambda Runtime API for one process, blocking: one event after the other."""

    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _connection: socket.socket | None = None
    _received: bytes = b""

    @property
    def address(self) -> str:
        """For `AWS_LAMBDA_RUNTIME_API`."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def ready(self) -> None:
        """Wait until the process asks for an event."""
        if self._connection is None:
            self._listener.settimeout(60)
            self._connection, _ = self._listener.accept()
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.settimeout(60)
        self._until(b"\r\n\r\n")
        self._received = b""

    def invoke(self, number: int, event: bytes) -> float:
        """Seconds until the first text of the answer, its end where it has none; all of it is read."""
        assert self._connection is not None
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(event)}\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {number}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int((time.time() + 60) * 1000)}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:bench\r\n"
            "Lambda-Runtime-Trace-Id: Root=1-00000000-000000000000000000000000;Sampled=0\r\n\r\n"
        )
        started = time.perf_counter()
        self._connection.sendall(head.encode() + event)
        self._until(b"\r\n\r\n")
        first: float | None = None
        if b"transfer-encoding: chunked" in self._received.lower():
            first = self._until(_TEXT) - started
            self._until(b"\r\n0\r\n\r\n")
        else:
            headers, _, rest = self._received.partition(b"\r\n\r\n")
            length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(rest) < length:
                rest += self._connection.recv(65_536)
            if b"/error " in headers:
                raise RuntimeError(f"the function failed: {rest[:500]!r}")
        ended = time.perf_counter() - started
        self._received = b""
        self._connection.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 15\r\n\r\n{"status":"OK"}')
        return first if first is not None else ended

    def _until(self, mark: bytes) -> float:
        assert self._connection is not None
        while mark not in self._received:
            piece = self._connection.recv(65_536)
            if not piece:
                raise RuntimeError(f"the function hung up after {self._received[:500]!r}")
            self._received += piece
        return time.perf_counter()


@dataclass(frozen=True)
class Subject:
    """A function to measure: its process's command and handler, and the event that it is given."""

    command: list[str]
    handler: str
    event: dict[str, Any]

    @property
    def function(self) -> str:
        """The function's name: its package below `lambdas`."""
        return self.handler.split(".")[1]


def event(*, stream: bool, limited: bool) -> dict[str, Any]:
    """A short chat as API Gateway hands it over; `limited` keys have their budget reserved first."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 16}
    limits = {"tokens_per_day": "1000000000", "requests_per_second": "1000000.0"} if limited else {}
    headers = {
        "accept": "*/*", "accept-encoding": "gzip, deflate", "authorization": "Bearer eg-" + "0" * 43,
        "content-type": "application/json", "Host": "abcdefghij.execute-api.us-east-1.amazonaws.com",
        "user-agent": "OpenAI/Python 2.0", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https", "X-Amzn-Trace-Id": "Root=1-00000000-000000000000000000000000",
    }  # fmt: skip
    path = "/v1/chat/completions"
    return {
        "resource": path, "path": path, "httpMethod": "POST", "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None, "multiValueQueryStringParameters": None, "pathParameters": None,
        "stageVariables": None, "isBase64Encoded": False,
        "requestContext": {
            "accountId": "123456789012", "apiId": "abcdefghij", "httpMethod": "POST", "stage": "bench",
            "identity": {"sourceIp": "127.0.0.1", "userAgent": "OpenAI/Python 2.0", "userArn": None},
            "path": f"/bench{path}", "requestId": "00000000-0000-0000-0000-000000000000",
            "authorizer": {"tenant": "bench", "key_name": "bench", "key_id": "0" * 12,
                           "scopes": "inference", **limits},
        },
        "body": json.dumps(asked | ({"stream": True} if stream else {})),
    }  # fmt: skip


def subjects(python: Path, profile: str | None) -> dict[str, Subject]:
    """By name: the inference function's kinds of chat, and the authorizer."""
    code = ["-c", _PROFILED.format(file=profile)] if profile else ["-m", "lambdas.runtime.streaming"]
    inference, handler = [str(python), *code], "lambdas.inference.handler.handler"
    asked = event(stream=True, limited=False)
    arn = "arn:aws:execute-api:us-east-1:123456789012:abcdefghij/bench/POST/v1/chat/completions"
    authorizer = {"type": "REQUEST", "methodArn": arn, **{k: v for k, v in asked.items() if k != "body"}}
    found = {
        "streamed": Subject(inference, handler, asked),
        "streamed, key with limits": Subject(inference, handler, event(stream=True, limited=True)),
        "whole": Subject(inference, handler, event(stream=False, limited=False)),
        "authorizer": Subject(
            [str(python), "-m", "awslambdaric", "lambdas.authorizer.handler.handler"],
            "lambdas.authorizer.handler.handler",
            authorizer,
        ),
    }
    return {"streamed": found["streamed"]} if profile else found


def bundles(folder: Path) -> dict[str, str]:
    """The functions' bundles for this machine, by name."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return {
        name: str(cold.build(version, platform.machine(), folder / name, host=True, function=name))
        for name in FUNCTIONS
    }


def process_variables(subject: Subject, url: str, path: str, runtime_api: str) -> dict[str, str]:
    """The environment of a function's process: AWS at `url`, its code on `path`."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
    return kept | cold.VARIABLES | {
        "PYTHONPATH": path, "_HANDLER": subject.handler, "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_ENDPOINT_URL": url, "AWS_SESSION_TOKEN": "0" * 400, "MODEL_NAME": MODEL,
        "AWS_LAMBDA_FUNCTION_NAME": "bench", "AWS_LAMBDA_FUNCTION_VERSION": "1", "TZ": ":UTC",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    }  # fmt: skip


@contextmanager
def started(subject: Subject, url: str, path: str, log: Path) -> Iterator[tuple[RuntimeApi, int]]:
    """The function's process, which has asked for its first event, and its process id."""
    api = RuntimeApi()
    variables = process_variables(subject, url, path, api.address)
    with log.open("wb") as out:
        child = subprocess.Popen(subject.command, env=variables, stdout=out, stderr=out, cwd=log.parent)
    try:
        api.ready()
        yield api, child.pid
    finally:
        child.terminate()
        child.wait(30)


def measure(options: argparse.Namespace, stack: ExitStack) -> dict[str, dict[str, list[float]]]:
    """By function: milliseconds of processor time per chat of each round, and to the first token of each."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-bench-")))
    url = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "bench.gateway.stub", str(port)]
    stack.enter_context(running(words, scratch / "stub.log", {"PYTHONPATH": str(REPOSITORY)}, url, 30))
    python = VENVS / "lambda" / "bin" / "python"
    sources = f"{REPOSITORY}:{next((VENVS / 'dev' / 'lib').glob('python3*')) / 'site-packages'}"
    paths = bundles(scratch) if options.bundle else dict.fromkeys(FUNCTIONS, sources)
    live = {
        name: stack.enter_context(started(subject, url, paths[subject.function], scratch / f"{number}.log"))
        for number, (name, subject) in enumerate(subjects(python, options.profile).items())
    }
    events = {
        name: json.dumps(subject.event).encode()
        for name, subject in subjects(python, options.profile).items()
    }
    seen: dict[str, dict[str, list[float]]] = {name: {"cpu_ms": [], "first_ms": []} for name in live}
    for turn in range(ROUNDS + 1):
        for name, (api, pid) in live.items():
            before = cpu_clock(pid)
            count = options.chats // ROUNDS if turn else WARM_UP
            for number in range(count):
                took = api.invoke(number, events[name])
                api.ready()
                if turn:
                    seen[name]["first_ms"].append(1000 * took)
            if turn:
                seen[name]["cpu_ms"].append(1000 * (cpu_clock(pid) - before) / count)
    return seen


def main() -> int:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.function", description=__doc__)
    parser.add_argument("--chats", type=int, default=1000, help="chats of each kind")
    parser.add_argument("--bundle", action="store_true", help="run the compiled bundle")
    parser.add_argument("--profile", help="write cProfile's statistics of streamed chats to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        seen = measure(options, stack)
    print(f"`{command_line()}`: {machine()}, Python {platform.python_version()}\n")
    print("| function | processor time per chat, ms | to the first token, ms |\n|---|---|---|")
    for name, figures in seen.items():
        cpu, first = figures["cpu_ms"], figures["first_ms"]
        quartiles = statistics.quantiles(first, n=4)
        print(
            f"| {name} | {statistics.median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f}) "
            f"| {quartiles[1]:.2f} ({quartiles[0]:.2f} to {quartiles[2]:.2f}) |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
