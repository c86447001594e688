"""Collects what there is to know about a failed deployment or endpoint. Reads only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from contracts import serving_state
from infra.settings.endpoint import ServerlessEndpoint
from infra.settings.images import image_table
from operations.diagnosis import container_log, facts
from operations.diagnosis.evidence import Findings, Source
from operations.diagnosis.stack_events import Attempt, latest_attempt
from operations.inventory import DeployedStack, environment_stacks, physical_ids, stack_resources
from operations.target import Target

_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]+/[^\s\"',]*/")
_DEPLOY_LINE = re.compile(r"(?i)❌|error|failed|denied|not found|invalid|expired|bootstrapped|missing")
_WITHOUT_ATTEMPT = timedelta(hours=1)
_DEPLOY_LINES = 40


def collect(target: Target, logs: Path) -> Findings:
    """All evidence about an environment.

    Args:
        target: The environment.
        logs: Folder in which `deploy` keeps its steps' output.
    """
    return _Collection(target, logs).findings


class _Collection:
    def __init__(self, target: Target, logs: Path) -> None:
        self._target, self._logs = target, logs
        self.findings = Findings()
        self._is_rolled_back = False
        stacks = environment_stacks(target)
        attempts = {stack.name: self._attempt(stack) for stack in stacks}
        began = [attempt.started_at for attempt in attempts.values() if attempt.failed and attempt.started_at]
        self._deploy_log(stacks)
        serving = next((stack for stack in stacks if stack.part == "serving"), None)
        if serving is None:
            return
        # A silent rollback fails no attempt: then the latest one of the serving stack is the matter.
        self._since = min(began, default=attempts[serving.name].started_at)
        for region in target.regions:
            self._endpoint(region, serving if region == target.region else None)
        self._facts(serving, attempts[serving.name])

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """One thing that cannot be read must not hide the others."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            self.findings.unread.append(f"{what}: {error}")

    def _attempt(self, stack: DeployedStack) -> Attempt:
        cloudformation = self._target.client("cloudformation", stack.region)
        attempt = latest_attempt(cloudformation, stack.description)
        if attempt.failed:
            self.findings.failures.append(f"stack {stack.name} is {stack.status}")
            self.findings.add(Source.STACK, stack.description.get("StackStatusReason", ""), stack.name)
        if attempt.failed or stack.is_changing:
            for failure in attempt.failures:
                subject = f"{failure.stack}/{failure.logical_id} ({failure.type})"
                self.findings.add(Source.STACK, failure.reason, subject, failure.at)
        return attempt

    def _deploy_log(self, stacks: list[DeployedStack]) -> None:
        """What `cdk` said in the latest deploy of this environment, where it did not end well."""
        prefix = f"evergreen-{self._target.name}-"
        files = [file for file in self._logs.glob("cdk-*.log") if prefix in file.read_text(errors="replace")]
        file = max(files, key=lambda found: found.stat().st_mtime, default=None)
        if file is None or not (stacks or "❌" in file.read_text(errors="replace")):
            return
        written_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        changed = [stack.description.get("LastUpdatedTime") for stack in stacks]
        latest = max((at for at in changed if at), default=None)
        lines = file.read_text(errors="replace").splitlines()[-_DEPLOY_LINES:]
        if "❌" not in "\n".join(lines) or (latest and written_at < latest):
            return
        self.findings.failures.append(f"the last deploy failed ({file})")
        for line in lines:
            if _DEPLOY_LINE.search(line):
                self.findings.add(Source.DEPLOY, line, file.name)

    def _endpoint(self, region: str, serving: DeployedStack | None) -> None:
        name = self._target.settings.endpoint_name
        try:
            found = self._target.client("sagemaker", region).describe_endpoint(EndpointName=name)
        except ClientError:  # it was never made, or the rollback of its stack took it away
            found = {}
        status, reason = found.get("EndpointStatus"), found.get("FailureReason", "")
        if status == "Failed" or reason:
            self.findings.failures.append(f"endpoint {name} in {region} is {status}")
        self.findings.add(Source.ENDPOINT, reason, name, found.get("LastModifiedTime"))
        if found and serving:
            self._compare(found, serving)
        since = self._since or datetime.now(UTC) - _WITHOUT_ATTEMPT
        with self._reading("alarms"):
            cloudwatch = self._target.client("cloudwatch", region)
            facts.look_at_alarms(self.findings, cloudwatch, f"{self._target.settings.prefix}-")
            if serving and (serving.failed or reason or self._is_rolled_back):
                facts.look_at_rollback_alarms(
                    self.findings, cloudwatch, self._rollback_alarms(found, serving), since
                )
        if self.findings.failures:
            self._container_log(region, since)

    def _compare(self, endpoint: dict[str, Any], serving: DeployedStack) -> None:
        """Whether the endpoint serves the configuration that its stack made."""
        resources = stack_resources(self._target.client("cloudformation"), serving.name)
        wanted = physical_ids(resources, "AWS::SageMaker::EndpointConfig")
        serves = endpoint["EndpointConfigName"]
        is_at_rest = endpoint["EndpointStatus"] == "InService" and not serving.is_changing
        if is_at_rest and wanted and serves.lower() not in [name.lower() for name in wanted]:
            words = f"the endpoint serves configuration {serves}, and its stack made {', '.join(wanted)}"
            self._is_rolled_back = True
            self.findings.failures.append("the endpoint does not serve what its stack asked for")
            self.findings.add(Source.SERVING, words, endpoint["EndpointName"])

    def _rollback_alarms(self, endpoint: dict[str, Any], serving: DeployedStack) -> list[str]:
        config = endpoint.get("LastDeploymentConfig", {}).get("AutoRollbackConfiguration", {})
        named = [entry["AlarmName"] for entry in config.get("Alarms", [])]
        resources = stack_resources(self._target.client("cloudformation"), serving.name)
        given = serving_state.rollback_alarms(serving.description)
        return sorted({*named, *given, *physical_ids(resources, "AWS::CloudWatch::Alarm")})

    def _container_log(self, region: str, since: datetime) -> None:
        lines = []
        with self._reading("container log"):
            client = self._target.client("logs", region)
            for group in container_log.environment_groups(self._target.settings):
                lines += container_log.last_lines(client, group, since)
        kept = container_log.kept_file(self._logs, self._target.name)
        for at, stream, text in lines or container_log.kept_lines(kept, since):
            self.findings.add(Source.LOG, text, stream, at)

    def _facts(self, serving: DeployedStack, attempt: Attempt) -> None:
        """Facts about what the failed attempt wanted to serve; they cost calls, so only after a failure."""
        if not self.findings.failures:
            return
        settings, region = self._target.settings, self._target.region
        spec = settings.endpoint
        parameters = serving.parameters
        hook = bool(getattr(spec.engine, "hook", False))
        digests = {
            parameters.get(f"{role}ModelUri", ""): parameters.get(f"{role}ModelDigest", "")
            for role in ("Champion", "Challenger")
        }
        for uri in sorted({*digests, *self._named_artefacts(attempt)} - {""}):
            look = facts.look_at_artefact
            with self._reading(f"artefact {uri}"):
                s3 = self._target.client("s3")
                look(self.findings, s3, uri, region, hook=hook, digest=digests.get(uri, ""))
        if self._target.is_laptop:  # its images are programs, its quotas its own
            return
        image = image_table().uri(spec.engine.image, account=self._target.account, region=region)
        with self._reading(f"image {image}"):
            facts.look_at_image(self.findings, self._target.client("ecr"), image, region)
        if not isinstance(spec, ServerlessEndpoint):
            with self._reading("quotas"):
                quotas = self._target.client("service-quotas")
                facts.look_at_quotas(self.findings, quotas, spec.instances.types, max(1, spec.instances.min))

    def _named_artefacts(self, attempt: Attempt) -> set[str]:
        """Artefacts that the attempt's models or messages name: after a rollback the parameters do not."""
        texts = [*attempt.models, *(failure.reason for failure in attempt.failures)]
        return {uri for text in texts for uri in _URI.findall(_plain(text))}


def _plain(text: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except ValueError:
        return text
