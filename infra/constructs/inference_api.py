"""The REST API callers speak to: routes, authorizer, usage plan, logs, error shape.

Streaming needs a regional REST API; keys are the authorizer's answer, never the caller's secret.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.constructs.api_domain import ApiDomain
from infra.constructs.gateway_responses import add_gateway_responses
from infra.constructs.log_group import LogGroup
from infra.policy.acknowledge import acknowledge
from infra.settings import Settings

STREAM_TIMEOUT = cdk.Duration.minutes(10)
STREAMED = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/score"),
    ("POST", "/v1/classify"),
    ("POST", "/v1/moderations"),
)
BY_API_KEY = ("/v1/messages",)  # the key comes in `x-api-key`, as Anthropic's clients send it
OF_JOBS = (  # streamed as well: files may be long
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/result"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("DELETE", "/v1/jobs/{id}"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{id}"),
    ("GET", "/v1/files/{id}/content"),
    ("DELETE", "/v1/files/{id}"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{id}"),
    ("POST", "/v1/batches/{id}/cancel"),
    ("GET", "/v1/responses/{id}"),
    ("DELETE", "/v1/responses/{id}"),
)
BUFFERED = (
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/openapi.json"),
)
HEALTH = "/health"
PLAYGROUND = "/playground"

_OPEN = {
    HEALTH: "Health answers load balancers and probes, which have no key; it tells nothing but that.",
    PLAYGROUND: "The page itself is the same for everybody; what it asks for takes the key that is typed in.",
}

_ACCESS_LOG_FIELDS = {
    "request_id": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "method": "$context.httpMethod",
    "path": "$context.resourcePath",
    "status": "$context.status",
    "tenant": "$context.authorizer.tenant",
    "principal": "$context.identity.userArn",
    "latency_ms": "$context.responseLatency",
    "function_latency_ms": "$context.integrationLatency",
    "response_bytes": "$context.responseLength",
    "address": "$context.identity.sourceIp",
    "error": "$context.error.responseType",
    "waf": "$context.wafResponseCode",
}


class InferenceApi(Construct):
    """The API and its stage. Exposes `rest_api`, `stage` and `usage_plan`."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        inference: lambda_.IFunction,
        api: lambda_.IFunction,
        jobs: lambda_.IFunction,
        authorizer: lambda_.IFunction,
        logs_key: kms.IKey,
    ) -> None:
        """Make the REST API, its stage, authorizer, routes and usage plan.

        Args:
            scope: The construct that owns the API.
            id: Its construct id.
            settings: Section `gateway` holds limits (requests per second and period).
            inference: Function of the streamed model routes.
            api: Function of the buffered routes.
            jobs: Function of the routes of jobs, files and batches, streamed as well.
            authorizer: Function that answers with a caller's usage key.
            logs_key: Key of access and execution logs.
        """
        super().__init__(scope, id)
        self._settings = settings
        spec = settings.gateway
        self.rest_api = self._rest_api(LogGroup(self, "AccessLogs", settings=settings, key=logs_key))
        self.stage = self.rest_api.deployment_stage
        self._by_authorization, self._by_api_key = self._authorizers(authorizer)
        self._routes(inference, api, jobs)
        self._refuse_bodies_of_preflights()
        add_gateway_responses(self, self.rest_api, spec)
        self.usage_plan = self.rest_api.add_usage_plan(
            "UsagePlan",
            throttle=apigateway.ThrottleSettings(
                rate_limit=spec.throttle.rate_per_second, burst_limit=spec.throttle.burst
            ),
            quota=apigateway.QuotaSettings(
                limit=spec.quota.limit, period=getattr(apigateway.Period, spec.quota.period)
            ),
            api_stages=[apigateway.UsagePlanPerApiStage(api=self.rest_api, stage=self.stage)],
        )
        self.domain = (
            ApiDomain(self, "Domain", spec=spec.domain, rest_api=self.rest_api, stage=self.stage)
            if spec.domain
            else None
        )
        self._execution_logs(logs_key)
        if spec.manage_account_log_role:
            self.stage.node.add_dependency(self._account_log_role())
        self._acknowledge()
        self.rest_api.node.try_remove_child("Endpoint")  # an output of CDK's; the stack has its own

    @property
    def url(self) -> str:
        """Where clients are pointed to; ends in `/v1`."""
        return self.domain.url if self.domain else f"{self.rest_api.url}v1"

    @property
    def stage_arn(self) -> str:
        """The stage as the web ACL names it."""
        return self.stage.stage_arn

    def _rest_api(self, access_logs: LogGroup) -> apigateway.RestApi:
        spec = self._settings.gateway
        return apigateway.RestApi(
            self,
            "RestApi",
            rest_api_name=self._settings.prefix,
            endpoint_types=[
                apigateway.EndpointType.REGIONAL
            ],  # streaming; edge would cut it at 30 s of silence
            api_key_source_type=apigateway.ApiKeySourceType.AUTHORIZER,
            cloud_watch_role=False,
            binary_media_types=["multipart/form-data"],  # an upload is bytes; the rest is text
            disable_execute_api_endpoint=True if spec.domain else None,  # it would answer with older TLS
            policy=_callers_of_other_accounts(spec.stage, spec.iam.accounts) if spec.iam.accounts else None,
            default_cors_preflight_options=apigateway.CorsOptions(
                allow_origins=spec.cors_origins,
                allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
                # The official clients add headers of their own; `*` covers all but `Authorization`.
                allow_headers=["Authorization", "*"],
                max_age=cdk.Duration.hours(1),
            )
            if spec.cors_origins
            else None,
            deploy_options=apigateway.StageOptions(
                stage_name=spec.stage,
                tracing_enabled=True,
                metrics_enabled=True,
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                data_trace_enabled=False,  # it would log prompts
                throttling_rate_limit=spec.throttle.rate_per_second,
                throttling_burst_limit=spec.throttle.burst,
                access_log_destination=apigateway.LogGroupLogDestination(access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(
                    cdk.Stack.of(self).to_json_string(_ACCESS_LOG_FIELDS)
                ),
            ),
        )

    def _authorizers(
        self, function: lambda_.IFunction
    ) -> tuple[apigateway.Authorizer, apigateway.Authorizer]:
        """One for `Authorization`, one for `x-api-key`: with two sources API Gateway would demand both.

        Decisions are cached under the source: the function may read nothing else of a request. The second one
        is of the kind that is shown nothing else, by which the function tells them apart as well.
        """
        ttl = cdk.Duration.seconds(self._settings.gateway.authorizer_cache_seconds)
        by_authorization = apigateway.RequestAuthorizer(
            self,
            "Authorizer",
            handler=function,
            identity_sources=[apigateway.IdentitySource.header("Authorization")],
            results_cache_ttl=ttl,
        )
        by_api_key = apigateway.TokenAuthorizer(
            self,
            "ApiKeyAuthorizer",
            handler=function,
            identity_source=apigateway.IdentitySource.header("x-api-key"),
            results_cache_ttl=ttl,
        )
        return by_authorization, by_api_key

    def _routes(self, inference: lambda_.IFunction, api: lambda_.IFunction, jobs: lambda_.IFunction) -> None:
        stream, work = _streamed(inference), _streamed(jobs)
        buffered = apigateway.LambdaIntegration(api, allow_test_invoke=False)
        for routes, integration in ((STREAMED, stream), (OF_JOBS, work), (_with_head(BUFFERED), buffered)):
            for verb, path in routes:
                self._guarded_method(verb, path, integration)
                if self._settings.gateway.iam.enabled:
                    self._signed_method(verb, path, integration)
        for path, why in _OPEN.items():
            for verb in ("GET", "HEAD"):
                method = self.rest_api.root.resource_for_path(path).add_method(
                    verb,
                    buffered,
                    authorization_type=apigateway.AuthorizationType.NONE,
                    api_key_required=False,
                )
                acknowledge(method, {"AwsSolutions-APIG4": why})

    def _refuse_bodies_of_preflights(self) -> None:
        """A MOCK integration fails over a binary body passed through to it; 415 says what is wrong."""
        for part in self.rest_api.node.find_all():
            if isinstance(part, apigateway.CfnMethod) and part.http_method == "OPTIONS":
                part.add_property_override("Integration.PassthroughBehavior", "NEVER")
        deployment = self.rest_api.latest_deployment
        assert deployment is not None
        deployment.add_to_logical_id("preflights without a body")  # CDK does not see what is overridden

    def _guarded_method(self, verb: str, path: str, integration: apigateway.LambdaIntegration) -> None:
        self.rest_api.root.resource_for_path(path).add_method(
            verb,
            integration,
            authorizer=self._by_api_key if path in BY_API_KEY else self._by_authorization,
            authorization_type=apigateway.AuthorizationType.CUSTOM,
            api_key_required=True,
        )

    def _signed_method(self, verb: str, path: str, integration: apigateway.LambdaIntegration) -> None:
        """The same route for callers with AWS credentials; whom they call for the functions find out."""
        method = self.rest_api.root.resource_for_path(f"/iam{path}").add_method(
            verb, integration, authorization_type=apigateway.AuthorizationType.IAM, api_key_required=False
        )
        signed = "Callers sign their requests (SigV4) under policies of their own; no user pool is involved."
        acknowledge(method, {"AwsSolutions-COG4": signed})

    def _execution_logs(self, key: kms.IKey) -> None:
        """Own the group API Gateway would otherwise create by itself, unencrypted and for ever."""
        name = f"API-Gateway-Execution-Logs_{self.rest_api.rest_api_id}/{self._settings.gateway.stage}"
        group = LogGroup(self, "ExecutionLogs", settings=self._settings, key=key, name=name)
        self.stage.node.add_dependency(group)

    def _account_log_role(self) -> apigateway.CfnAccount:
        """The one role per account and region through which API Gateway writes any log at all."""
        policy = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
        role = iam.Role(
            self,
            "AccountLogRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(policy)],
        )
        finding = f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{policy}]"
        acknowledge(
            role, {finding: "API Gateway accepts no narrower role: it checks for this policy's rights."}
        )
        account = apigateway.CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        account.apply_removal_policy(cdk.RemovalPolicy.RETAIN)  # other APIs of the account may log through it
        role.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        return account

    def _acknowledge(self) -> None:
        acknowledge(
            self.rest_api,
            {
                "AwsSolutions-APIG2": "The function validates bodies: its errors name the wrong field.",
                "AwsSolutions-COG4": "Callers are programs with our keys or JWTs: the authorizer reads both.",
            },
        )


def _with_head(routes: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The routes, and HEAD wherever there is GET: API Gateway answers only what is declared.

    Each method takes a statement of its function's policy, which Lambda limits to 20 kB: that of jobs, files
    and batches has no room for as many more.
    """
    return (*routes, *(("HEAD", path) for verb, path in routes if verb == "GET"))


def _callers_of_other_accounts(stage: str, accounts: list[str]) -> iam.PolicyDocument:
    """With a resource policy nothing is open that it does not name; accounts' own policies decide further."""

    def allow(principal: iam.IPrincipal, *paths: str) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            actions=["execute-api:Invoke"],
            principals=[principal],
            # Verb and stage are written in full: a `*` matches slashes, and would open `/iam` with the rest.
            resources=[f"execute-api:/{stage}/{path}" for path in paths],
        )

    others = iam.CompositePrincipal(*(iam.AccountPrincipal(account) for account in accounts))
    return iam.PolicyDocument(
        statements=[
            allow(
                iam.AnyPrincipal(),
                "GET/v1/*",
                "HEAD/v1/*",
                "POST/v1/*",
                "DELETE/v1/*",
                *(f"{verb}{path}" for path in _OPEN for verb in ("GET", "HEAD")),
                "OPTIONS/*",
            ),
            allow(others, "GET/iam/v1/*", "HEAD/iam/v1/*", "POST/iam/v1/*", "DELETE/iam/v1/*"),
        ]
    )


def _streamed(function: lambda_.IFunction) -> apigateway.LambdaIntegration:
    return apigateway.LambdaIntegration(
        function,
        response_transfer_mode=apigateway.ResponseTransferMode.STREAM,
        timeout=STREAM_TIMEOUT,
        allow_test_invoke=False,
    )
