"""The account: bootstrap and execution roles, images that can be pulled, e-mail addresses that confirmed."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from infra.settings import Settings
from infra.settings.images import image_table
from operations.aws_errors import DENIED, code_of
from operations.bootstrap import NEEDED_VERSION, bootstrap_version
from operations.checks.results import Result, failed, passed, unsettled
from operations.diagnosis.evidence import Findings
from operations.diagnosis.facts import look_at_image
from operations.execution_role import bounded_stacks, is_current
from operations.inventory import DeployedStack, environment_stacks
from operations.target import Target


def check_bootstrap(target: Target) -> Iterator[Result]:
    """The version of CDK's bootstrap stack."""
    for region in target.regions:
        subject, version = f"bootstrap, {region}", bootstrap_version(target, region)
        if version is not None and version >= NEEDED_VERSION:
            yield passed(subject, f"version {version}")
            continue
        found = "not done" if version is None else f"version {version}, {NEEDED_VERSION} needed"
        yield failed(subject, found, f"make bootstrap ENV={target.name}")


def check_execution_roles(target: Target) -> Iterator[Result]:
    """The roles under which CloudFormation acts for the stacks that the release loop updates."""
    for region, stack in bounded_stacks(target.settings):
        subject, current = (
            f"execution role, {region}",
            is_current(target.client("cloudformation", region), stack),
        )
        if current:
            yield passed(subject, f"that of {stack}")
        else:
            found = f"none for {stack}" if current is None else f"that of {stack} is of another version"
            yield failed(subject, found, f"make bootstrap ENV={target.name}")


def image_names(settings: Settings) -> list[str]:
    """The images in use, by their names in the table."""
    names = [one.endpoint.engine.image for one in (settings, *settings.further_endpoints)]
    if settings.refresh is not None:
        names += [settings.refresh.training.image, settings.refresh.processing.image]
    return list(dict.fromkeys(names))


def check_images(target: Target) -> Iterator[Result]:
    """Every image in its registry, as far as that may be read."""
    for region in target.regions:
        for name in image_names(target.settings):
            if target.is_laptop:
                words = f"{name}: the laptop cloud runs this checkout's code in its place"
                yield unsettled(f"image, {region}", words)
            else:
                yield _image(target, name, region)


def _image(target: Target, name: str, region: str) -> Result:
    subject, table, findings = f"image, {region}", image_table(), Findings()
    uri, private = table.uri(name, account=target.account, region=region), table.images[name].private
    try:
        look_at_image(findings, target.client("ecr", region), uri, region)
    except ClientError as error:
        if code_of(error) not in DENIED:
            raise
        why = "no right to look" if private else "its publisher does not let the list be read"
        return unsettled(subject, f"{uri}: {why}")
    if not findings.evidence:
        return passed(subject, uri)
    if private:
        step = f"build it (`docker build -f model_code/Dockerfile -t {uri} .`) and `docker push` it"
        return failed(subject, f"{uri} is not in your registry", step)
    step = f"take another row than {name} in infra/settings/images.yaml"
    return failed(subject, f"{uri} is not published", step)


def check_subscriptions(target: Target) -> Iterator[Result]:
    """Whether everybody who is to be told has confirmed the address."""
    loop = target.settings.refresh
    expected = [*target.settings.monitoring.emails]
    if loop is not None and loop.approval == "manual":
        expected += loop.approvers
    if not expected:
        yield unsettled("e-mail", "nobody is told of alarms", "name somebody in `monitoring.emails`")
        return
    topics = [(s.region, topic) for s in environment_stacks(target) for topic in _topics(target, s)]
    waiting = [address for region, topic in topics for address in _unconfirmed(target, region, topic)]
    if not topics:
        names = ", ".join(dict.fromkeys(expected))
        yield unsettled("e-mail", f"{names} must confirm once after the deploy")
    elif waiting:
        names = ", ".join(dict.fromkeys(waiting))
        yield failed("e-mail", f"{names} did not confirm", "open the mail from AWS Notifications and confirm")
    else:
        yield passed("e-mail", "every address has confirmed")


def _topics(target: Target, stack: DeployedStack) -> list[str]:
    """The ARNs of a stack's SNS topics."""
    cloudformation = target.client("cloudformation", stack.region)
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
    return [
        str(resource["PhysicalResourceId"])
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == "AWS::SNS::Topic" and resource.get("PhysicalResourceId")
    ]


def _unconfirmed(target: Target, region: str, topic: str) -> list[str]:
    pages = target.client("sns", region).get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return [
        str(subscription["Endpoint"])
        for page in pages
        for subscription in page["Subscriptions"]
        if subscription["SubscriptionArn"] == "PendingConfirmation"
    ]
