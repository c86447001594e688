"""Metric names and dimensions that Evergreen publishes to CloudWatch, in one place.

Names follow the OpenTelemetry semantic conventions for generative AI where those have one; CloudWatch
metric names may hold dots. Units are CloudWatch's.
"""

from __future__ import annotations

NAMESPACE = "Evergreen"
CONVENTION_VERSION = "1.38.0"
"""Of OpenTelemetry's semantic conventions: what `gen_ai.…` means here and on the container's `/metrics`."""

REQUESTS = "evergreen.requests"
ERRORS = "evergreen.errors"
RECORDS_LOST = "evergreen.records.lost"
SPANS_LOST = "evergreen.spans.lost"
GUARD_FINDINGS = "evergreen.guard.findings"
GUARD_DURATION = "evergreen.guard.duration"  # Milliseconds
BUDGET_UNCHECKED = "evergreen.budget.unchecked"
JOBS = "evergreen.jobs"  # jobs and batches that are over
HANDED_OVER = "evergreen.handed_over"  # requests that became a job because the model was busy
CACHE_HITS = "evergreen.cache.hits"
CACHE_MISSES = "evergreen.cache.misses"
FEEDBACK = "evergreen.feedback"
FEEDBACK_SCORE = "evergreen.feedback.score"
RELEASE_VERDICT = "evergreen.release.verdict"  # 1 promote, 0 open, -1 roll back
UPDATES_ROLLED_BACK = "evergreen.updates.rolled_back"  # which SageMaker took back by itself
DURATION = "gen_ai.server.request.duration"  # Milliseconds
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 (Milliseconds)
TIME_PER_OUTPUT_TOKEN = "gen_ai.server.time_per_output_token"  # noqa: S105 (Milliseconds)
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 (tokens; by `gen_ai.token.type` where there are attributes)
INPUT_TOKENS = "gen_ai.client.token.usage.input"
OUTPUT_TOKENS = "gen_ai.client.token.usage.output"

DIM_ENDPOINT = "endpoint"
DIM_VARIANT = "variant"
DIM_MODEL_VERSION = "model_version"
DIM_ERROR_TYPE = "error_type"
DIM_GUARD = "guard"
DIM_OUTCOME = "outcome"  # the last status of a job or batch

SAGEMAKER_NAMESPACE = "AWS/SageMaker"
SAGEMAKER_HOST_NAMESPACE = "/aws/sagemaker/Endpoints"
SAGEMAKER_DIMENSIONS = ("EndpointName", "VariantName")
API_NAMESPACE, API_DIMENSION = "AWS/ApiGateway", "ApiName"
QUEUE_NAMESPACE, QUEUE_DIMENSION = "AWS/SQS", "QueueName"
STATES_NAMESPACE, STATES_DIMENSION = "AWS/States", "StateMachineArn"

_OF_ENDPOINT = (DIM_ENDPOINT,)
_OF_VERSION = (DIM_ENDPOINT, DIM_VARIANT, DIM_MODEL_VERSION)
_OF_GUARD = (DIM_ENDPOINT, DIM_GUARD)

PUBLISHED: dict[str, tuple[tuple[str, ...], ...]] = {
    REQUESTS: (_OF_ENDPOINT, _OF_VERSION),
    DURATION: (_OF_ENDPOINT, _OF_VERSION),
    TIME_TO_FIRST_TOKEN: (_OF_ENDPOINT, _OF_VERSION),
    TIME_PER_OUTPUT_TOKEN: (_OF_ENDPOINT, _OF_VERSION),
    INPUT_TOKENS: (_OF_ENDPOINT, _OF_VERSION),
    OUTPUT_TOKENS: (_OF_ENDPOINT, _OF_VERSION),
    ERRORS: (_OF_ENDPOINT, _OF_VERSION, (DIM_ENDPOINT, DIM_ERROR_TYPE)),
    FEEDBACK: (_OF_ENDPOINT, _OF_VERSION),
    FEEDBACK_SCORE: (_OF_ENDPOINT, _OF_VERSION),
    RECORDS_LOST: (_OF_ENDPOINT,),
    SPANS_LOST: (_OF_ENDPOINT,),
    BUDGET_UNCHECKED: (_OF_ENDPOINT,),
    JOBS: (_OF_ENDPOINT, (DIM_ENDPOINT, DIM_OUTCOME)),
    HANDED_OVER: (_OF_ENDPOINT,),
    CACHE_HITS: (_OF_ENDPOINT,),
    CACHE_MISSES: (_OF_ENDPOINT,),
    GUARD_DURATION: (_OF_GUARD,),
    GUARD_FINDINGS: (_OF_GUARD,),
    UPDATES_ROLLED_BACK: (_OF_ENDPOINT,),
    RELEASE_VERDICT: (_OF_ENDPOINT, (DIM_ENDPOINT, DIM_MODEL_VERSION)),
}
"""The dimension sets under which the functions publish each metric: there are no others to draw or watch."""
