"""Each kind of endpoint as CloudFormation gets it: the examples of tests/fixtures/settings."""

from __future__ import annotations

import json

import pytest

CONFIG, ENDPOINT = "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Endpoint"
TARGET, POLICY = "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::ApplicationAutoScaling::ScalingPolicy"
COMPONENT = "AWS::SageMaker::InferenceComponent"


@pytest.fixture(scope="session")
def properties(resources):
    """`properties(example, type)` are the properties of the serving stack's one resource of a type."""

    def of(example, kind, stack="serving"):
        (only,) = resources(example, stack, kind).values()
        return only["Properties"]

    return of


def statements(resources, example, stack="serving"):
    for policy in resources(example, stack, "AWS::IAM::Policy").values():
        yield from policy["Properties"]["PolicyDocument"]["Statement"]


class TestPools:
    """Realtime with everything: alternatives, schedules, linear rollout, capture, network."""

    def test_machines_come_from_pools_in_order_of_preference(self, properties):
        champion, challenger = properties("pools", CONFIG)["ProductionVariants"]

        for variant in (champion, challenger["Fn::If"][1]):
            assert variant["InstancePools"] == [
                {"InstanceType": "ml.g6e.xlarge", "Priority": 1},
                {"InstanceType": "ml.g6e.2xlarge", "Priority": 2},
                {"InstanceType": "ml.g6e.12xlarge", "Priority": 3},
            ]
            assert "InstanceType" not in variant
            assert variant["VariantInstanceProvisionTimeoutInSeconds"] == 1800

    def test_timeouts_follow_the_models_size_and_the_engine(self, properties):
        champion, _ = properties("pools", CONFIG)["ProductionVariants"]

        assert champion["ModelDataDownloadTimeoutInSeconds"] == 461
        assert champion["ContainerStartupHealthCheckTimeoutInSeconds"] == 1800

    def test_the_champions_fleet_follows_its_requests_at_high_resolution(self, resources, properties):
        target, policy = properties("pools", TARGET), properties("pools", POLICY)

        assert target["ResourceId"] == "endpoint/evergreen-pools/variant/champion"
        assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 4)
        tracking = policy["TargetTrackingScalingPolicyConfiguration"]
        assert tracking["PredefinedMetricSpecification"] == {
            "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        }
        assert tracking["TargetValue"] == 44
        assert (tracking["ScaleInCooldown"], tracking["ScaleOutCooldown"]) == (900, 60)
        (resource,) = resources("pools", "serving", TARGET).values()
        (endpoint,) = resources("pools", "serving", ENDPOINT)
        assert endpoint in resource["DependsOn"]

    def test_schedules_move_the_bounds(self, properties):
        evening, morning = properties("pools", TARGET)["ScheduledActions"]

        assert evening == {
            "ScheduledActionName": "evening",
            "Schedule": "cron(0 20 ? * MON-FRI *)",
            "Timezone": "Europe/Berlin",
            "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 2},
        }
        assert morning["ScalableTargetAction"] == {"MinCapacity": 3, "MaxCapacity": 4}

    def test_scaling_can_be_taken_away_for_the_update_that_changes_the_type(self, template_json, resources):
        template = template_json("pools", "serving")

        assert template["Parameters"]["Scaling"]["AllowedValues"] == ["on", "off"]
        assert template["Parameters"]["Scaling"]["Default"] == "on"
        assert template["Conditions"]["ScalingOn"] == {"Fn::Equals": [{"Ref": "Scaling"}, "on"]}
        for kind in (TARGET, POLICY):
            assert {each["Condition"] for each in resources("pools", "serving", kind).values()} == {
                "ScalingOn"
            }

    def test_traffic_shifts_in_steps_that_four_alarms_watch(self, properties):
        guarded = properties("pools", ENDPOINT)["DeploymentConfig"]["Fn::If"][1]

        assert guarded["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"] == {
            "Type": "LINEAR",
            "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
            "WaitIntervalInSeconds": 300,
        }
        names = [alarm["AlarmName"] for alarm in guarded["AutoRollbackConfiguration"]["Alarms"]]
        assert len(names) == 4
        assert names[-1] == "checkout-errors"

    def test_thresholds_are_diluted_by_the_first_step(self, resources):
        alarms = [
            each["Properties"] for each in resources("pools", "serving", "AWS::CloudWatch::Alarm").values()
        ]
        by_metric = {alarm.get("MetricName"): alarm for alarm in alarms}

        # A quarter is asked for; at night there are two machines, and the first step is one of them.
        assert by_metric[None]["Threshold"] == pytest.approx(0.025)
        assert by_metric["FirstChunkLatency"]["ExtendedStatistic"] == "p75"

    def test_an_update_may_wait_for_machines(self, properties):
        guarded = properties("pools", ENDPOINT)["DeploymentConfig"]["Fn::If"][1]
        champion = properties("pools", CONFIG)["ProductionVariants"][0]

        waits = champion["VariantInstanceProvisionTimeoutInSeconds"]
        waits += champion["ModelDataDownloadTimeoutInSeconds"]
        waits += champion["ContainerStartupHealthCheckTimeoutInSeconds"]
        assert guarded["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] >= waits + 4 * 300

    def test_copies_of_traffic_are_acknowledged_and_encrypted(self, properties, resources):
        capture = properties("pools", CONFIG)["DataCaptureConfig"]

        assert capture["InitialSamplingPercentage"] == 5
        assert "captured/" in json.dumps(capture["DestinationS3Uri"])
        assert "KmsKeyId" in capture
        written = [s for s in statements(resources, "pools") if s["Action"] == "s3:PutObject"]
        assert len(written) == 1
        assert json.dumps(written[0]["Resource"]).count("captured/*") == 1

    def test_containers_live_in_a_network_without_a_way_out(self, resources, properties):
        for model in resources("pools", "serving", "AWS::SageMaker::Model").values():
            assert len(model["Properties"]["VpcConfig"]["Subnets"]) == 2
        services = resources("pools", "serving", "AWS::EC2::VPCEndpoint").values()
        assert sorted(each["Properties"]["VpcEndpointType"] for each in services) == [
            "Gateway",
            "Interface",
            "Interface",
        ]
        for kind in ("AWS::EC2::NatGateway", "AWS::EC2::InternetGateway"):
            assert not resources("pools", "serving", kind)
        zones = {
            subnet["Properties"]["AvailabilityZone"]
            for subnet in resources("pools", "serving", "AWS::EC2::Subnet").values()
        }
        assert zones == {"us-east-1a", "us-east-1b"}
        group = properties("pools", "AWS::EC2::FlowLog")
        assert group["TrafficType"] == "REJECT"

    def test_the_loop_may_hold_scaling_and_is_told_so(self, resources):
        granted = {
            action
            for statement in statements(resources, "pools", "refresh")
            for action in (
                [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            )
        }
        assert {
            "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy",
        } <= granted
        functions = resources("pools", "refresh", "AWS::Lambda::Function").values()
        told = [f["Properties"]["Environment"]["Variables"].get("AUTOSCALED") for f in functions]
        assert told.count("true") == 1


class TestScaleToZero:
    """Inference components, down to no machine and back."""

    def test_the_variant_names_no_model_and_may_lose_every_machine(self, properties):
        config = properties("scale-to-zero", CONFIG)
        (variant,) = config["ProductionVariants"]

        assert "ModelName" not in variant
        assert variant["ManagedInstanceScaling"] == {
            "Status": "ENABLED",
            "MinInstanceCount": 0,
            "MaxInstanceCount": 2,
        }
        assert variant["InitialInstanceCount"] == 1
        assert "ExecutionRoleArn" in config
        assert config["EnableNetworkIsolation"] is True
        assert "ShadowProductionVariants" not in config

    def test_the_base_component_holds_the_model_and_what_a_copy_needs(self, resources):
        components = resources("scale-to-zero", "serving", COMPONENT).values()
        (base,) = [
            c["Properties"] for c in components if c["Properties"]["InferenceComponentName"].endswith("-base")
        ]

        assert "ModelName" in base["Specification"]
        assert base["Specification"]["ComputeResourceRequirements"] == {
            "MinMemoryRequiredInMb": 24576,
            "NumberOfAcceleratorDevicesRequired": 1,
        }
        assert base["RuntimeConfig"] == {"CopyCount": 1}
        assert base["DeploymentConfig"]["RollingUpdatePolicy"] == {
            "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            "WaitIntervalInSeconds": 300,
            # Two batches: each waits for machines, fetches and starts the model, and bakes.
            "MaximumExecutionTimeoutInSeconds": 600 + 2 * (1800 + 461 + 1800 + 300),
        }
        assert len(base["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]) == 1

    def test_adapters_lie_on_the_base_component(self, resources):
        components = resources("scale-to-zero", "serving", COMPONENT)
        (base,) = [name for name, c in components.items() if "ModelName" in c["Properties"]["Specification"]]
        adapters = {
            c["Properties"]["InferenceComponentName"]: c for name, c in components.items() if name != base
        }

        assert set(adapters) == {"evergreen-scale-to-zero-support", "evergreen-scale-to-zero-legal"}
        for adapter in adapters.values():
            specification = adapter["Properties"]["Specification"]
            assert specification["BaseInferenceComponentName"] == "evergreen-scale-to-zero-base"
            assert specification["Container"]["ArtifactUrl"].endswith(".tar.gz")
            assert base in adapter["DependsOn"]

    def test_each_component_writes_an_encrypted_log_group_of_its_own(self, resources):
        groups = {
            group["Properties"]["LogGroupName"]: (name, group)
            for name, group in resources("scale-to-zero", "serving", "AWS::Logs::LogGroup").items()
        }
        written = [
            one["Fn::GetAtt"][0]
            for statement in statements(resources, "scale-to-zero")
            if "logs:PutLogEvents" in statement["Action"]
            for one in (
                statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            )
        ]

        prefix = "/aws/sagemaker/InferenceComponents/evergreen-scale-to-zero"
        assert set(groups) == {"/aws/sagemaker/Endpoints/evergreen-scale-to-zero"} | {
            f"{prefix}-{name}" for name in ("base", "support", "legal")
        }
        assert sorted(written) == sorted(name for name, _ in groups.values())
        assert all("KmsKeyId" in group["Properties"] for _, group in groups.values())

    def test_vllm_is_told_to_take_adapters(self, properties):
        environment = properties("scale-to-zero", "AWS::SageMaker::Model")["PrimaryContainer"]["Environment"]

        assert environment["SM_VLLM_ENABLE_LORA"] == "true"

    def test_copies_follow_requests_and_a_call_in_vain_starts_the_first(self, resources, properties):
        target = properties("scale-to-zero", TARGET)
        policies = {
            p["Properties"]["PolicyType"]: p for p in resources("scale-to-zero", "serving", POLICY).values()
        }
        (wake,) = [
            name
            for name, p in resources("scale-to-zero", "serving", POLICY).items()
            if p["Properties"]["PolicyType"] == "StepScaling"
        ]
        alarms = resources("scale-to-zero", "serving", "AWS::CloudWatch::Alarm").values()
        (asleep,) = [
            a["Properties"] for a in alarms if a["Properties"].get("MetricName", "").startswith("NoCapacity")
        ]

        assert target["ResourceId"] == "inference-component/evergreen-scale-to-zero-base"
        assert target["ScalableDimension"] == "sagemaker:inference-component:DesiredCopyCount"
        assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 2)
        tracking = policies["TargetTrackingScaling"]["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        assert tracking["PredefinedMetricSpecification"]["PredefinedMetricType"] == (
            "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
        )
        assert asleep["AlarmActions"] == [{"Ref": wake}]
        assert asleep["Dimensions"] == [
            {"Name": "InferenceComponentName", "Value": "evergreen-scale-to-zero-base"}
        ]

    def test_the_door_names_the_component_and_may_call_it(self, resources):
        functions = resources("scale-to-zero", "gateway", "AWS::Lambda::Function").values()
        named = [f["Properties"]["Environment"]["Variables"].get("INFERENCE_COMPONENT") for f in functions]
        granted = [
            s
            for s in statements(resources, "scale-to-zero", "gateway")
            if s["Action"] == "sagemaker:InvokeEndpointWithResponseStream"
        ]

        # The door and the jobs' worker.
        assert named.count("evergreen-scale-to-zero-base") == len(granted) == 2
        for each in granted:
            assert "inference-component/evergreen-scale-to-zero-base" in json.dumps(each["Resource"])

    def test_there_is_neither_a_challenger_nor_a_loop(self, template_json, assembly):
        parameters = template_json("scale-to-zero", "serving")["Parameters"]

        assert not any(
            name.startswith(("Challenger", "Phase", "DeploymentGuardrails")) for name in parameters
        )
        assert not (assembly("scale-to-zero") / "evergreen-scale-to-zero-refresh.template.json").exists()


class TestAsync:
    """Requests and answers in S3."""

    def test_answers_and_failures_go_to_s3_and_topics(self, properties):
        queue = properties("async", CONFIG)["AsyncInferenceConfig"]

        assert queue["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 32}
        assert "async/output/" in json.dumps(queue["OutputConfig"]["S3OutputPath"])
        assert "async/failed/" in json.dumps(queue["OutputConfig"]["S3FailurePath"])
        assert "KmsKeyId" in queue["OutputConfig"]
        assert set(queue["OutputConfig"]["NotificationConfig"]) == {"SuccessTopic", "ErrorTopic"}

    def test_machines_follow_the_queue_out_of_zero_and_back(self, resources, properties):
        target = properties("async", TARGET)
        policies = resources("async", "serving", POLICY)
        tracking = next(
            p["Properties"]["TargetTrackingScalingPolicyConfiguration"]
            for p in policies.values()
            if p["Properties"]["PolicyType"] == "TargetTrackingScaling"
        )

        assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 3)
        assert tracking["TargetValue"] == 10
        assert tracking["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"
        alarm = properties("async", "AWS::CloudWatch::Alarm")
        assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
        assert alarm["AlarmActions"][0]["Ref"] in policies

    def test_containers_read_requests_and_write_answers_only(self, resources):
        objects = {
            (s["Action"], prefix)
            for s in statements(resources, "async")
            if s["Action"] in ("s3:GetObject", "s3:PutObject")
            for prefix in ("async/input/*", "async/output/*", "async/failed/*")
            if prefix in json.dumps(s["Resource"])
        }

        assert objects == {
            ("s3:GetObject", "async/input/*"),
            ("s3:PutObject", "async/output/*"),
            ("s3:PutObject", "async/failed/*"),
        }

    def test_callers_are_told_the_places_and_there_is_no_door(self, template_json, assembly):
        outputs = template_json("async", "serving")["Outputs"]

        assert {"AsyncInputUri", "AsyncOutputUri", "AsyncDoneTopicArn", "AsyncFailedTopicArn"} <= set(outputs)
        assert not (assembly("async") / "evergreen-async-gateway.template.json").exists()


class TestServerless:
    """Memory and concurrency in place of machines."""

    def test_the_variant_has_memory_and_concurrency_and_no_machine(self, properties):
        config = properties("serverless", CONFIG)
        (variant,) = config["ProductionVariants"]

        assert variant["ServerlessConfig"] == {
            "MemorySizeInMB": 4096,
            "MaxConcurrency": 5,
            "ProvisionedConcurrency": 1,
        }
        assert not {"InstanceType", "InitialInstanceCount", "VolumeSizeInGB"} & set(variant)
        assert "KmsKeyId" not in config
        assert "DeploymentConfig" not in properties("serverless", ENDPOINT)

    def test_what_is_kept_ready_follows_how_much_of_it_is_in_use(self, properties, resources):
        target, policy = properties("serverless", TARGET), properties("serverless", POLICY)

        assert target["ScalableDimension"] == "sagemaker:variant:DesiredProvisionedConcurrency"
        assert target["ResourceId"] == "endpoint/evergreen-serverless/variant/champion"
        assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
        tracking = policy["TargetTrackingScalingPolicyConfiguration"]
        assert tracking["PredefinedMetricSpecification"] == {
            "PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"
        }
        assert tracking["TargetValue"] == 0.7
        (resource,) = resources("serverless", "serving", TARGET).values()
        assert resource["DependsOn"] == list(resources("serverless", "serving", ENDPOINT))

    def test_the_artefact_is_one_archive_and_the_container_is_not_isolated(self, properties, template_json):
        model = properties("serverless", "AWS::SageMaker::Model")

        assert model["PrimaryContainer"]["ModelDataUrl"] == {"Ref": "ChampionModelUri"}
        assert "ModelDataSource" not in model["PrimaryContainer"]
        assert "EnableNetworkIsolation" not in model
        pattern = template_json("serverless", "serving")["Parameters"]["ChampionModelUri"]["AllowedPattern"]
        assert pattern.endswith(r"\.tar\.gz)$")

    def test_the_door_asks_for_whole_answers(self, resources):
        functions = resources("serverless", "gateway", "AWS::Lambda::Function").values()
        told = [f["Properties"]["Environment"]["Variables"].get("STREAMED") for f in functions]
        actions = [s["Action"] for s in statements(resources, "serverless", "gateway")]

        assert told.count("false") == 2  # the door and the jobs' worker
        assert "sagemaker:InvokeEndpoint" in actions
        assert "sagemaker:InvokeEndpointWithResponseStream" not in actions
