"""Puts the inference function together: the stages of each operation in order, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.fallback import BedrockTarget, Target
from contracts.guards import GuardSettings, ToxicitySettings
from contracts.tracing import XRayTracing
from contracts.usage import Prices
from lambdas.aws.access_table import AccessSource, AccessTable, RoutingTable
from lambdas.aws.bedrock import BedrockChat, GuardrailApi, GuardrailChecksApi
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.otlp import span_exporter
from lambdas.aws.records_table import RecordsTable
from lambdas.aws.responses_table import ResponsesTable
from lambdas.aws.s3 import Bucket
from lambdas.aws.sagemaker import SageMakerEndpoint
from lambdas.aws.sqs import TicketQueue
from lambdas.aws.usage_ledger import UsageLedger
from lambdas.aws.work_table import AnswersTable, WorkTable
from lambdas.pipeline.admission import Admit, CachedRouting, Receive, RoutingSource
from lambdas.pipeline.answer_guard import GuardAnswer
from lambdas.pipeline.async_offload import AsyncOffload, Jobs
from lambdas.pipeline.budgets import Ledger, ReserveBudget, SettleBudget
from lambdas.pipeline.cache import Answers, FindAnswer, KeepAnswer
from lambdas.pipeline.environment import InferenceEnvironment, QueueEnvironment
from lambdas.pipeline.guards.base import Guard, Guards
from lambdas.pipeline.guards.bedrock import BedrockGuardrail, BedrockScores
from lambdas.pipeline.guards.phrases import denied_topics, injection_rules
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.toxicity import ToxicityRules
from lambdas.pipeline.invocation import Invoke
from lambdas.pipeline.job_submission import Submissions
from lambdas.pipeline.messages.operation import MESSAGES
from lambdas.pipeline.model_calls import FallbackCalls, FallbackChain, ModelCalls, ModelEndpoint
from lambdas.pipeline.moderation import Moderate
from lambdas.pipeline.operations import CHAT, EMBEDDINGS, TEXT_COMPLETION, Operation
from lambdas.pipeline.pipeline import Pipeline, Stages
from lambdas.pipeline.post_response import PublishMetrics, RecordSink, StoreRecord
from lambdas.pipeline.prompt_guard import GuardPrompt
from lambdas.pipeline.resilience import CircuitBreaker, RetryBudget
from lambdas.pipeline.responses.keeping import KeepResponse
from lambdas.pipeline.responses.operation import Responses
from lambdas.pipeline.responses.recall import KeptResponses, Recall
from lambdas.pipeline.spans import PASSED_ON, Exporter, ExportSpans
from lambdas.pipeline.text_operations import CLASSIFY, MODERATIONS, RERANK, SCORE
from lambdas.pipeline.transcripts import StoreTranscript, TranscriptSink
from lambdas.pipeline.unary import InvokeUnary
from lambdas.runtime.environment import load, optional
from lambdas.runtime.logs import Logger
from lambdas.runtime.tracing import Attribute, Sampling


class Service(Pipeline):
    """The pipeline with its parts. `endpoint` makes an endpoint from its name and region."""

    def __init__(
        self,
        settings: InferenceEnvironment,
        endpoint: Callable[[str, str | None], ModelEndpoint],
        routing: RoutingSource,
        records: RecordSink,
        ledger: Ledger,
        transcripts: TranscriptSink | None = None,
        access: AccessSource | None = None,
        answers: Answers | None = None,
        jobs: Jobs | None = None,
        exporter: Exporter | None = None,
        responses: KeptResponses | None = None,
    ) -> None:
        logger = Logger("inference", settings.log_level)
        name, calls = settings.endpoint_name, _calls(settings, endpoint, logger)
        answer_guards = _guards(settings.guards, logger, of_prompts=False)
        prompt_guards = _guards(settings.guards, logger, of_prompts=True)
        prices = Prices(settings.input_token_price, settings.output_token_price)
        stages = Stages(
            receive=Receive(_operations(responses), settings.model_name, settings.max_body_bytes, access),
            admit=Admit(
                GuardPrompt(prompt_guards) if prompt_guards else None,
                CachedRouting(routing, logger),
                answers_are_guarded=bool(answer_guards),
            ),
            find_answer=_find(answers, settings, logger) if answers else None,
            reserve_budget=ReserveBudget(ledger, name, logger),
            invoke=Invoke(calls),
            invoke_unary=InvokeUnary(calls),
            moderate=_moderate(settings.guards, logger),
            guard_answer=GuardAnswer(answer_guards) if answer_guards else None,
            offload=AsyncOffload(jobs, name, logger) if jobs else None,
            settle_budget=SettleBudget(ledger),
            store_record=StoreRecord(records, name, prices, logger),
            publish_metrics=PublishMetrics(name, settings.model_version, logger),
            store_transcript=StoreTranscript(transcripts, name, prices, logger) if transcripts else None,
            keep_answer=KeepAnswer(answers, name, logger) if answers else None,
            export_spans=ExportSpans(exporter, name) if exporter else None,
            sampling=_sampling(settings),
            keep_response=KeepResponse(responses, settings.responses_kept_seconds, name, logger)
            if responses
            else None,
        )
        super().__init__(stages, logger, settings.cors_origins)


def _operations(responses: KeptResponses | None) -> dict[str, Operation]:
    """By their public path."""
    operations: tuple[Operation, ...] = (
        CHAT,
        TEXT_COMPLETION,
        MESSAGES,
        Responses(Recall(responses)),
        EMBEDDINGS,
        RERANK,
        SCORE,
        CLASSIFY,
        MODERATIONS,
    )
    return {each.route: each for each in operations}


def _calls(
    settings: InferenceEnvironment, endpoint: Callable[[str, str | None], ModelEndpoint], logger: Logger
) -> FallbackChain:
    """The endpoint and its fallbacks; each has a retry budget and a circuit breaker of its own."""

    def calls(target: ModelEndpoint, version: str) -> ModelCalls:
        return ModelCalls(target, version, RetryBudget(), CircuitBreaker())

    def fallback(target: Target) -> ModelEndpoint:
        if isinstance(target, BedrockTarget):
            return BedrockChat(target.model_id, target.region)
        return endpoint(target.endpoint_name, target.region)

    targets = [
        FallbackCalls(target.name, calls(fallback(target), target.model_version))
        for target in settings.fallbacks
    ]
    return FallbackChain(
        calls(endpoint(settings.endpoint_name, None), settings.model_version), targets, logger
    )


def _find(answers: Answers, settings: InferenceEnvironment, logger: Logger) -> FindAnswer:
    """An answer is the work of the guards as well: under other guards it is another one."""
    salt = settings.guards.model_dump_json()
    return FindAnswer(answers, settings.cache_max_seconds, settings.model_version, salt, logger)


def _sampling(settings: InferenceEnvironment) -> Sampling:
    target = settings.tracing
    if target is None:
        return PASSED_ON
    return Sampling(target.sample_ratio, target.parent_based, isinstance(target, XRayTracing))


def _exporter(settings: InferenceEnvironment) -> Exporter | None:
    """Who sends spans, by OpenTelemetry's names of a Lambda function; None where settings want none."""
    if settings.tracing is None:
        return None
    names = {"faas.name": "AWS_LAMBDA_FUNCTION_NAME", "cloud.region": "AWS_REGION"}
    resource: dict[str, Attribute] = {
        "service.name": settings.endpoint_name,
        "deployment.environment.name": settings.environment,
        "cloud.provider": "aws",
        "cloud.platform": "aws_lambda",
        **{name: value for name, variable in names.items() if (value := optional(variable))},
    }
    return span_exporter(settings.tracing, resource)


def _guards(settings: GuardSettings, logger: Logger, *, of_prompts: bool) -> Guards:
    """The guards that are switched on. Injection is something that only prompts do."""
    guards: list[Guard] = []
    if settings.mask_pii:
        guards.append(PiiRules())
    if settings.denied_topics:
        guards.append(denied_topics(settings.denied_topics))
    if settings.block_injection and of_prompts:
        guards.append(injection_rules())
    if settings.toxicity:
        limits = settings.toxicity
        guards.append(ToxicityRules(limits.prompt_threshold if of_prompts else limits.answer_threshold))
    if settings.bedrock:
        guards.append(BedrockGuardrail(GuardrailApi(settings.bedrock, of_prompts=of_prompts).apply))
    if settings.bedrock_checks:
        api = GuardrailChecksApi(settings.bedrock_checks, of_prompts=of_prompts)
        if api.checks:
            guards.append(BedrockScores(settings.bedrock_checks, api.invoke))
    return Guards(guards, logger, fail_open=settings.fail_open)


def _moderate(settings: GuardSettings, logger: Logger) -> Moderate:
    """Every rule that works offline, and what else the settings switch on."""
    toxicity = settings.toxicity or ToxicitySettings()
    always = settings.model_copy(update={"mask_pii": True, "block_injection": True, "toxicity": None})
    guards = _guards(always, logger, of_prompts=True)
    return Moderate(guards, ToxicityRules(toxicity.prompt_threshold), list(settings.denied_topics))


def endpoints(settings: InferenceEnvironment) -> Callable[[str, str | None], ModelEndpoint]:
    """Endpoints by name and region; only the environment's own has a component, or answers whole."""

    def endpoint(name: str, region: str | None) -> ModelEndpoint:
        if (name, region) == (settings.endpoint_name, None):
            component, streamed = settings.inference_component, settings.streamed
            return SageMakerEndpoint(name, component=component, streamed=streamed)
        return SageMakerEndpoint(name, region)

    return endpoint


def from_environment(variables: Mapping[str, str]) -> Service:
    """The service against AWS. Raises InvalidEnvironmentError."""
    settings = load(InferenceEnvironment, variables)
    tables = DynamoDB()
    return Service(
        settings,
        endpoints(settings),
        RoutingTable(settings.access_table, settings.endpoint_name, tables),
        RecordsTable(settings.records_table, settings.record_ttl_days, tables),
        UsageLedger(
            settings.records_table, Prices(settings.input_token_price, settings.output_token_price), tables
        ),
        _transcripts(settings.transcripts_bucket) if settings.transcripts_bucket else None,
        AccessTable(settings.access_table, tables),
        AnswersTable(settings.work_table, tables)
        if settings.work_table and settings.cache_max_seconds
        else None,
        _jobs(variables, tables) if settings.jobs_open_per_key else None,
        _exporter(settings),
        ResponsesTable(settings.work_table, tables)
        if settings.work_table and settings.responses_kept_seconds
        else None,
    )


def _transcripts(bucket: str) -> Bucket:
    """One attempt with short timeouts: the next request waits for it."""
    return Bucket(bucket, attempts=1, connect_timeout=1, read_timeout=5)


def _jobs(variables: Mapping[str, str], tables: DynamoDB) -> Submissions:
    """Who makes jobs of what the model has no room for. Raises InvalidEnvironmentError."""
    making = load(QueueEnvironment, variables)
    return Submissions(
        WorkTable(making.work_table, tables),
        Bucket(making.work_bucket),
        TicketQueue(making.jobs_queue),
        open_per_key=making.jobs_open_per_key,
        deadline=making.jobs_deadline_seconds,
        retention=making.jobs_retention_seconds,
    )
