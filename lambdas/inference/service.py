"""Puts the inference function together: its stages in order, each with what it needs."""

from __future__ import annotations

from collections.abc import Mapping

from lambdas.common.dynamo import DynamoDB
from lambdas.common.environment import InferenceEnvironment, load
from lambdas.common.logs import Logger
from lambdas.inference.gateway import RecordsTable, RoutingTable, SageMakerEndpoint
from lambdas.inference.pipeline import Pipeline
from lambdas.inference.retry_budget import RetryBudget
from lambdas.inference.stages.afterwards import PublishMetrics, Record, RecordSink
from lambdas.inference.stages.authorise import Authorise
from lambdas.inference.stages.choose_variant import CachedRouting, ChooseVariant, RoutingSource
from lambdas.inference.stages.invoke import Invoke, ModelEndpoint
from lambdas.inference.stages.observe import Observe
from lambdas.inference.stages.render import Render
from lambdas.inference.stages.validate import Validate


def pipeline(
    settings: InferenceEnvironment,
    endpoint: ModelEndpoint,
    routing: RoutingSource,
    records: RecordSink,
) -> Pipeline:
    """The stages, read from top to bottom."""
    logger = Logger("inference", settings.log_level)
    return Pipeline(
        stages=[
            Validate(settings.model_name, settings.max_body_bytes),
            Authorise(),
            ChooseVariant(CachedRouting(routing, logger)),
            Invoke(endpoint, settings.model_version, RetryBudget()),
            Observe(),
            Render(),
        ],
        afterwards=[
            Record(records, settings.endpoint_name, logger),
            PublishMetrics(settings.endpoint_name, settings.model_version, logger),
        ],
        logger=logger,
    )


def from_environment(variables: Mapping[str, str]) -> Pipeline:
    """The pipeline against AWS. Raises BadEnvironment."""
    settings = load(InferenceEnvironment, variables)
    tables = DynamoDB()
    return pipeline(
        settings,
        SageMakerEndpoint(settings.endpoint_name),
        RoutingTable(settings.access_table, settings.endpoint_name, tables),
        RecordsTable(settings.records_table, settings.record_ttl_days, tables),
    )
