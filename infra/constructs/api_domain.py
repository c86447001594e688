"""A name of one's own before the API, and the TLS it speaks there."""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from infra.settings.api import Domain

# API Gateway's newer policies also say how strictly the TLS name must match the host asked for.
_POLICIES = {"1.2": ("TLS_1_2", None), "1.3": ("SecurityPolicy_TLS13_1_3_2025_09", "STRICT")}


class ApiDomain(Construct):
    """A regional domain name, mapped to one stage at its root. `target` is what a DNS record points to."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        spec: Domain,
        rest_api: apigateway.RestApi,
        stage: apigateway.Stage,
    ) -> None:
        super().__init__(scope, id)
        policy, mode = _POLICIES[spec.minimum_tls]
        name = apigateway.CfnDomainName(
            self,
            "Name",
            domain_name=spec.name,
            regional_certificate_arn=spec.certificate_arn,
            endpoint_configuration=apigateway.CfnDomainName.EndpointConfigurationProperty(types=["REGIONAL"]),
            security_policy=policy,
            endpoint_access_mode=mode,
        )
        apigateway.CfnBasePathMapping(
            self,
            "Mapping",
            domain_name=name.ref,
            rest_api_id=rest_api.rest_api_id,
            stage=stage.stage_name,
        )
        self.url = f"https://{spec.name}/v1"
        self.target = name.attr_regional_domain_name
