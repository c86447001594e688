"""The web ACL before the API: AWS's common rules, prompts spared, and a rate limit per address."""

from __future__ import annotations

from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

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


class ApiWebAcl(Construct):
    """A regional web ACL, tied to one API stage by `protect`."""

    def __init__(
        self, scope: Construct, id: str, *, requests_per_five_minutes: int, max_body_bytes: int
    ) -> None:
        super().__init__(scope, id)
        self.acl = wafv2.CfnWebACL(
            self,
            "Acl",
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=self._visible("Acl"),
            rules=[
                self._common_rules(0),
                self._rate_limit(1, requests_per_five_minutes),
                self._body_size(2, max_body_bytes),
            ],
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

    def _rate_limit(self, priority: int, limit: int) -> wafv2.CfnWebACL.RuleProperty:
        return wafv2.CfnWebACL.RuleProperty(
            name="RatePerAddress",
            priority=priority,
            action=wafv2.CfnWebACL.RuleActionProperty(block={}),
            visibility_config=self._visible("RatePerAddress"),
            statement=wafv2.CfnWebACL.StatementProperty(
                rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                    aggregate_key_type="IP", limit=limit, evaluation_window_sec=300
                )
            ),
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
