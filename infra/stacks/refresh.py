"""The refresh stack: the state machine that trains, tests and releases, its jobs' roles, what starts it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.constructs.job_role import RELEASES_PREFIX, JobRole
from infra.constructs.log_group import LogGroup, removal_policy
from infra.constructs.machine_role import MachineRole
from infra.constructs.refresh_functions import Names, RefreshFunctions
from infra.constructs.refresh_jobs import DATASETS_PREFIX, RefreshJobs, Runner
from infra.constructs.refresh_machine import definition
from infra.constructs.source_archive import SourceArchive
from infra.constructs.stack_update import StackUpdate, machine_name, update_poll_seconds
from infra.constructs.topic import Topic
from infra.settings import Settings, instance_types
from infra.settings.images import image_table
from infra.settings.refresh import RefreshJobSettings
from infra.stacks.data import DataStack
from infra.stacks.serving import ServingStack

_LONGEST_JOB_PREFIX = 16  # a job's name has 63 characters, and kind, hash and try follow


class RefreshStack(cdk.Stack):
    """State machine, functions, job roles, model package group, triggers."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        env: cdk.Environment,
        *,
        data: DataStack,
        serving: ServingStack,
        alarms: sns.ITopic,
    ) -> None:
        super().__init__(scope, f"{settings.prefix}-refresh", env=env)
        self.add_stack_dependency(serving)
        assert settings.refresh is not None
        self._settings, self._data, self._spec = settings, data, settings.refresh
        names = Names(
            machine=f"{settings.prefix}-refresh",
            package_group=settings.prefix,
            serving_stack=serving.stack_name,
        )
        group = sagemaker.CfnModelPackageGroup(
            self,
            "Packages",
            model_package_group_name=names.package_group,
            model_package_group_description="Releases of the Evergreen refresh loop",
        )
        # It holds where models come from and what judged them, so it is kept as long as they are.
        removal = settings.environment.removal.models
        group.apply_removal_policy(removal_policy(removal, named=True))
        jobs = self._jobs(SourceArchive(self, "Source"))
        functions = RefreshFunctions(
            self,
            "Functions",
            settings=settings,
            data=data,
            names=names,
            loop=jobs.loop_settings(self._spec, second_region=settings.failover is not None),
            approvals=self._approvals(),
        )
        role = MachineRole(
            self,
            "MachineRole",
            settings=settings,
            functions=[functions.analysis.function_arn, functions.release.function_arn],
            job_roles=[jobs.training.role_arn, jobs.processing.role_arn],
            job_prefix=jobs.name_prefix,
            update_machine=machine_name(serving.stack_name),
        )
        update = StackUpdate(
            self,
            "ServingUpdate",
            settings=settings,
            stack_name=serving.stack_name,
            logs_key=data.logs_key,
            poll_seconds=update_poll_seconds(self._spec.poll_seconds),
        )
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=names.machine,
            state_machine_type=sfn.StateMachineType.STANDARD,
            definition_body=sfn.DefinitionBody.from_string(definition()),
            definition_substitutions={
                "AnalysisFunctionArn": functions.analysis.function_arn,
                "ReleaseFunctionArn": functions.release.function_arn,
                "UpdateMachineArn": update.machine.state_machine_arn,
                **jobs.substitutions(self._spec),
            },
            role=role,
            logs=sfn.LogOptions(
                destination=LogGroup(
                    self,
                    "MachineLogs",
                    settings=settings,
                    key=data.logs_key,
                    name=f"/aws/vendedlogs/states/{names.machine}",  # the prefix spares a policy per group
                ),
                level=sfn.LogLevel.ALL,
                include_execution_data=True,
            ),
            tracing_enabled=True,
        )
        self._start_it()
        self._report_failures(alarms)
        for name, value in {
            "StateMachineArn": self.machine.state_machine_arn,
            "UpdateMachineArn": update.machine.state_machine_arn,
            "ModelPackageGroupName": names.package_group,
            "SourceDataUri": f"s3://{data.artefacts.bucket_name}/{DATASETS_PREFIX}",
            "AnswerTokens": str(jobs.answer_tokens),
        }.items():
            cdk.CfnOutput(self, name, value=value)

    def _approvals(self) -> Topic | None:
        spec = self._spec
        if spec.approval != "manual":
            return None
        return Topic(
            self,
            "Approvals",
            purpose="questions to approvers",
            account=self._settings.environment.account,
            services=(),
            emails=spec.approvers,
        )

    def _jobs(self, source: SourceArchive) -> RefreshJobs:
        spec = self._spec
        prefixes = ("models/", RELEASES_PREFIX)
        return RefreshJobs(
            name_prefix=f"{self._settings.name[:_LONGEST_JOB_PREFIX].rstrip('-')}-",
            bucket=self._data.artefacts.bucket_name,
            key_arn=self._data.models_key.key_arn,
            source_uri=source.uri,
            source_digest=source.digest,
            tags=self._settings.environment.tags,
            training=self._runner("Training", spec.training, source, prefixes),
            processing=self._runner("Processing", spec.processing, source, (*prefixes, DATASETS_PREFIX)),
            answer_tokens=self._settings.evaluation_answer_tokens,
        )

    def _runner(
        self, kind: str, job: RefreshJobSettings, source: SourceArchive, prefixes: tuple[str, ...]
    ) -> Runner:
        role = JobRole(
            self,
            f"{kind}Role",
            kind=f"{kind}Jobs",
            settings=self._settings,
            image=job.image,
            artefacts=self._data.artefacts,
            artefacts_key=self._data.models_key,
            prefixes=prefixes,
            volume=not instance_types.has_instance_store(job.instance_type),
        )
        source.grant_read(role)
        environment = self._settings.environment
        uri = image_table().uri(job.image, account=environment.account, region=environment.region)
        return Runner(job=job, image_uri=uri, role_arn=role.role_arn)

    def _start_it(self) -> None:
        """Rules that start a release; a start while another runs ends at the lock."""
        spec = self._spec
        if not spec.schedule and not spec.alarms:
            return  # CDK would make a role for the target all the same
        target = targets.SfnStateMachine(self.machine, retry_attempts=2)
        if spec.schedule:
            events.Rule(
                self,
                "Schedule",
                description="Starts a release by the calendar",
                schedule=events.Schedule.expression(spec.schedule),
                targets=[target],
            )
        if spec.alarms:
            events.Rule(
                self,
                "OnAlarm",
                description="Starts a release when an alarm goes off",
                event_pattern=events.EventPattern(
                    source=["aws.cloudwatch"],
                    detail_type=["CloudWatch Alarm State Change"],
                    detail={"alarmName": spec.alarms, "state": {"value": ["ALARM"]}},
                ),
                targets=[target],
            )

    def _report_failures(self, alarms: sns.ITopic) -> None:
        rule = events.Rule(
            self,
            "Failures",
            description="Tells the alarms' topic which release failed",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [self.machine.state_machine_arn],
                    "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
            # The topic's own policy lets EventBridge publish; an imported topic keeps CDK from widening it.
            targets=[
                targets.SnsTopic(sns.Topic.from_topic_arn(self, "Alarms", alarms.topic_arn)),
            ],
        )
        cdk.Annotations.of(rule).acknowledge_warning(
            "@aws-cdk/aws-events:ruleUnresolvedEnvironment",
            "The topic is the monitoring stack's, in the same account and region; its ARN is an import.",
        )
