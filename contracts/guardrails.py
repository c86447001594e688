"""SageMaker's deployment guardrails in an update of the serving stack: the parameters a release writes.

SageMaker refuses guardrails in an update that adds or removes a variant, so that one update skips them. It
names the template (by the output EndpointShape) and the champion that it is for.
"""

from __future__ import annotations

PARAMETER = "DeploymentGuardrails"
VERSION_PARAMETER = "DeploymentGuardrailsVersion"
USE = "use"
SKIP = "skip"


def skip(shape: str) -> str:
    """The parameter's value that skips guardrails for the template whose output EndpointShape is `shape`."""
    return f"{SKIP}-{shape}"
