"""The web ACL before the API: AWS's common rules, prompts spared, and rate limits per key and per address.

The limits are above what the API's own throttle lets through: they stop those who go on in spite of its 429.
"""

from __future__ import annotations

from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from contracts.errors import STATUS_OF_TYPE, ErrorObject, ErrorReply
from infra.settings.api import ApiSettings

# Prompts hold code, paths and URLs, and are long: what these rules take for attacks is usual traffic here.
# They count instead of blocking. WAF sees the first 64 kB of a body at most, so only a limit below it
# can be held here; a larger one is the function's (413), and the rule counts what was not wholly inspected.
BODY_RULES = (
    "SizeRestrictions_BODY",
    "CrossSiteScripting_BODY",
    "GenericLFI_BODY",
    "GenericRFI_BODY",
    "EC2MetaDataSSRF_BODY",
)


_MOST_INSPECTED = 65_536
_WINDOW_SECONDS = 300
_RETRY_AFTER_SECONDS = 30  # the official clients wait as long as they are told, up to a minute
_TOO_MANY = "too-many-requests"
# Whose requests are counted together, by rule: keys come in one of two headers. A request without the header
# is not counted by that rule, and signed requests never repeat theirs: the rule for addresses holds both.
_KEY_HEADERS = {"RatePerKey": "authorization", "RatePerApiKey": "x-api-key"}


class ApiWebAcl(Construct):
    """A regional web ACL, tied to one API stage by `protect`."""

    def __init__(self, scope: Construct, id: str, *, spec: ApiSettings) -> None:
        super().__init__(scope, id)
        self._cors = bool(spec.cors_origins)
        per_key, per_address = spec.requests_per_key, spec.requests_per_address
        self.acl = wafv2.CfnWebACL(
            self,
            "Acl",
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=self._visible("Acl"),
            rules=[
                self._common_rules(0),
                self._rate_limit(1, "RatePerAddress", per_address),
                self._body_size(2, spec.max_body_bytes),
                *(
                    self._rate_limit(priority, name, per_key, header=header)
                    for priority, (name, header) in enumerate(_KEY_HEADERS.items(), start=3)
                ),
            ],
            custom_response_bodies={
                _TOO_MANY: wafv2.CfnWebACL.CustomResponseBodyProperty(
                    content_type="APPLICATION_JSON", content=_too_many()
                )
            },
            association_config=wafv2.CfnWebACL.AssociationConfigProperty(
                request_body={
                    "API_GATEWAY": wafv2.CfnWebACL.RequestBodyAssociatedResourceTypeConfigProperty(
                        default_size_inspection_limit="KB_64"
                    )
                }
            ),
        )

    def protect(self, stage_arn: str) -> wafv2.CfnWebACLAssociation:
        """Put the ACL before an API Gateway stage."""
        return wafv2.CfnWebACLAssociation(
            self, "Association", resource_arn=stage_arn, web_acl_arn=self.acl.attr_arn
        )

    def _common_rules(self, priority: int) -> wafv2.CfnWebACL.RuleProperty:
        count = wafv2.CfnWebACL.RuleActionProperty(count={})
        return wafv2.CfnWebACL.RuleProperty(
            name="CommonRules",
            priority=priority,
            override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
            visibility_config=self._visible("CommonRules"),
            statement=wafv2.CfnWebACL.StatementProperty(
                managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                    vendor_name="AWS",
                    name="AWSManagedRulesCommonRuleSet",
                    rule_action_overrides=[
                        wafv2.CfnWebACL.RuleActionOverrideProperty(name=rule, action_to_use=count)
                        for rule in BODY_RULES
                    ],
                )
            ),
        )

    def _rate_limit(
        self, priority: int, name: str, limit: int, *, header: str | None = None
    ) -> wafv2.CfnWebACL.RuleProperty:
        """At most `limit` requests in five minutes from one address, or with one value of a header."""
        return wafv2.CfnWebACL.RuleProperty(
            name=name,
            priority=priority,
            action=wafv2.CfnWebACL.RuleActionProperty(
                block=wafv2.CfnWebACL.BlockActionProperty(custom_response=self._later())
            ),
            visibility_config=self._visible(name),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    aggregate_key_type="CUSTOM_KEYS" if header else "IP",
                    custom_keys=[_by_header(header)] if header else None,
                    limit=limit,
                    evaluation_window_sec=_WINDOW_SECONDS,
                )
            ),
        )

    def _later(self) -> wafv2.CfnWebACL.CustomResponseProperty:
        """429 as the API's own throttle answers: clients retry it, and they do not retry WAF's 403."""
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
        if self._cors:
            headers["Access-Control-Allow-Origin"] = "*"  # the error carries no data and no cookie
        return wafv2.CfnWebACL.CustomResponseProperty(
            response_code=STATUS_OF_TYPE["rate_limit_error"],
            custom_response_body_key=_TOO_MANY,
            response_headers=[
                wafv2.CfnWebACL.CustomHTTPHeaderProperty(name=name, value=value)
                for name, value in headers.items()
            ],
        )

    def _body_size(self, priority: int, limit: int) -> wafv2.CfnWebACL.RuleProperty:
        can_be_held = limit < _MOST_INSPECTED
        action = (
            wafv2.CfnWebACL.RuleActionProperty(block={})
            if can_be_held
            else wafv2.CfnWebACL.RuleActionProperty(count={})
        )
        return wafv2.CfnWebACL.RuleProperty(
            name="BodySize",
            priority=priority,
            action=action,
            visibility_config=self._visible("BodySize"),
            statement=wafv2.CfnWebACL.StatementProperty(
                size_constraint_statement=wafv2.CfnWebACL.SizeConstraintStatementProperty(
                    field_to_match=wafv2.CfnWebACL.FieldToMatchProperty(
                        body=wafv2.CfnWebACL.BodyProperty(oversize_handling="MATCH")
                    ),
                    comparison_operator="GT",
                    size=limit if can_be_held else _MOST_INSPECTED - 1,
                    text_transformations=[
                        wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE")
                    ],
                )
            ),
        )

    @staticmethod
    def _visible(name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
        return wafv2.CfnWebACL.VisibilityConfigProperty(
            cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
        )


def _by_header(name: str) -> wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty:
    as_it_is = wafv2.CfnWebACL.TextTransformationProperty(priority=0, type="NONE")
    header = wafv2.CfnWebACL.RateLimitHeaderProperty(name=name, text_transformations=[as_it_is])
    return wafv2.CfnWebACL.RateBasedStatementCustomKeyProperty(header=header)


def _too_many() -> str:
    message = (
        "Too many requests in the last five minutes, in spite of earlier refusals: wait, then go on slowly."
    )
    error = ErrorObject(message=message, type="rate_limit_error", code="rate_limit_exceeded")
    return ErrorReply(error=error).model_dump_json()
