"""Puts an environment's stacks together: tags and policy rules over all of them.

Makes no call to AWS, git or any other service; imports no runtime code.
"""

from __future__ import annotations

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.policy.plugin import EvergreenRules
from infra.settings import Settings
from infra.settings.cost import estimate
from infra.settings.endpoint import AsyncEndpoint
from infra.stacks.api import ApiStack
from infra.stacks.data import DataStack
from infra.stacks.delivery import DeliveryStack
from infra.stacks.failover import FailoverDataStack, FailoverStack, FailoverUpdateStack
from infra.stacks.monitoring import MonitoringStack
from infra.stacks.refresh import RefreshStack
from infra.stacks.serving import ModelServingStack, ServingStack


def compose(app: cdk.App, settings: Settings) -> list[cdk.Stack]:
    """Compose all stacks of `settings` into `app`."""
    env = cdk.Environment(account=settings.environment.account, region=settings.environment.region)
    data = DataStack(app, settings, env)
    serving = ServingStack(app, settings, env, data=data)
    further = [ModelServingStack(app, there, env, data=data) for there in settings.further_endpoints]
    monitoring = MonitoringStack(app, settings, env)
    stacks: list[cdk.Stack] = [data, serving, *further, monitoring]
    if not isinstance(
        settings.endpoint, AsyncEndpoint
    ):  # its callers hand over S3 objects, under their own roles
        stacks.append(ApiStack(app, settings, env, data=data, serving=[serving, *further]))
    if settings.refresh is not None:
        stacks.append(RefreshStack(app, settings, env, data=data, serving=serving, alarms=monitoring.topic))
    if settings.delivery is not None:
        stacks.append(DeliveryStack(app, settings, env, delivery=settings.delivery))
    stacks += _second_region(app, settings, data=data, serving=serving)
    for stack in stacks:
        stack.termination_protection = settings.environment.production
    cdk.Annotations.of(serving).add_info(estimate(settings).sentence())
    for name, value in settings.environment.tags.items():
        cdk.Tags.of(app).add(name, value)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), EvergreenRules(settings))
    return stacks


def _second_region(
    app: cdk.App, settings: Settings, *, data: DataStack, serving: ServingStack
) -> list[cdk.Stack]:
    """The stacks of the second region; its bucket before the first one's, its endpoint after it.

    An update that fails has then failed in the first region, and the second still serves.
    """
    there = settings.standby
    if there is None or settings.failover is None:
        return []
    account = settings.environment.account
    env = cdk.Environment(account=account, region=there.environment.region)
    bucket = settings.failover.bucket_name(settings.prefix, account)
    copies = FailoverDataStack(app, there, env, bucket=bucket)
    data.add_stack_dependency(copies)
    standby = FailoverStack(app, there, env, data=copies)
    standby.add_stack_dependency(serving)
    stacks: list[cdk.Stack] = [copies, standby]
    if settings.refresh is not None:
        update = FailoverUpdateStack(app, there, env, data=copies, poll_seconds=settings.refresh.poll_seconds)
        update.add_stack_dependency(standby)
        stacks.append(update)
    return stacks
