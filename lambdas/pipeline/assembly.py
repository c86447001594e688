"""Puts the inference function together: the stages of each operation in order, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from contracts.catalogue import ModelEntry, ModelPrice
from contracts.guards import GuardSettings, ToxicitySettings
from contracts.moderation import GUARDS
from contracts.targets import BedrockTarget, EndpointTarget, Target
from contracts.tracing import XRayTracing
from contracts.usage import Prices
from lambdas.aws.access_table import AccessSource, AccessTable, CatalogueTable
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
from lambdas.pipeline.admission import Admit, Receive
from lambdas.pipeline.answer_guard import GuardAnswer
from lambdas.pipeline.async_offload import AsyncOffload, Jobs
from lambdas.pipeline.budgets import Ledger, ReserveBudget, SettleBudget
from lambdas.pipeline.cache import Answers, FindAnswer, KeepAnswer
from lambdas.pipeline.catalogue import CatalogueSource, LiveCatalogue, settings_catalogue
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
from lambdas.pipeline.model_parts import CatalogueCalls, ModelParts, Models
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

if TYPE_CHECKING:
    from lambdas.aws.secrets import CachedSecrets, SecretSource


class Service(Pipeline):
    """The pipeline with its parts. `connect` opens the way to a target."""

    def __init__(
        self,
        settings: InferenceEnvironment,
        connect: Callable[[Target], ModelEndpoint],
        source: CatalogueSource,
        records: RecordSink,
        ledger: Ledger,
        transcripts: TranscriptSink | None = None,
        access: AccessSource | None = None,
        answers: Answers | None = None,
        jobs: Jobs | None = None,
        exporter: Exporter | None = None,
        responses: KeptResponses | None = None,
    ) -> None:
        logger, name = Logger("inference", settings.log_level), settings.endpoint_name
        own = EndpointTarget(
            endpoint_name=name,
            model_version=settings.model_version,
            component=settings.inference_component,
            streamed=settings.streamed,
        )
        catalogue = LiveCatalogue(settings_catalogue(settings, own), source, logger)
        guards = ModelEntry(name=GUARDS, kind="classification", target=own, price=ModelPrice(input=0))
        models = Models(lambda entry: _parts(entry, settings, connect, logger))
        calls = CatalogueCalls(models)
        stages = Stages(
            receive=Receive(_operations(responses), catalogue, guards, settings.max_body_bytes, access),
            admit=Admit(models, catalogue),
            find_answer=FindAnswer(answers, settings.cache_max_seconds, models, logger) if answers else None,
            reserve_budget=ReserveBudget(ledger, models, name, logger),
            invoke=Invoke(calls),
            invoke_unary=InvokeUnary(calls),
            moderate=_moderate(settings.guards, logger),
            models=models,
            offload=AsyncOffload(jobs, name, logger) if jobs else None,
            settle_budget=SettleBudget(ledger, models),
            store_record=StoreRecord(records, name, models, logger),
            publish_metrics=PublishMetrics(name, settings.model_version, logger),
            store_transcript=StoreTranscript(transcripts, name, models, logger) if transcripts else None,
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


def _parts(
    entry: ModelEntry,
    settings: InferenceEnvironment,
    connect: Callable[[Target], ModelEndpoint],
    logger: Logger,
) -> ModelParts:
    """The parts of one model; what its entry leaves open is the environment's."""
    guards = settings.guards if entry.guards is None else entry.guards
    of_prompts = _guards(guards, logger, of_prompts=True)
    of_answers = _guards(guards, logger, of_prompts=False)
    fallbacks = entry.fallbacks or (settings.fallbacks if entry.name == settings.model_name else ())
    return ModelParts(
        entry,
        _calls(entry, fallbacks, connect, logger),
        GuardPrompt(of_prompts) if of_prompts else None,
        GuardAnswer(of_answers) if of_answers else None,
        _prices(entry, settings),
        # An answer is the work of the guards as well: under other guards it is another one.
        guards.model_dump_json(),
    )


def _prices(entry: ModelEntry, settings: InferenceEnvironment) -> Prices:
    """The environment's prices are those of its own endpoint, and of no other."""
    if entry.price is not None:
        return Prices(entry.price.input, entry.price.output)
    if entry.target.name == settings.endpoint_name:
        return Prices(settings.input_token_price, settings.output_token_price)
    return Prices(None, None)


def _calls(
    entry: ModelEntry,
    fallbacks: Iterable[Target],
    connect: Callable[[Target], ModelEndpoint],
    logger: Logger,
) -> FallbackChain:
    """The target and its fallbacks; each has a retry budget and a circuit breaker of its own."""

    def calls(target: Target) -> ModelCalls:
        breaker, remote = CircuitBreaker(), target.remote_model
        return ModelCalls(connect(target), target.model_version, RetryBudget(), breaker, remote)

    others = [FallbackCalls(target.name, calls(target)) for target in fallbacks]
    return FallbackChain(calls(entry.target), others, logger)


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
    return Moderate(
        lambda: _guards(always, logger, of_prompts=True),
        lambda: ToxicityRules(toxicity.prompt_threshold),
        list(settings.denied_topics),
    )


def connections(secrets: SecretSource | None = None) -> Callable[[Target], ModelEndpoint]:
    """The way to each kind of target; `secrets` is read for hosted models only."""
    cached: list[CachedSecrets] = []

    def connect(target: Target) -> ModelEndpoint:
        if isinstance(target, EndpointTarget):
            return SageMakerEndpoint(
                target.endpoint_name, target.region, component=target.component, streamed=target.streamed
            )
        if isinstance(target, BedrockTarget):
            return BedrockChat(target.model_id, target.region)
        # Only where there is a hosted model, and not before it is called: a cold start waits for each import.
        from lambdas.aws.hosted import HostedModel
        from lambdas.aws.secrets import CachedSecrets, SecretsManager

        if not cached:
            cached.append(CachedSecrets(secrets or SecretsManager()))
        return HostedModel(target, cached[0])

    return connect


def from_environment(variables: Mapping[str, str]) -> Service:
    """The service against AWS. Raises InvalidEnvironmentError."""
    settings = load(InferenceEnvironment, variables)
    tables = DynamoDB()
    return Service(
        settings,
        connections(),
        CatalogueTable(settings.access_table, settings.endpoint_name, tables),
        RecordsTable(settings.records_table, settings.record_ttl_days, tables),
        UsageLedger(settings.records_table, tables),
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
