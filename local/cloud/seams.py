"""The one door to the emulator: every private name of ministack that Evergreen uses is used here.

`REQUIRED` lists those names; `missing_names` says in plain words which of them a new version lacks. Other
modules of `local` see the types and functions below and never import ministack themselves. Import this module
after the emulator's environment variables are set (`local.cloud.__main__` does).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
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


class StreamingResponse:
    """A body that is sent piece by piece as the iterator yields it.

    When the client leaves, the iterator is closed. When the iterator raises, the connection is cut, so that
    the client sees a truncated body and not a complete one.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        raise NotImplementedError


class Reply(NamedTuple):
    """What a handler answers. A list of strings as a header's value gives several header lines."""

    status: int
    headers: Headers
    body: bytes | StreamingResponse


class Permission(NamedTuple):
    """What a request needs: `action` such as `sagemaker:InvokeEndpoint` on each of `resources` (ARNs)."""

    action: str
    resources: Sequence[str] = ("*",)


class Refusal(NamedTuple):
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
class Function:
    """A deployed Lambda function: `configuration` as GetFunctionConfiguration answers, code as a ZIP."""

    name: str
    arn: str
    configuration: Mapping[str, Any]
    code_zip: bytes
    code_sha256: str
    reserved_concurrency: int | None


@dataclass(frozen=True)
class RestApi:
    """A deployed REST API, in the shapes of the `apigateway` API (GetResources with embedded methods …).

    `resources` by resource id (`pathPart`, `parentId`, `path`, `resourceMethods` with `methodIntegration`),
    `authorizers`, `validators` and `models` by id, `stages` by name, `gateway_responses` by response type.
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


Handler = Callable[[HttpRequest], Awaitable[Reply]]


# ---- HTTP ---------------------------------------------------------------------------------------------------


def add_service(
    name: str,
    *,
    handler: Handler,
    target_prefix: str | None = None,
    matches: Callable[[str, str, Mapping[str, str]], bool] | None = None,
    permission: Callable[[HttpRequest], Permission | None] | None = None,
) -> None:
    """Serve one AWS service. Requests are recognised by `X-Amz-Target: <target_prefix>.<Operation>` (give
    the prefix with its dot, `SageMaker.`) or by `matches(method, path, headers)`.

    The emulator checks the signature of every request first, and that the caller's policies allow
    `permission(request)`; by default that is `<name>:<Operation>` on `*`. A permission of None allows any
    authenticated caller.
    """
    raise NotImplementedError


def add_http_route(prefix: str, handler: Handler, *, max_body_bytes: int = 10 * 1024 * 1024) -> None:
    """Take over every path that starts with `prefix` before the emulator sees it, signature check included:
    the handler is alone responsible for who may call. A larger body is answered 413."""
    raise NotImplementedError


def authorize(request: HttpRequest, service: str, permission: Permission) -> Refusal | str:
    """Check a route's SigV4 signature (signed for `service`) and the caller's policies; answers the caller's
    ARN, or why not. For routes of `add_http_route` that want IAM callers."""
    raise NotImplementedError


# ---- CloudFormation -----------------------------------------------------------------------------------------

CreateResource = Callable[[str, dict[str, Any], str], tuple[str, dict[str, Any]]]
UpdateResource = Callable[[str, dict[str, Any], dict[str, Any], str], tuple[str, dict[str, Any]]]
DeleteResource = Callable[[str, dict[str, Any]], None]


def add_resource_type(
    type_name: str,
    *,
    create: CreateResource,
    update: UpdateResource,
    delete: DeleteResource,
    create_only: Sequence[str] = (),
) -> None:
    """Teach CloudFormation a type. All three run on a worker thread, so they may block (use `call` to reach
    async code). An exception fails the resource with its text as the reason.

    `create(logical_id, properties, stack_name) -> (physical_id, attributes)`;
    `update(physical_id, old_properties, new_properties, stack_name) -> (physical_id, attributes)`;
    `delete(physical_id, properties)`. A change of a `create_only` property makes CloudFormation create a new
    resource and delete the old one at the end (`"*"`: any change but of Tags).
    """
    raise NotImplementedError


# ---- telemetry ----------------------------------------------------------------------------------------------


def put_metric_data(namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
    """Store CloudWatch metrics; `data` in the shape of PutMetricData's MetricData. AWS's own namespaces are
    accepted. Alarms see them at their next evaluation. May be called from any thread."""
    raise NotImplementedError


def put_log_events(group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
    """Append `(milliseconds since the epoch, message)` to a log stream; group and stream are created when
    missing. May be called from any thread."""
    raise NotImplementedError


def emit_event(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str] = ()
) -> None:
    """Put an event of an AWS service (`aws.sagemaker` …) on the default event bus."""
    raise NotImplementedError


# ---- identity, functions, APIs ------------------------------------------------------------------------------


def role_credentials(role_arn: str, session_name: str, *, service: str | None = None) -> Credentials:
    """Credentials of a role, as the service principal (`lambda.amazonaws.com`) would obtain them.

    Raises PermissionError when the role is unknown or its trust policy does not name `service`.
    """
    raise NotImplementedError


def function(name_or_arn: str) -> Function | None:
    """The function behind a name, ARN, version or alias; None when there is none."""
    raise NotImplementedError


def function_permits(function_arn: str, principal: str, source_arn: str) -> bool:
    """Whether the function's resource policy lets a service principal (`apigateway.amazonaws.com`) invoke it
    on behalf of `source_arn`."""
    raise NotImplementedError


def rest_api(api_id: str) -> RestApi | None:
    """A REST API as deployed; None when there is none."""
    raise NotImplementedError


def usage_plans(api_id: str, stage: str) -> Sequence[UsagePlan]:
    """The usage plans that cover a stage."""
    raise NotImplementedError


# ---- life cycle ---------------------------------------------------------------------------------------------


def on_startup(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop after saved state is restored and before the first request is served."""
    raise NotImplementedError


def on_shutdown(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop at a clean stop, in reverse order of registration, each within 20 s."""
    raise NotImplementedError


def add_state(name: str, save: Callable[[], dict[str, Any]], load: Callable[[dict[str, Any]], None]) -> None:
    """Keep a plug-in's state across restarts together with the emulator's: `save` answers JSON data."""
    raise NotImplementedError


def call(coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """From a worker thread: run a coroutine on the event loop and wait for its result (seconds)."""
    raise NotImplementedError
