"""A Lambda runtime that streams: what Python's managed runtime cannot do yet.

Speaks the Lambda Runtime API: take an event, call the handler, post its reply piece by piece. Knows nothing
of Evergreen's requests, so that a native runtime can replace it: delete this file, keep `StreamingReply`.

Handler contract: `handler(event, context) -> StreamingReply`.
Sources: AWS Lambda developer guide, "Building a custom runtime" (response streaming, error trailers) and
"Lambda proxy integration response format for streaming" (JSON prelude, eight NUL bytes, body).
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lambdas.runtime import environment
from lambdas.runtime.http_connection import HttpConnection, HttpProtocolError, request_head

_API = "/2018-06-01/runtime"
_PRELUDE_END = b"\0" * 8
_STREAMING = {
    "content-type": "application/vnd.awslambda.http-integration-response",
    "lambda-runtime-function-response-mode": "streaming",
    "transfer-encoding": "chunked",
    "trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}
_POST_TIMEOUT_SECONDS = 30.0


def _nothing() -> None:
    """The default of `StreamingReply.after`."""


@dataclass(frozen=True)
class StreamingReply:
    """An HTTP reply whose body is produced piece by piece.

    Each piece is sent as soon as it is yielded. `body.close()` is called when the receiver has gone, so a
    generator can let go of what it reads from. `after` runs once the reply has ended, whatever its outcome,
    and before the next event is taken: the place for work nobody waits for.
    """

    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes]
    after: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Context:
    """What the runtime knows of one invocation; names as in AWS's own context object."""

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    trace_id: str | None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops this invocation; never negative."""
        return max(0, self.deadline_ms - int(time.time() * 1000))


Handler = Callable[[dict[str, Any], Context], StreamingReply]


class RuntimeClient:
    """The Runtime API over one kept-alive connection. Not for use by several threads."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._host = {"host": address}
        # `next` is a long poll that lasts as long as the sandbox is idle or frozen: it must not time out.
        self._connection = HttpConnection(host, int(port or 80), connect_timeout=None, read_timeout=None)

    def next_event(self) -> tuple[dict[str, Any], Context]:
        """Wait for the next invocation. Raises OSError or HttpProtocolError when the API is unreachable."""
        self._connection.set_read_timeout(None)
        self._connection.request("GET", f"{_API}/invocation/next", self._host)
        response = self._connection.response("GET")
        body = response.read()
        if response.status != 200:
            raise HttpProtocolError(f"the Runtime API answered {response.status} to `next`")
        headers = response.headers
        context = Context(
            aws_request_id=headers["lambda-runtime-aws-request-id"],
            invoked_function_arn=headers.get("lambda-runtime-invoked-function-arn", ""),
            deadline_ms=int(headers.get("lambda-runtime-deadline-ms", "0")),
            trace_id=headers.get("lambda-runtime-trace-id"),
        )
        return json.loads(body), context

    def send_reply(self, request_id: str, reply: StreamingReply) -> None:
        """Post a reply piece by piece.

        An exception of `reply.body` ends the stream with error trailers and is raised again. Raises OSError
        when the receiver has gone.
        """
        prelude = json.dumps({"statusCode": reply.status, "headers": dict(reply.headers), "cookies": []})
        self._connection.set_read_timeout(_POST_TIMEOUT_SECONDS)
        head = request_head("POST", f"{_API}/invocation/{request_id}/response", self._host | _STREAMING)
        self._connection.send(head + _chunk(prelude.encode() + _PRELUDE_END))
        trailers = b""
        failure: Exception | None = None
        pieces = iter(reply.body)
        while True:
            try:
                piece = next(pieces)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - told in the trailers, then raised again
                failure, trailers = error, _trailers(error)
                break
            if piece:  # an empty chunk would end the stream
                self._connection.send(_chunk(piece))
        self._connection.send(b"0\r\n" + trailers + b"\r\n")
        self._connection.response().read()
        if failure is not None:
            raise failure

    def send_error(self, path: str, error: BaseException) -> None:
        """Post a whole error: `path` is `init/error` or `invocation/<id>/error`."""
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Function-Error-Type": f"Runtime.{type(error).__name__}",
        }
        self._connection.set_read_timeout(_POST_TIMEOUT_SECONDS)
        body = json.dumps(_describe(error)).encode()
        self._connection.request("POST", f"{_API}/{path}", self._host | headers, body)
        self._connection.response().read()

    def reset(self) -> None:
        """Drop the connection; the next call opens a fresh one."""
        self._connection.close()


def _chunk(piece: bytes) -> bytes:
    """One send per piece, so one packet: the connection does not wait for more."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _describe(error: BaseException) -> dict[str, Any]:
    """Lambda's error object. The message is left out: it may quote what a caller sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "errorType": type(error).__name__,
        "errorMessage": f"{type(error).__name__} in {frames[-1].name}" if frames else type(error).__name__,
        "stackTrace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _trailers(error: BaseException) -> bytes:
    body = base64.b64encode(json.dumps(_describe(error)).encode())
    kind = f"Runtime.{type(error).__name__}".encode()
    return (
        b"Lambda-Runtime-Function-Error-Type: " + kind + b"\r\n"
        b"Lambda-Runtime-Function-Error-Body: " + body + b"\r\n"
    )


def serve_one(client: RuntimeClient, handler: Handler) -> None:
    """Take one event and answer it. A handler's failure is posted and logged, never raised."""
    event, context = client.next_event()
    environment.set_trace_id(context.trace_id)
    try:
        reply = handler(event, context)
    except Exception as error:  # noqa: BLE001 - the runtime goes on
        _log(error, context)
        client.send_error(f"invocation/{context.aws_request_id}/error", error)
        return
    try:
        client.send_reply(context.aws_request_id, reply)
    except (OSError, HttpProtocolError) as error:
        # The receiver has gone, or the body's own source broke in a way that left the connection unusable.
        client.reset()
        _log(error, context)
    except Exception as error:  # noqa: BLE001 - the runtime goes on
        _log(error, context)
    finally:
        _finish(reply, context)


def _finish(reply: StreamingReply, context: Context) -> None:
    """Let the body go of its sources, then run `after`; neither may stop the runtime."""
    close = getattr(reply.body, "close", None)
    for step in (close, reply.after):
        try:
            if step is not None:
                step()
        except Exception as error:  # noqa: BLE001 - the runtime goes on
            _log(error, context)


def _log(error: BaseException, context: Context) -> None:
    line = {"level": "ERROR", "event": "invocation_failed", "request_id": context.aws_request_id}
    print(json.dumps({**line, **_describe(error)}), flush=True)


def load_handler(name: str) -> Handler:
    """The function that `package.module.function` names. Raises whatever its import raises."""
    module, _, function = name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module), function)
    return handler


def main() -> None:
    """Run until the sandbox ends. An error while loading the handler is reported and ends the process."""
    client = RuntimeClient(environment.required("AWS_LAMBDA_RUNTIME_API"))
    try:
        handler = load_handler(environment.required("_HANDLER").replace("/", "."))
    except Exception as error:  # noqa: BLE001 - told to Lambda, then the process ends
        print(json.dumps({"level": "ERROR", "event": "init_failed", "detail": str(error)}), flush=True)
        client.send_error("init/error", error)
        sys.exit(1)
    gc.freeze()  # what is loaded now stays: the collector need not walk it between requests
    while True:
        serve_one(client, handler)


if __name__ == "__main__":
    # Run as a module this file is `__main__`; under its own name there is one StreamingReply for all.
    from lambdas.runtime import streaming as streaming_runtime

    streaming_runtime.main()
