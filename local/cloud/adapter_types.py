"""The vocabulary of the emulator adapter: requests, replies and deployed things as plain data.

Knows nothing of the emulator; `local.cloud.ministack_adapter` fills these in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Headers = dict[str, str | list[str]]


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived. `headers` has lower-case names, repeated ones joined by commas;
    `path` is percent-decoded, `raw_path` is not; `query` keeps blank values."""

    method: str
    path: str
    raw_path: str
    query_string: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes
    client_ip: str
    request_id: str
    account: str
    region: str
    header_lines: Sequence[tuple[str, str]] = ()  # as they came, repeated ones each by itself


class StreamingResponse:
    """A body that is sent piece by piece as the iterator yields it.

    When the client leaves, the iterator is closed. When the iterator raises, the connection is cut, so that
    the client sees a truncated body and not a complete one.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks


class HttpResponse(NamedTuple):
    """What a handler answers. A list of strings as a header's value gives several header lines."""

    status: int
    headers: Headers
    body: bytes | StreamingResponse


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class Permission(NamedTuple):
    """What a request needs: `action` such as `sagemaker:InvokeEndpoint` on each of `resources` (ARNs)."""

    action: str
    resources: Sequence[str] = ("*",)


class AccessDenied(NamedTuple):
    """Why a caller may not: AWS's error code, message and HTTP status."""

    code: str
    message: str
    status: int = 403


class Credentials(NamedTuple):
    """Temporary credentials as STS gives them out."""

    access_key_id: str
    secret_access_key: str
    session_token: str


@dataclass(frozen=True)
class LambdaFunction:
    """A deployed Lambda function: `configuration` as GetFunctionConfiguration answers, code and layers as
    ZIP bytes. `version` is `$LATEST` or a published number."""

    name: str
    arn: str
    version: str
    configuration: Mapping[str, Any]
    code_zip: bytes
    layer_zips: Sequence[bytes]
    reserved_concurrency: int | None


class TaskError(Exception):
    """A state machine's task failed: the error's name and its cause, as Retry and Catch see them."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


@dataclass(frozen=True)
class StateMachineTask:
    """A task of a state machine that is about to run: its `resource` without `.waitForTaskToken`, the input
    after all transformations, and whose role it runs under. `is_abandoned` says that nobody waits for it any
    more: the execution ended, or the task's time is up."""

    resource: str
    input: Any
    role_arn: str
    execution_arn: str
    is_abandoned: Callable[[], bool]


@dataclass(frozen=True)
class RestApi:
    """A deployed REST API, in the shapes of the `apigateway` API (GetResources with embedded methods …).

    `resources` by resource id (`pathPart`, `parentId`, `path`, `resourceMethods` with `methodIntegration`,
    whose `responseTransferMode` is `BUFFERED` or `STREAM`), `authorizers`, `validators` and `models` by id,
    `stages` by name, `gateway_responses` by response type.
    """

    api: Mapping[str, Any]
    resources: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, Any]]
    authorizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    validators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gateway_responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class UsagePlan:
    """A usage plan and the API keys attached to it (each with `id`, `name`, `value`, `enabled`)."""

    plan: Mapping[str, Any]
    keys: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class MetricSample:
    """A value that was published `count` times, or a statistic set; `moment` in epoch seconds."""

    moment: float
    unit: str
    count: float
    total: float
    low: float
    high: float


CreateResource = Callable[[str, dict[str, Any], str], tuple[str, dict[str, Any]]]
UpdateResource = Callable[[str, dict[str, Any], dict[str, Any], str], tuple[str, dict[str, Any]]]
DeleteResource = Callable[[str, dict[str, Any]], None]
