"""What the model container is told and what it answers with: environment names and headers.

`infra` writes the environment, `model_code` reads it; SageMaker's own names are kept as they are.
"""

from __future__ import annotations

import urllib.parse

ENV_ENGINE = "EVERGREEN_ENGINE"  # auto | transformers | openvino
ENV_MODEL_NAME = "EVERGREEN_MODEL_NAME"  # the name callers put into `model`
ENV_MODEL_VERSION = "EVERGREEN_MODEL_VERSION"
ENV_MODEL_DIGEST = "EVERGREEN_MODEL_DIGEST"
ENV_MAX_CONTEXT = "EVERGREEN_MAX_CONTEXT_TOKENS"
ENV_MAX_QUEUED = "EVERGREEN_MAX_QUEUED_REQUESTS"
ENV_MAX_QUEUED_TOKENS = "EVERGREEN_MAX_QUEUED_TOKENS"  # prompts and answers of waiting requests, in all
ENV_MAX_RUNNING = "EVERGREEN_MAX_RUNNING_REQUESTS"
ENV_DEFAULT_MAX_TOKENS = "EVERGREEN_DEFAULT_MAX_TOKENS"
ENV_REQUEST_TIMEOUT = "EVERGREEN_REQUEST_TIMEOUT_SECONDS"
ENV_DRAIN = "EVERGREEN_DRAIN_SECONDS"  # how long running requests may go on after SIGTERM
ENV_STALL = "EVERGREEN_STALL_SECONDS"  # without a token for so long while requests run, unhealthy
ENV_IDLE_RELEASE = "EVERGREEN_IDLE_RELEASE_SECONDS"  # unused for so long, memory is given back; 0: never
ENV_HOST = "EVERGREEN_HOST"  # address to listen on
ENV_MAX_ADAPTERS = "EVERGREEN_MAX_ADAPTERS"  # LoRA adapters loaded at once; 0 (the default) turns them off
ENV_MAX_ADAPTER_BYTES = "EVERGREEN_MAX_ADAPTER_BYTES"  # what all loaded adapters may hold together
ENV_ADAPTER_FOLDER = "EVERGREEN_ADAPTER_FOLDER"  # holds a folder per adapter; a relative one is the model's
ENV_MAX_SESSIONS = "EVERGREEN_MAX_SESSIONS"  # open sessions at once

# SageMaker's own names for sticky sessions
ENV_SESSIONS_ENABLED = "SAGEMAKER_ENABLE_STATEFUL_SESSIONS"
ENV_SESSION_SECONDS = "SAGEMAKER_SESSIONS_EXPIRATION"

ENV_SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"
ENV_SAGEMAKER_MODEL_DIR = "SM_MODEL_DIR"
DEFAULT_PORT = 8080
DEFAULT_MODEL_DIR = "/opt/ml/model"
ADAPTER_FOLDER = "adapters"  # in the artefact: a folder for each LoRA adapter
HOOK_FILE = "code/evergreen_hook.py"  # in the artefact: what AWS's vLLM image loads as our hook

HEADER_CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
HEADER_ADAPTER = "X-Amzn-SageMaker-Adapter-Identifier"
HEADER_SESSION = "X-Amzn-SageMaker-Session-Id"
HEADER_NEW_SESSION = "X-Amzn-SageMaker-New-Session-Id"  # `<id>; Expires=<UTC time>Z`
HEADER_CLOSED_SESSION = "X-Amzn-SageMaker-Closed-Session-Id"
ATTRIBUTE_REQUEST_ID = "request_id"
ATTRIBUTE_TRACEPARENT = "traceparent"
ATTRIBUTE_TRACESTATE = "tracestate"  # percent-encoded: it has commas; left out where it does not fit
ATTRIBUTE_ROUTE = "route"  # public path of the operation where it is not chat, e.g. /v1/embeddings
ATTRIBUTE_CALLER = "caller"  # a digest of whose request it is; none: whoever runs the endpoint
ATTRIBUTE_TIMEOUT_MS = (
    "timeout_ms"  # the caller's patience in milliseconds; the container's own bound holds too
)

ROUTE_CHAT = "/v1/chat/completions"  # what a request without a route attribute asks for
ROUTE_COMPLETIONS = "/v1/completions"
ROUTE_EMBEDDINGS = "/v1/embeddings"
ROUTE_CLASSIFY = "/v1/classify"
ROUTE_RERANK = "/v1/rerank"
ROUTE_SCORE = "/v1/score"
VLLM_CLASSIFY = "/classify"  # the one name of it that vLLM and our handler share

_SHORT_ROUTES = {VLLM_CLASSIFY: ROUTE_CLASSIFY, "/rerank": ROUTE_RERANK, "/score": ROUTE_SCORE}


def public_route(route: str) -> str:
    """A route by its public path: vLLM knows some of them by a shorter one too."""
    return _SHORT_ROUTES.get(route, route)


_LONGEST_ATTRIBUTES = 1024


def encode_attributes(attributes: dict[str, str]) -> str:
    """`k=v` pairs joined by commas, as `CustomAttributes` carries them (at most 1,024 ASCII characters)."""
    if not fits(attributes):
        raise ValueError(f"custom attributes must be ASCII and at most {_LONGEST_ATTRIBUTES} characters")
    return _joined(attributes)


def fits(attributes: dict[str, str]) -> bool:
    """Whether `CustomAttributes` can carry them."""
    text = _joined(attributes)
    return text.isascii() and len(text) <= _LONGEST_ATTRIBUTES


def _joined(attributes: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in attributes.items())


def encode_value(text: str) -> str:
    """A value that may hold commas, percent-encoded."""
    return urllib.parse.quote(text, safe="/@*=")


def decode_value(text: str) -> str:
    """The inverse of `encode_value`."""
    return urllib.parse.unquote(text)


def decode_attributes(text: str | None) -> dict[str, str]:
    """The inverse of `encode_attributes`; pieces without `=` are left out."""
    pairs = (piece.partition("=") for piece in (text or "").split(","))
    return {key.strip(): value.strip() for key, sep, value in pairs if sep}


def trace_headers(attributes: dict[str, str]) -> dict[str, str]:
    """The trace of decoded attributes as HTTP headers, for a model that is called by plain HTTP."""
    headers = {}
    if parent := attributes.get(ATTRIBUTE_TRACEPARENT):
        headers["traceparent"] = parent
    if state := attributes.get(ATTRIBUTE_TRACESTATE):
        headers["tracestate"] = decode_value(state)
    return headers
