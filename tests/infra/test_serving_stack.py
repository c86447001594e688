"""The serving stack: what a release may change, how an update rolls out, what containers may do."""

from __future__ import annotations

import json
import re

import pytest

from contracts import container
from infra.constructs.container_environment import container_environment
from infra.policy.template import holds
from infra.settings import load
from local.cloud.cloudwatch.evaluation import EvaluationScope, evaluate
from local.cloud.cloudwatch.expression import parse
from local.cloud.cloudwatch.functions import FUNCTIONS
from local.cloud.cloudwatch.series import Series, Window

ENVIRONMENTS = ("local", "dev", "prod")
CONFIG = "AWS::SageMaker::EndpointConfig"


def only(found):
    (resource,) = found.values()
    return resource["Properties"]


def environment_of(resources, env, role):
    models = resources(env, "serving", "AWS::SageMaker::Model")
    model = next(model for name, model in models.items() if role in name)
    return model["Properties"]["PrimaryContainer"]["Environment"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_parameters_are_the_agreed_ones(template_json, env):
    parameters = template_json(env, "serving")["Parameters"]

    assert {name for name in parameters if name != "BootstrapVersion"} == {
        "ChampionModelUri",
        "ChampionModelDigest",
        "ChampionModelVersion",
        "ChallengerModelUri",
        "ChallengerModelDigest",
        "ChallengerModelVersion",
        "Phase",
        "DeploymentGuardrails",
        "DeploymentGuardrailsVersion",
        *(["Scaling"] if env == "prod" else []),  # fleets of fixed number have no switch
    }
    assert parameters["Phase"]["AllowedValues"] == ["steady", "shadow", "ab"]
    assert {parameters[f"ChallengerModel{part}"]["Default"] for part in ("Uri", "Digest", "Version")} == {""}


def test_a_laptop_deployment_must_name_its_artefact(template_json):
    assert "Default" not in template_json("local", "serving")["Parameters"]["ChampionModelUri"]


@pytest.mark.parametrize(
    ("uri", "fits"),
    [
        ("s3://bucket/models/name/0123/", True),
        ("s3://bucket/models/name/0123", False),
        ("https://bucket/models/", False),
        ("s3://bucket/", False),
        ("", False),
    ],
)
def test_the_champion_is_an_s3_prefix(template_json, uri, fits):
    pattern = template_json("local", "serving")["Parameters"]["ChampionModelUri"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, uri)) is fits


def test_shadow_and_ab_are_refused_without_a_challenger(template_json):
    rule = template_json("prod", "serving")["Rules"]["PhaseNeedsChallenger"]

    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Phase"}, "steady"]}]}
    assert [entry["Assert"]["Fn::Not"][0]["Fn::Equals"] for entry in rule["Assertions"]] == [
        [{"Ref": "ChallengerModelUri"}, ""],
        [{"Ref": "ChallengerModelVersion"}, ""],
    ]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_challenger_runs_in_ab_and_the_shadow_in_shadow_never_both(resources, template_json, env):
    config = only(resources(env, "serving", CONFIG))
    champion, challenger = config["ProductionVariants"]
    conditions = template_json(env, "serving")["Conditions"]

    assert champion["VariantName"] == "champion"
    assert challenger["Fn::If"][0] == "AbTest"
    assert challenger["Fn::If"][1]["VariantName"] == "challenger"
    assert challenger["Fn::If"][2] == {"Ref": "AWS::NoValue"}
    shadow = config["ShadowProductionVariants"]["Fn::If"]
    assert (shadow[0], [variant["VariantName"] for variant in shadow[1]]) == ("Shadow", ["challenger"])
    assert conditions["AbTest"] == {"Fn::Equals": [{"Ref": "Phase"}, "ab"]}
    assert conditions["Shadow"] == {"Fn::Equals": [{"Ref": "Phase"}, "shadow"]}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_endpoint_is_named_and_keeps_live_weights(resources, env):
    endpoint = only(resources(env, "serving", "AWS::SageMaker::Endpoint"))

    assert endpoint["EndpointName"] == f"evergreen-{env}"
    assert endpoint["RetainAllVariantProperties"] is True


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_models_and_configs_have_no_physical_names(resources, env):
    assert all(
        "ModelName" not in model["Properties"]
        for model in resources(env, "serving", "AWS::SageMaker::Model").values()
    )
    assert "EndpointConfigName" not in only(resources(env, "serving", CONFIG))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_artefacts_arrive_uncompressed_from_the_release_parameters(resources, env):
    for name, model in resources(env, "serving", "AWS::SageMaker::Model").items():
        source = model["Properties"]["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
        role = "Champion" if "Champion" in name else "Challenger"
        assert source == {
            "S3Uri": {"Ref": f"{role}ModelUri"},
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }


def test_our_handler_is_told_its_model_and_limits(resources):
    assert environment_of(resources, "local", "Champion") == {
        container.ENV_ENGINE: "auto",
        container.ENV_MODEL_NAME: "smollm2-135m-instruct",
        container.ENV_MODEL_VERSION: {"Ref": "ChampionModelVersion"},
        container.ENV_MODEL_DIGEST: {"Ref": "ChampionModelDigest"},
        container.ENV_MAX_CONTEXT: "2048",
        container.ENV_MAX_RUNNING: "8",
        container.ENV_MAX_QUEUED: "32",
        container.ENV_DEFAULT_MAX_TOKENS: "256",
        container.ENV_REQUEST_TIMEOUT: "120",
        container.ENV_STALL: "60",
    }


def test_vllm_serves_the_mounted_model_under_the_callers_name_and_drains(resources):
    environment = environment_of(resources, "prod", "Champion")

    assert environment["SM_VLLM_MODEL"] == "/opt/ml/model"
    assert environment["SM_VLLM_SERVED_MODEL_NAME"] == "llama-3.1-8b-instruct"
    assert environment["SM_VLLM_MAX_MODEL_LEN"] == "8192"
    assert 0 < int(environment["SM_VLLM_SHUTDOWN_TIMEOUT"]) < 30


@pytest.mark.parametrize("role", ["Champion", "Challenger"])
def test_vllm_gets_our_hook_from_the_artefact_and_the_time_to_drain(resources, role):
    environment = environment_of(resources, "prod", role)
    hook = f"/opt/ml/model/{container.HOOK_FILE}"

    assert environment["CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE"] == f"{hook}:Hook"
    assert environment["CUSTOM_FASTAPI_PING_HANDLER"] == f"{hook}:ping"
    assert environment["PROCESS_AUTO_RECOVERY"] == "false"
    assert environment["STANDARD_AUTO_INSTALL_REQ"] == "false"


def test_without_the_hook_nothing_of_it_is_set():
    engine = load("prod").endpoint.engine.model_copy(update={"hook": False})
    environment = container_environment(engine, "m", "1", "")

    assert not [name for name in environment if name.startswith("CUSTOM_FASTAPI")]


def test_neuron_gets_the_shape_its_model_was_compiled_for(resources):
    environment = environment_of(resources, "neuron", "Champion")

    assert environment["SM_ON_BATCH_SIZE"] == "4"
    assert environment["SM_ON_SEQUENCE_LENGTH"] == "4096"
    assert environment["SM_ON_TENSOR_PARALLEL_SIZE"] == "2"


@pytest.mark.parametrize(
    ("env", "image"),
    [
        ("local", "123456789012.dkr.ecr.us-east-1.amazonaws.com/evergreen-serving:local"),
        ("prod", "763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm:server-sagemaker-cuda-v2.4"),
    ],
)
def test_images_are_pinned(resources, env, image):
    for model in resources(env, "serving", "AWS::SageMaker::Model").values():
        assert model["Properties"]["PrimaryContainer"]["Image"] == image


def test_production_starts_on_the_host_image_its_cuda_needs(resources):
    champion = only(resources("prod", "serving", CONFIG))["ProductionVariants"][0]

    assert champion["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert (champion["InstanceType"], champion["InitialInstanceCount"]) == ("ml.g6e.xlarge", 2)


@pytest.mark.parametrize(("env", "encrypted"), [("local", True), ("neuron", True), ("prod", False)])
def test_volumes_are_encrypted_where_the_machine_has_one(resources, env, encrypted):
    config = only(resources(env, "serving", CONFIG))

    assert ("KmsKeyId" in config) is encrypted
    assert ("VolumeSizeInGB" in config["ProductionVariants"][0]) is encrypted


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_capture_is_off_and_metrics_are_chosen(resources, env):
    config = only(resources(env, "serving", CONFIG))

    assert "DataCaptureConfig" not in config
    assert config["MetricsConfig"]["EnableDetailedObservability"] is False
    assert config["MetricsConfig"]["EnableEnhancedMetrics"] is True


def test_production_rolls_out_by_canary_and_back_by_alarm(resources):
    condition, guarded, otherwise = only(resources("prod", "serving", "AWS::SageMaker::Endpoint"))[
        "DeploymentConfig"
    ]["Fn::If"]
    alarms = resources("prod", "serving", "AWS::CloudWatch::Alarm")

    assert (condition, otherwise) == ("UseGuardrails", {"Ref": "AWS::NoValue"})
    shift = guarded["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert shift == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
        "WaitIntervalInSeconds": 900,
    }
    config = only(resources("prod", "serving", "AWS::SageMaker::EndpointConfig"))
    (champion, _) = config["ProductionVariants"]
    start = champion["ModelDataDownloadTimeoutInSeconds"]
    start += champion["ContainerStartupHealthCheckTimeoutInSeconds"]
    # Looking for machines is a part of an update: half an hour, where the service decides how long.
    assert guarded["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] >= 1800 + start + 2 * 900
    named = [alarm["AlarmName"]["Ref"] for alarm in guarded["AutoRollbackConfiguration"]["Alarms"]]
    assert set(named) == set(alarms)


def test_rollback_alarms_name_the_endpoint_literally_and_allow_for_dilution(resources):
    alarms = resources("prod", "serving", "AWS::CloudWatch::Alarm").values()
    by_metric = {alarm["Properties"].get("MetricName"): alarm["Properties"] for alarm in alarms}
    of_champion = {"EndpointName": "evergreen-prod", "VariantName": "champion"}

    verdict, errors, first = (
        by_metric[name] for name in ("evergreen.release.verdict", None, "FirstChunkLatency")
    )
    assert verdict["Dimensions"] == [{"Name": "endpoint", "Value": "evergreen-prod"}]
    assert (verdict["Threshold"], verdict["ComparisonOperator"]) == (0, "LessThanThreshold")
    assert {entry["Name"]: entry["Value"] for entry in first["Dimensions"]} == of_champion
    for query in errors["Metrics"]:
        metric = query.get("MetricStat", {}).get("Metric", {})
        assert {entry["Name"]: entry["Value"] for entry in metric.get("Dimensions", [])} in (of_champion, {})
    assert {alarm["TreatMissingData"] for alarm in by_metric.values()} == {"notBreaching"}
    # A tenth of two machines is one of them: 5 % of its requests are 2.5 % of all.
    assert errors["Threshold"] == pytest.approx(0.025)
    assert first["ExtendedStatistic"] == "p75"
    assert first["EvaluateLowSampleCountPercentile"] == "ignore"
    assert first["Threshold"] == 1_600_000  # microseconds


def a_minute(expression, **named):
    """What CloudWatch makes of an expression over one minute."""
    series = {name: Series({0: float(value)}, 60) for name, value in named.items()}
    scope = EvaluationScope(Window(0, 60), 60, series, series.__getitem__, lambda *_: tuple(series.values()))
    found = evaluate(parse(expression), scope, FUNCTIONS)
    return found.values[0]


@pytest.mark.parametrize(
    ("failed", "requests", "rolls_back"),
    [
        (1, 10, False),  # one failure proves nothing, whatever share it is
        (4, 20, False),
        (5, 100, True),
        (5, 250, False),  # 2 % of all: less than a bad machine of two
        (30, 1000, True),
    ],
)
def test_single_failures_do_not_roll_a_release_back(resources, failed, requests, rolls_back):
    alarms = resources("prod", "serving", "AWS::CloudWatch::Alarm").values()
    (errors,) = [alarm["Properties"] for alarm in alarms if "Metrics" in alarm["Properties"]]
    stats = {
        query["Id"]: (query["MetricStat"]["Metric"]["MetricName"], query["MetricStat"]["Stat"])
        for query in errors["Metrics"]
        if "MetricStat" in query
    }
    (expression,) = [query["Expression"] for query in errors["Metrics"] if "Expression" in query]

    assert stats == {"failed": ("Invocation5XXErrors", "Sum"), "requests": ("Invocations", "Sum")}
    share = a_minute(expression, failed=failed, requests=requests)
    assert (share > errors["Threshold"]) is rolls_back


def states(template, **given):
    """The conditions of a template under these parameter values, by name."""
    defaults = {name: p.get("Default", "") for name, p in template["Parameters"].items()}
    return {
        name: holds({"Condition": name}, template["Conditions"], defaults | given)
        for name in template["Conditions"]
    }


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_update_uses_guardrails_unless_it_is_the_one_that_changes_variants(template_json, env):
    """Guardrails are skipped for one template and one champion: any later update uses them again."""
    template = template_json(env, "serving")
    shape = template["Outputs"]["EndpointShape"]["Value"]
    spent = {
        "DeploymentGuardrails": f"skip-{shape}",
        "DeploymentGuardrailsVersion": "2",
        "ChampionModelVersion": "2",
    }

    assert states(template)["UseGuardrails"]
    assert not states(template, **spent)["UseGuardrails"]
    assert states(template, **spent | {"ChampionModelVersion": "3"})["UseGuardrails"]
    assert states(template, **spent | {"DeploymentGuardrails": "skip-000000000000"})["UseGuardrails"]
    assert states(template, **spent | {"DeploymentGuardrails": "skip"})["UseGuardrails"]
    assert re.fullmatch(template["Parameters"]["DeploymentGuardrails"]["AllowedPattern"], f"skip-{shape}")


def test_a_template_with_another_image_machine_or_rollout_has_another_shape(template_json):
    shapes = {
        template_json(env, "serving")["Outputs"]["EndpointShape"]["Value"] for env in (*ENVIRONMENTS, "pools")
    }

    assert len(shapes) == 4


def test_a_fleet_of_fixed_number_has_no_scalable_target(resources):
    for env in ("local", "dev"):
        assert not resources(env, "serving", "AWS::ApplicationAutoScaling::ScalableTarget")


def test_production_follows_its_requests(resources):
    target = only(resources("prod", "serving", "AWS::ApplicationAutoScaling::ScalableTarget"))

    assert target["ResourceId"] == "endpoint/evergreen-prod/variant/champion"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 4)


@pytest.mark.parametrize("env", ["local", "dev"])
def test_other_environments_shift_all_at_once(resources, env):
    guarded = only(resources(env, "serving", "AWS::SageMaker::Endpoint"))["DeploymentConfig"]["Fn::If"][1]

    routing = guarded["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    assert not resources(env, "serving", "AWS::CloudWatch::Alarm")


def test_containers_read_one_prefix_write_one_log_group_and_pull_one_image(resources):
    policy = only(resources("local", "serving", "AWS::IAM::Policy"))
    granted = {
        action: statement
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }

    assert set(granted) == {
        "s3:GetObject",
        "s3:ListBucket",
        "kms:Decrypt",
        "kms:CreateGrant",
        "kms:DescribeKey",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "cloudwatch:PutMetricData",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:GetAuthorizationToken",
    }
    read = [
        (statement["Action"], statement.get("Condition"), json.dumps(statement["Resource"]))
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] in ("s3:GetObject", "s3:ListBucket")
    ]
    objects = " ".join(resource for action, _, resource in read if action == "s3:GetObject")
    assert objects.count('/*"') == 2
    assert "/models/*" in objects
    assert "/releases/*" in objects  # a promoted challenger lies where training left it
    assert [condition for action, condition, _ in read if action == "s3:ListBucket"] == [
        {"StringLike": {"s3:prefix": ["models/*"]}},
        {"StringLike": {"s3:prefix": ["releases/*"]}},
    ]
    assert granted["ecr:BatchGetImage"]["Resource"]["Fn::Join"][1][-1].endswith(
        ":123456789012:repository/evergreen-serving"
    )
    # Only CreateGrant carries the condition's key; under it nobody could ever look at the key.
    assert granted["kms:CreateGrant"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert "Condition" not in granted["kms:DescribeKey"]
    unbounded = {action for action, statement in granted.items() if statement["Resource"] == "*"}
    assert unbounded == {"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_models_wait_for_the_roles_policy(resources, env):
    (policy,) = resources(env, "serving", "AWS::IAM::Policy")

    for model in resources(env, "serving", "AWS::SageMaker::Model").values():
        assert policy in model["DependsOn"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_only_sagemaker_in_this_account_assumes_the_role(resources, env):
    trust = only(resources(env, "serving", "AWS::IAM::Role"))["AssumeRolePolicyDocument"]["Statement"]

    account = "123456789012" if env == "local" else "111122223333"
    assert [entry["Principal"] for entry in trust] == [{"Service": "sagemaker.amazonaws.com"}]
    assert trust[0]["Condition"] == {"StringEquals": {"aws:SourceAccount": account}}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_outputs_are_the_agreed_ones(template_json, env):
    outputs = template_json(env, "serving")["Outputs"]

    assert {name for name in outputs if not name.startswith("Exports")} == {
        "EndpointName",
        "EndpointShape",
        *(("RollbackAlarms",) if env == "prod" else ()),  # the others shift all at once
    }


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_no_release_parameter_is_exported(template_json, env):
    """An export in use cannot change: a release would be refused."""
    exported = [o for o in template_json(env, "serving")["Outputs"].values() if "Export" in o]

    assert exported == []
