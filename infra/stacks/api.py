"""The API stack: API Gateway's REST API and its functions. Its id ends in `gateway`, as deployed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from contracts.catalogue import MODELS_VARIABLE
from contracts.transcripts import PREFIX as TRANSCRIPTS
from infra.constructs import inference_options
from infra.constructs.async_jobs import AsyncJobs
from infra.constructs.bundled_function import BundledFunction
from infra.constructs.catalogue_variable import CatalogueVariable
from infra.constructs.encryption import grant_through
from infra.constructs.inference_api import STREAM_TIMEOUT, InferenceApi
from infra.constructs.web_acl import ApiWebAcl
from infra.policy.acknowledge import acknowledge, imported_arn
from infra.settings import Settings
from infra.stacks.data import DataStack
from infra.stacks.serving import ModelServingStack, ServingStack


class ApiStack(cdk.Stack):
    """REST API, authorizer, `inference`, `api` and jobs functions, web ACL."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        env: cdk.Environment,
        *,
        data: DataStack,
        serving: Sequence[ServingStack | ModelServingStack],
    ) -> None:
        """Make the API in front of the endpoints of `serving`, the environment's own first."""
        super().__init__(scope, f"{settings.prefix}-gateway", env=env)
        for stack in serving:
            self.add_stack_dependency(stack)
        own = serving[0].endpoint
        catalogue = CatalogueVariable(self, settings)
        access = {"ACCESS_TABLE": data.access.table_name}
        answering = access | {
            "ENDPOINT_NAME": own.name,
            "MODEL_NAME": settings.model.name,
            "MODEL_VERSION": catalogue.own_version,
            MODELS_VARIABLE: catalogue.value,
            "RECORDS_TABLE": data.records.table_name,
            "RECORD_TTL_DAYS": str(settings.records.ttl_days),
        }
        if settings.gateway.cors_origins:
            answering["CORS_ORIGINS"] = json.dumps(settings.gateway.cors_origins)
        authorizer = BundledFunction(
            self,
            "Authorizer",
            name="authorizer",
            settings=settings,
            logs_key=data.logs_key,
            environment=access,
            timeout=cdk.Duration.seconds(10),
        )
        invocation_environment = (
            answering
            | {
                "MAX_BODY_BYTES": str(settings.gateway.max_body_bytes),
                "RESPONSES_KEPT_SECONDS": str(settings.records.responses_seconds),
            }
            | _prices(settings)
            | own.function_environment
        )
        inference = BundledFunction(
            self,
            "Inference",
            name="inference",
            settings=settings,
            logs_key=data.logs_key,
            environment=invocation_environment | {"CACHE_MAX_SECONDS": str(settings.cache.max_seconds)},
            timeout=STREAM_TIMEOUT,
            streaming=True,
            reserved_concurrency=settings.reserved_concurrency,
        )
        api = BundledFunction(
            self,
            "Api",
            name="api",
            settings=settings,
            logs_key=data.logs_key,
            environment=answering,
            timeout=cdk.Duration.seconds(29),  # a buffered REST route ends there
        )
        # "Work" stays: another id would replace queues whose fixed names still exist.
        jobs = AsyncJobs(self, "Work", settings=settings, data=data, environment=invocation_environment)
        jobs.allow_offload(inference)
        data.access.grant_items(authorizer, "GetItem")
        data.records.grant_items(api, "GetItem", "PutItem", "Query")
        if settings.gateway.iam.enabled:
            for function in (api, jobs.routes, inference):
                data.access.grant_items(function, "GetItem")  # the tenant of an IAM principal
        for function in (api, inference, jobs.worker):
            data.access.grant_items(function, "BatchGetItem")  # the catalogue, and the splits of traffic
        inference_options.configure_jwt_issuers(authorizer, settings)
        for function in (inference, jobs.worker):  # both run the pipeline
            data.records.grant_items(function, "PutItem", "UpdateItem")
            if settings.records.keep_text:
                _keep_transcripts(function, data)
            for stack in serving:
                stack.endpoint.grant_invoke(function)
            inference_options.configure_hosted_models(function, settings)
            inference_options.configure_guards(function, settings)
            inference_options.configure_fallbacks(function, settings)
            inference_options.configure_tracing(function, settings)

        api_routes = InferenceApi(
            self,
            "Door",  # stays: another id would replace the REST API, whose id is part of its URL
            settings=settings,
            inference=inference,
            api=api,
            jobs=jobs.routes,
            authorizer=authorizer,
            logs_key=data.logs_key,
        )
        if settings.gateway.waf.enabled:
            acl = ApiWebAcl(self, "WebAcl", spec=settings.gateway)
            acl.protect(api_routes.stage_arn)
        for name, value in {
            "RestApiId": api_routes.rest_api.rest_api_id,
            "StageName": api_routes.stage.stage_name,
            "ApiUrl": api_routes.url,
            "UsagePlanId": api_routes.usage_plan.usage_plan_id,
            **({"DomainTarget": api_routes.domain.target} if api_routes.domain else {}),
        }.items():
            cdk.CfnOutput(self, name, value=value)


def _prices(settings: Settings) -> dict[str, str]:
    """What tokens are charged at; nothing where nothing is set, which the functions do not take for 0."""
    prices = settings.model.token_prices
    if prices is None:
        return {}
    return {"INPUT_TOKEN_PRICE": str(prices[0]), "OUTPUT_TOKEN_PRICE": str(prices[1])}


def _keep_transcripts(function: BundledFunction, data: DataStack) -> None:
    """Let the function write masked transcripts, and read none."""
    bucket = data.records_bucket
    function.add_environment("TRANSCRIPTS_BUCKET", bucket.bucket_name)
    place = f"{bucket.bucket_arn}/{TRANSCRIPTS}"
    function.add_to_role_policy(iam.PolicyStatement(actions=["s3:PutObject"], resources=[f"{place}*"]))
    grant_through(data.records_key, function, "s3", "kms:GenerateDataKey")
    assert function.role is not None
    named = imported_arn(cdk.Stack.of(bucket), bucket.bucket_arn)
    finding = f"AwsSolutions-IAM5[Resource::{named}/{TRANSCRIPTS}*]"
    acknowledge(function.role, {finding: "Each transcript is an object of its own under this prefix."})
