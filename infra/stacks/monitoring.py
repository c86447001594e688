"""The monitoring stack: topic, alarms and dashboard of one environment.

It names what it watches by fixed names, so that it depends on nothing that a release replaces.
"""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra.constructs.alarms import ServiceAlarms
from infra.constructs.dashboard import Dashboard
from infra.constructs.published_metrics import PublishedMetrics
from infra.constructs.topic import Topic
from infra.settings import Settings


class MonitoringStack(cdk.Stack):
    """Exposes `topic`, which alarms and failed releases write to."""

    def __init__(self, scope: Construct, settings: Settings, env: cdk.Environment) -> None:
        super().__init__(scope, f"{settings.prefix}-monitoring", env=env)
        self.topic = Topic(
            self,
            "AlarmTopic",
            purpose="alarm messages",
            account=settings.environment.account,
            services=("cloudwatch", "events"),
            emails=settings.monitoring.emails,
        )
        published = PublishedMetrics(
            endpoint=settings.endpoint_name,
            api=settings.prefix,
            machine_arn=self.format_arn(
                service="states",
                resource="stateMachine",
                resource_name=f"{settings.prefix}-refresh",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            ),
            period=cdk.Duration.seconds(settings.monitoring.period_seconds),
        )
        alarms = ServiceAlarms(self, "Alarms", settings=settings, published=published, topic=self.topic)
        dashboard = Dashboard(self, "Dashboard", settings=settings, published=published, alarms=alarms.all)
        cdk.CfnOutput(self, "DashboardName", value=dashboard.dashboard_name)
        cdk.CfnOutput(self, "AlarmTopicArn", value=self.topic.topic_arn)
