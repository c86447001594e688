"""Runs deployed functions in processes of their own, over the Lambda Runtime API."""

from __future__ import annotations

from typing import Any

from local.cloud.lambda_results import InvokeResult, StreamResult


async def invoke(name_or_arn: str, event: Any, *, timeout: float | None = None) -> InvokeResult:
    """Run a function to its end. Raises KeyError for an unknown function, `TooManyRequests` when its
    concurrency is exhausted. `timeout` (seconds) shortens the function's own."""
    raise NotImplementedError


async def invoke_stream(name_or_arn: str, event: Any, *, timeout: float | None = None) -> StreamResult:
    """Start a function and answer as soon as its answer begins. A function that answers whole is given as a
    stream of one piece. Raises StreamError when it fails before its first byte."""
    raise NotImplementedError
