"""Puts the inference function together: the stages of each operation in order, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.guards import GuardSettings
from lambdas.common.dynamo import DynamoDB
from lambdas.common.environment import InferenceEnvironment, load
from lambdas.common.logs import Logger
from lambdas.common.streaming_runtime import StreamingReply
from lambdas.inference.calls import ModelCalls, ModelEndpoint
from lambdas.inference.circuit_breaker import CircuitBreaker
from lambdas.inference.exchange import Arrival, Exchange
from lambdas.inference.fallback import FallbackChain, Link
from lambdas.inference.gateway import (
    GuardrailApi,
    RecordsTable,
    RoutingTable,
    SageMakerEndpoint,
    TranscriptBucket,
)
from lambdas.inference.guards.base import Guard, Guards
from lambdas.inference.guards.bedrock import BedrockGuardrail
from lambdas.inference.guards.phrases import denied_topics, injection_rules
from lambdas.inference.guards.pii import PiiRules
from lambdas.inference.operations import CHAT, EMBEDDINGS, TEXT_COMPLETION, Operation
from lambdas.inference.pipeline import Pipeline, Stage
from lambdas.inference.prices import Prices
from lambdas.inference.retry_budget import RetryBudget
from lambdas.inference.stages.afterwards import PublishMetrics, Record, RecordSink
from lambdas.inference.stages.authorise import Authorise
from lambdas.inference.stages.budget import Ledger, ReserveBudget, SettleBudget
from lambdas.inference.stages.choose_variant import CachedRouting, ChooseVariant, RoutingSource
from lambdas.inference.stages.embed import Embed
from lambdas.inference.stages.guard_answer import GuardAnswer
from lambdas.inference.stages.guard_prompt import GuardPrompt
from lambdas.inference.stages.invoke import Invoke
from lambdas.inference.stages.observe import Observe
from lambdas.inference.stages.render import Render
from lambdas.inference.stages.transcript import KeepAnswer, StoreTranscript, TranscriptSink
from lambdas.inference.stages.unknown_route import UnknownRoute
from lambdas.inference.stages.validate import Validate
from lambdas.inference.usage_table import UsageTable


class Service:
    """Every operation with its pipeline. `endpoint` makes an endpoint from its name and region."""

    def __init__(
        self,
        settings: InferenceEnvironment,
        endpoint: Callable[[str, str | None], ModelEndpoint],
        routing: RoutingSource,
        records: RecordSink,
        ledger: Ledger,
        transcripts: TranscriptSink | None = None,
    ) -> None:
        logger = Logger("inference", settings.log_level)
        calls = _calls(settings, endpoint, logger)
        admit: list[Stage] = [
            Validate(settings.model_name, settings.max_body_bytes),
            Authorise(),
            GuardPrompt(_guards(settings.guards, logger, of_prompts=True)),
            ReserveBudget(ledger, settings.endpoint_name, logger),
            ChooseVariant(CachedRouting(routing, logger)),
        ]
        generate: list[Stage] = [
            *admit,
            Invoke(calls),
            Observe(),
            GuardAnswer(_guards(settings.guards, logger, of_prompts=False)),
            *([KeepAnswer()] if transcripts else []),
            Render(),
        ]
        embed: list[Stage] = [*admit, Embed(calls)]
        afterwards: list[Stage] = [
            SettleBudget(ledger),
            Record(records, settings.endpoint_name, logger),
            PublishMetrics(settings.endpoint_name, settings.model_version, logger),
        ]
        if transcripts:
            prices = Prices(settings.input_token_price, settings.output_token_price)
            afterwards.append(StoreTranscript(transcripts, settings.endpoint_name, prices, logger))
        self._pipelines: dict[str, tuple[Operation, Pipeline]] = {
            CHAT.route: (CHAT, Pipeline(generate, afterwards, logger)),
            TEXT_COMPLETION.route: (TEXT_COMPLETION, Pipeline(generate, afterwards, logger)),
            EMBEDDINGS.route: (EMBEDDINGS, Pipeline(embed, afterwards, logger)),
        }
        self._unknown = (CHAT, Pipeline([UnknownRoute()], afterwards, logger))

    def answer(self, route: str, arrival: Arrival) -> StreamingReply:
        """The reply to a request on a public path. Never raises."""
        operation, pipeline = self._pipelines.get(route, self._unknown)
        return pipeline.answer(Exchange(arrival, operation))


def _calls(
    settings: InferenceEnvironment, endpoint: Callable[[str, str | None], ModelEndpoint], logger: Logger
) -> FallbackChain:
    """The endpoint and its fallbacks; each has a retry budget and a circuit breaker of its own."""

    def calls(name: str, region: str | None, version: str) -> ModelCalls:
        return ModelCalls(endpoint(name, region), version, RetryBudget(), CircuitBreaker())

    links = [
        Link(target.endpoint_name, calls(target.endpoint_name, target.region, target.model_version))
        for target in settings.fallbacks
    ]
    return FallbackChain(calls(settings.endpoint_name, None, settings.model_version), links, logger)


def _guards(settings: GuardSettings, logger: Logger, *, of_prompts: bool) -> Guards:
    """The guards that are switched on. Injection is something that only prompts do."""
    guards: list[Guard] = []
    if settings.mask_pii:
        guards.append(PiiRules())
    if settings.denied_topics:
        guards.append(denied_topics(settings.denied_topics))
    if settings.block_injection and of_prompts:
        guards.append(injection_rules())
    if settings.bedrock:
        guards.append(BedrockGuardrail(GuardrailApi(settings.bedrock, of_prompts=of_prompts).apply))
    return Guards(guards, logger, fail_open=settings.fail_open)


def endpoints(settings: InferenceEnvironment) -> Callable[[str, str | None], ModelEndpoint]:
    """Endpoints by name and region; only the environment's own has a component, or answers whole."""

    def endpoint(name: str, region: str | None) -> ModelEndpoint:
        if (name, region) == (settings.endpoint_name, None):
            component, streamed = settings.inference_component, settings.streamed
            return SageMakerEndpoint(name, component=component, streamed=streamed)
        return SageMakerEndpoint(name, region)

    return endpoint


def from_environment(variables: Mapping[str, str]) -> Service:
    """The service against AWS. Raises BadEnvironment."""
    settings = load(InferenceEnvironment, variables)
    tables = DynamoDB()
    return Service(
        settings,
        endpoints(settings),
        RoutingTable(settings.access_table, settings.endpoint_name, tables),
        RecordsTable(settings.records_table, settings.record_ttl_days, tables),
        UsageTable(
            settings.records_table, Prices(settings.input_token_price, settings.output_token_price), tables
        ),
        TranscriptBucket(settings.transcripts_bucket) if settings.transcripts_bucket else None,
    )
