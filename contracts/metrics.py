"""Metric names and dimensions that Evergreen publishes to CloudWatch, in one place.

Names follow the OpenTelemetry semantic conventions for generative AI where those have one; CloudWatch
metric names may hold dots. Units are CloudWatch's.
"""

from __future__ import annotations

NAMESPACE = "Evergreen"

REQUESTS = "evergreen.requests"
ERRORS = "evergreen.errors"
RECORDS_LOST = "evergreen.records.lost"
GUARD_FINDINGS = "evergreen.guard.findings"
GUARD_DURATION = "evergreen.guard.duration"  # Milliseconds
BUDGET_UNCHECKED = "evergreen.budget.unchecked"
FEEDBACK = "evergreen.feedback"
FEEDBACK_SCORE = "evergreen.feedback.score"
RELEASE_VERDICT = "evergreen.release.verdict"  # 1 promote, 0 open, -1 roll back
DURATION = "gen_ai.server.request.duration"  # Milliseconds
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105 (Milliseconds)
TIME_PER_OUTPUT_TOKEN = "gen_ai.server.time_per_output_token"  # noqa: S105 (Milliseconds)
INPUT_TOKENS = "gen_ai.client.token.usage.input"
OUTPUT_TOKENS = "gen_ai.client.token.usage.output"

DIM_ENDPOINT = "endpoint"
DIM_VARIANT = "variant"
DIM_MODEL_VERSION = "model_version"
DIM_ERROR_TYPE = "error_type"
DIM_GUARD = "guard"

SAGEMAKER_NAMESPACE = "AWS/SageMaker"
SAGEMAKER_HOST_NAMESPACE = "/aws/sagemaker/Endpoints"
