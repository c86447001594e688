"""The refresh stack: every way through the machine ends with the lock freed, and each role fits its work."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint

from contracts.records import CALLS_INDEX, RATINGS_INDEX
from contracts.release_tasks import ANALYSIS_TASKS, RELEASE_TASKS, CanarySettings, GateSettings, LoopSettings
from infra.constructs.source_archive import archive
from infra.settings import load
from lambdas.release import store

ROOT = Path(__file__).parents[2]
RELEASE_HANDLER = "lambdas.release.handler.handler"
ENVIRONMENTS = ("local", "dev", "prod")
MACHINES = (*ENVIRONMENTS, "two-regions")  # an example, whose machine has a second region to bring along
SERVED = {"uri": "s3://bucket/models/a/b/", "digest": "", "version": "1"}
VALUES: dict[str, Any] = {
    "release_id": "r-1",
    "execution_arn": "arn:aws:states:us-east-1:123456789012:execution:m:r-1",
    "trigger": {},
    "champion": SERVED,
    "challenger": SERVED,
    "model_uri": "s3://bucket/releases/r-1/training/j/output/model/",
    "report_uri": "s3://bucket/releases/r-1/report/report.json",
    "data_uri": "s3://bucket/releases/r-1/data/",
    "package_arn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/g/1",
    "token": "token",
    "started_at": 1.0,
    "share": 0.1,
    "stage": 0,
    "outcome": "kept",
    "reason": "because",
}


def flat(part: Any) -> str:
    """A template's value as text, references by their logical ids."""
    if isinstance(part, str):
        return part
    if "Fn::Join" in part:
        return "".join(flat(one) for one in part["Fn::Join"][1])
    if "Fn::Sub" in part:
        return str(part["Fn::Sub"])
    if "Fn::GetAtt" in part:
        return f"<{part['Fn::GetAtt'][0]}>"
    return f"<{part.get('Ref') or part['Fn::ImportValue']}>"


@pytest.fixture(scope="session")
def machine(resources):
    """`machine(env)` is the definition, references replaced by their logical ids."""

    def definition(env: str) -> dict[str, Any]:
        machines = resources(env, "refresh", "AWS::StepFunctions::StateMachine")
        (found,) = [one for name, one in machines.items() if name.startswith("Machine")]
        text = found["Properties"]["DefinitionString"]
        for name, value in found["Properties"]["DefinitionSubstitutions"].items():
            assert f"${{{name}}}" in text, f"{name} is used nowhere"
            text = text.replace(f"${{{name}}}", flat(value))
        assert "${" not in text
        return json.loads(text)

    return definition


@pytest.fixture(scope="session")
def loop(resources):
    """`loop(env)` is what the state machine loads from the settings."""

    def settings(env: str) -> LoopSettings:
        functions = resources(env, "refresh", "AWS::Lambda::Function").values()
        (release,) = [f for f in functions if f["Properties"]["Handler"] == RELEASE_HANDLER]
        return LoopSettings.model_validate_json(
            flat(release["Properties"]["Environment"]["Variables"]["LOOP"])
        )

    return settings


def tasks(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: state for name, state in definition["States"].items() if state["Type"] == "Task"}


def ways(state: dict[str, Any]) -> Iterator[str]:
    """Every state that may follow."""
    yield from (rule["Next"] for rule in [*state.get("Choices", []), *state.get("Catch", [])])
    yield from (state[key] for key in ("Next", "Default") if key in state)


def reachable(definition: dict[str, Any], start: str, without: frozenset[str] = frozenset()) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in without:
            seen.add(name)
            waiting += ways(definition["States"][name])
    return seen


def update_definition() -> dict[str, Any]:
    """The definition of the state machine that updates a stack."""
    return yaml.safe_load((ROOT / "infra" / "state_machines" / "update_stack.asl.yaml").read_text())


def statements(resources, env: str, start: str) -> list[dict[str, Any]]:
    policies = resources(env, "refresh", "AWS::IAM::Policy")
    (policy,) = [found for name, found in policies.items() if name.startswith(start)]
    return policy["Properties"]["PolicyDocument"]["Statement"]


def granted(resources, env: str, start: str) -> set[str]:
    listed = [entry["Action"] for entry in statements(resources, env, start)]
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


def walk(definition: dict[str, Any], choose: dict[str, list[str]]) -> list[str]:
    """The states on one way to the end; `choose` gives what each choice answers, time after time."""
    states, walked, name = definition["States"], [], definition["StartAt"]
    left = {choice: list(answers) for choice, answers in choose.items()}
    while True:
        state = states[name]
        if state["Type"] == "Choice":
            answer = left[name].pop(0)
            assert answer in ways(state), name
            name = answer
            continue
        walked.append(name)
        if state["Type"] in ("Succeed", "Fail"):
            assert not any(left.values()), left
            return walked
        name = state["Next"]


def choices(stages: int, *, approval: str = "Approve", second_region: bool = False) -> dict[str, list[str]]:
    """What is chosen on the way to a promotion."""
    return {
        "HasAbandonedExperiment": ["LoadSettings"],
        "DataDecision": ["PrepareData"],
        "GateDecision": ["Register"],
        "ApprovalMode": [approval],
        "ExperimentReady": ["FirstStage"],
        "CanaryDecision": ["NextStage"] * stages,
        "MoreStages": ["SetTrafficWeight"] * (stages - 1) + ["Promote"],
        "PromotionReady": ["Retire"],
        "RetirementReady": ["HasSecondRegion"],
        "HasSecondRegion": ["PromoteToSecondRegion" if second_region else "PromotionComplete"],
        "SecondRegionReady": ["PromotionComplete"] if second_region else [],
        "Outcome": ["Promoted"],
    }


@pytest.mark.parametrize(
    ("env", "shares", "approval"),
    [
        ("local", [0.1, 0.5], "automatic"),
        ("dev", [0.1, 0.5], "automatic"),
        ("prod", [0.05, 0.25, 0.5], "manual"),
    ],
)
def test_the_way_to_a_promotion_is_the_documented_one(machine, loop, env, shares, approval):
    given = loop(env)
    state = "WaitForApproval" if approval == "manual" else "Approve"
    expected = [
        *(
            "AcquireLock",
            "LoadSettings",
            "CheckData",
            "PrepareData",
            "EvaluateChampion",
            "Train",
            "DescribeChallenger",
        ),
        *("EvaluateChallenger", "Compare", "Gate", "Register", state),
        *("StartExperiment", "UpdateForExperiment", "CheckExperiment", "FirstStage"),
        *("SetTrafficWeight", "WaitForSamples", "AnalyzeCanary", "NextStage") * len(shares),
        *("Promote", "UpdateForPromotion", "CheckPromotion"),
        *("Retire", "UpdateForRetirement", "CheckRetirement"),
        *("PromotionComplete", "ReleaseLock", "Promoted"),
    ]

    assert (given.shares, given.approval, given.second_region) == (shares, approval, False)
    assert walk(machine(env), choices(len(shares), approval=state)) == expected


def test_without_new_data_no_job_is_paid_for_and_no_alarm_goes_off(machine):
    """The calendar is on from the first deployment, when there is no data yet."""
    states = machine("prod")["States"]
    expected = ["AcquireLock", "LoadSettings", "CheckData", "NoNewData", "ReleaseLock", "Rejected"]

    chosen = {
        "HasAbandonedExperiment": ["LoadSettings"],
        "DataDecision": ["NoNewData"],
        "Outcome": ["Rejected"],
    }

    assert walk(machine("prod"), chosen) == expected
    assert states["Rejected"]["Type"] == "Succeed"
    assert states["DataDecision"]["Default"] == "NoNewData"
    assert states["CheckData"]["Parameters"]["Payload"]["trigger.$"] == "$$.Execution.Input"


def test_every_stage_is_one_turn_of_one_loop(machine):
    states = machine("prod")["States"]
    stage = "States.ArrayGetItem($.settings.shares, $.canary.index)"

    assert states["FirstStage"]["Result"] == {"index": 0}
    assert states["NextStage"]["Parameters"] == {"index.$": "States.MathAdd($.canary.index, 1)"}
    assert states["MoreStages"]["Choices"] == [
        {
            "Variable": "$.canary.index",
            "NumericLessThanPath": "$.settings.stages",
            "Next": "SetTrafficWeight",
        }
    ]
    assert states["MoreStages"]["Default"] == "Promote"
    for name in ("SetTrafficWeight", "AnalyzeCanary"):
        payload = states[name]["Parameters"]["Payload"]
        assert (payload["share.$"], payload["stage.$"]) == (stage, "$.canary.index")


@pytest.mark.parametrize("env", MACHINES)
def test_no_state_is_unreachable_and_none_leads_nowhere(machine, env):
    definition = machine(env)

    assert reachable(definition, definition["StartAt"]) == set(definition["States"])


@pytest.mark.parametrize("env", MACHINES)
def test_every_end_but_a_stuck_lock_lies_behind_the_releasing_of_the_lock(machine, env):
    definition = machine(env)

    before = reachable(definition, definition["StartAt"], without=frozenset({"ReleaseLock"}))

    assert not [name for name in before if definition["States"][name]["Type"] in ("Succeed", "Fail")]


ENDING = ("Restore", "UpdateForRestore", "CheckRestore", "PromoteToSecondRegion", "CheckSecondRegion")
ENDING += ("ReleaseLock",)


@pytest.mark.parametrize("env", MACHINES)
def test_every_task_has_a_limit_a_budget_of_retries_and_a_way_to_restore(machine, env):
    definition = machine(env)

    for name, state in tasks(definition).items():
        if name == "WaitForApproval":
            assert state["TimeoutSecondsPath"] == "$.settings.approval_seconds"
        else:
            assert 0 < state["TimeoutSeconds"] < definition["TimeoutSeconds"], name
        busy = [rule for rule in state["Retry"] if rule["ErrorEquals"] == ["StackBusyError"]]
        assert all(1 <= rule["MaxAttempts"] <= 60 for rule in state["Retry"] if rule not in busy), name
        assert all(4 * 3600 <= waits(rule) < 4.1 * 3600 for rule in busy), name
        (rule,) = state["Catch"]
        assert rule["ErrorEquals"] == ["States.ALL"], name
        if name not in ENDING:
            assert "Restore" in reachable(definition, rule["Next"], without=frozenset({"ReleaseLock"})), name


def waits(retry: dict[str, Any]) -> float:
    """Seconds that all tries of a rule wait together."""
    pauses = (retry["IntervalSeconds"] * retry["BackoffRate"] ** n for n in range(retry["MaxAttempts"]))
    return sum(min(pause, retry["MaxDelaySeconds"]) for pause in pauses)


@pytest.mark.parametrize("env", MACHINES)
def test_each_planned_update_is_made_by_the_state_machine_that_alone_may(machine, env):
    states = machine(env)["States"]
    updates = {
        name: one for name, one in states.items() if ":states:startExecution" in one.get("Resource", "")
    }
    ends = {"Experiment": "StartExperiment", "Promotion": "Promote", "Retirement": "Retire"}

    assert updates.keys() == {
        *("UpdateForAbandonedExperiment", "UpdateForRestore"),
        *(f"UpdateFor{name}" for name in ends),
    }
    for name, state in updates.items():
        assert state["Resource"] == "arn:aws:states:::states:startExecution.sync:2", name
        assert state["Parameters"]["StateMachineArn"][:-9] == "<ServingUpdateMachine", name
        assert state["TimeoutSeconds"] > update_definition()["TimeoutSeconds"], name
    for name, task in ends.items():
        assert states[task]["Next"] == f"UpdateFor{name}"
        assert states[f"UpdateFor{name}"]["Next"] == f"Check{name}"
    assert states["RestoreNeeded"]["Choices"][0]["Next"] == "UpdateForRestore"
    assert "UpdateStack" not in json.dumps(states)


@pytest.mark.parametrize("env", MACHINES)
def test_jobs_end_by_their_own_limit_within_the_states(machine, loop, env):
    for name, state in tasks(machine(env)).items():
        if ":sagemaker:" in state["Resource"]:
            kind = "training" if name == "Train" else "processing"
            limit = state["Parameters"]["StoppingCondition"]["MaxRuntimeInSeconds.$"]
            assert limit == f"$.settings.{kind}.max_seconds"
            assert getattr(loop(env), kind).max_seconds < state["TimeoutSeconds"]


@pytest.mark.parametrize("env", MACHINES)
def test_both_models_answer_as_long_as_the_endpoint_lets_callers(machine, resources, env):
    settings = load(env, ROOT / "tests" / "fixtures" / "settings") if env == "two-regions" else load(env)
    states = machine(env)["States"]

    for name in ("EvaluateChampion", "EvaluateChallenger"):
        words = states[name]["Parameters"]["AppSpecification"]["ContainerArguments"]
        assert words[words.index("--max-new-tokens") + 1] == str(settings.evaluation_answer_tokens)
    (compare,) = [states["Compare"]["Parameters"]["AppSpecification"]["ContainerArguments"]]
    assert compare[compare.index("--maximum-cut-share") + 1] == str(settings.refresh.gate.maximum_cut_share)


@pytest.mark.parametrize("env", MACHINES)
def test_every_task_of_a_function_is_one_that_it_knows(machine, env):
    for name, state in tasks(machine(env)).items():
        if "lambda:invoke" not in state["Resource"]:
            continue
        payload = {
            key.removesuffix(".$"): VALUES[key[:-2]] if key.endswith(".$") else value
            for key, value in state["Parameters"]["Payload"].items()
        }
        known = ANALYSIS_TASKS if "Judge" in state["Parameters"]["FunctionName"] else RELEASE_TASKS

        assert known.validate_python(payload).task == payload["task"], name


@pytest.mark.parametrize("env", MACHINES)
def test_a_result_is_read_only_where_an_earlier_state_has_left_it(machine, env):
    """The paths of each state's input begin with something that every way to it has written."""
    definition = machine(env)
    states = definition["States"]

    for name, state in states.items():
        if name == "Failed":  # it gets `end` alone: see the next test
            continue
        read = {path for path in paths(state) if path.startswith("$.")}
        for field in {path[2:].split(".")[0].strip("()',") for path in read}:
            writers = frozenset(other for other, one in states.items() if field in written(one))
            unwritten = reachable(definition, definition["StartAt"], without=writers)
            if name in unwritten and name not in writers:
                assert field == "error", f"{name} reads $.{field}, which may not be there"


@pytest.mark.parametrize("env", MACHINES)
def test_a_failed_execution_names_error_and_cause(machine, env):
    states = machine(env)["States"]

    assert states["Outcome"]["OutputPath"] == "$.end"
    assert (states["Failed"]["ErrorPath"], states["Failed"]["CausePath"]) == ("$.error", "$.reason")
    ends = [state for state in states.values() if state.get("ResultPath") == "$.end"]
    filled = [{key.removesuffix(".$") for key in end.get("Parameters") or end["Result"]} for end in ends]
    failing = [fields for fields, end in zip(filled, ends, strict=True) if "failed" in json.dumps(end)]
    assert len(failing) == 3
    assert all(fields == {"outcome", "error", "reason"} for fields in failing)


@pytest.mark.parametrize("env", MACHINES)
def test_the_definition_is_in_the_states_language(machine, env):
    """cfn-lint reads a definition only where it is no text with references in it."""
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/r", "Definition": machine(env)}
    template = {
        "Resources": {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}
    }

    found = lint(json.dumps(template), config=ManualArgs(regions=["us-east-1"]))

    assert [str(match) for match in found] == []


def paths(value: Any) -> Iterator[str]:
    """The paths that a state reads from its input."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("ResultPath", "ResultSelector", "Catch"):
                continue
            if isinstance(inner, str) and inner.startswith("States."):
                yield from (word.strip("(),") for word in inner.replace("(", " ").split() if "$." in word)
            elif isinstance(inner, str):
                yield inner
            else:
                yield from paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner)


def written(state: dict[str, Any]) -> set[str]:
    if state.get("ResultPath") == "$":
        return {key.removesuffix(".$") for key in state["ResultSelector"]}
    path = state.get("ResultPath") or ""
    return {path[2:]} if path.startswith("$.") else set()


def test_approval_is_automatic_or_waits_for_a_person(machine):
    states = machine("prod")["States"]
    at_once, asked = states["Approve"], states["WaitForApproval"]

    assert states["ApprovalMode"]["Choices"] == [
        {"Variable": "$.settings.approval", "StringEquals": "manual", "Next": "WaitForApproval"}
    ]
    assert states["ApprovalMode"]["Default"] == "Approve"
    assert at_once["Resource"] == "arn:aws:states:::lambda:invoke"
    assert at_once["Parameters"]["Payload"]["status"] == "Approved"
    assert asked["Resource"] == "arn:aws:states:::lambda:invoke.waitForTaskToken"
    assert asked["Parameters"]["Payload"]["status"] == "PendingManualApproval"
    assert asked["Parameters"]["Payload"]["token.$"] == "$$.Task.Token"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_jobs_run_the_modules_that_exist_on_paths_that_meet(machine, env):
    states = machine(env)["States"]
    words = {
        name: states[name]["Parameters"]["AppSpecification"]["ContainerArguments"]
        for name in ("PrepareData", "EvaluateChampion", "EvaluateChallenger", "Compare")
    }

    for name, given in words.items():
        assert (ROOT / given[0].replace(".", "/")).with_suffix(".py").exists() or (
            ROOT / given[0] / "__main__.py"
        ).exists(), name
        mounted = [entry["S3Input"]["LocalPath"] for entry in states[name]["Parameters"]["ProcessingInputs"]]
        read = [word for word in given if word.startswith("/opt/ml/processing/input/")]
        assert read
        assert all(any(path == at or path.startswith(f"{at}/") for at in mounted) for path in read), name
    written_to = {
        name: states[name]["Parameters"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri.$"]
        for name in words
    }
    for name, place in {
        "PrepareData": "/data/'",
        "EvaluateChampion": "/champion/'",
        "EvaluateChallenger": "/challenger/'",
        "Compare": "/report/'",
    }.items():
        assert place in written_to[name]


def test_entry_points_fit_sagemakers_limits(machine):
    for state in tasks(machine("prod")).values():
        specification = state["Parameters"].get("AppSpecification")
        if specification:
            entry, arguments = specification["ContainerEntrypoint"], specification["ContainerArguments"]
            assert all(len(word) <= 256 and "\n" not in word for word in [*entry, *arguments])


def test_the_comparison_is_called_as_the_command_line_wants_it(machine):
    from evaluation.cli import _parser

    for env in ENVIRONMENTS:
        state = machine(env)["States"]["Compare"]
        _, *words = state["Parameters"]["AppSpecification"]["ContainerArguments"]
        options = _parser().parse_args(words)
        gate = load(env).refresh.gate

        assert (options.baseline.parent.name, options.candidate.parent.name) == ("champion", "challenger")
        assert options.primary == gate.metric
        assert options.alpha <= gate.alpha
        assert options.latency_margin == pytest.approx(gate.maximum_latency_ratio - 1)


@pytest.mark.parametrize(("env", "keyed"), [("local", True), ("dev", False), ("prod", False)])
def test_training_leaves_an_uncompressed_encrypted_artefact_and_can_resume(machine, loop, env, keyed):
    parameters = machine(env)["States"]["Train"]["Parameters"]
    training = loop(env).training

    assert parameters["OutputDataConfig"]["CompressionType"] == "NONE"
    assert "ModelsKey" in parameters["OutputDataConfig"]["KmsKeyId"]
    assert parameters["ResourceConfig.$"] == "$.settings.training.cluster"
    assert ("VolumeKmsKeyId" in training.cluster) is keyed
    assert parameters["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert {channel["ChannelName"] for channel in parameters["InputDataConfig"]} == {"train", "model"}
    assert parameters["HyperParameters.$"] == "$.settings.training.hyperparameters"
    assert training.hyperparameters["sagemaker_program"] == "train.py"
    assert training.hyperparameters["sagemaker_submit_directory"].endswith(".gz")


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_machines_role_allows_exactly_its_tasks(resources, env):
    assert granted(resources, env, "MachineRole") == {
        "lambda:InvokeFunction",
        *(
            f"sagemaker:{verb}{job}Job"
            for verb in ("Create", "Describe", "Stop")
            for job in ("Training", "Processing")
        ),
        "sagemaker:AddTags",
        "iam:PassRole",
        "events:PutTargets",
        "events:PutRule",
        "events:DescribeRule",
        "states:StartExecution",
        "states:DescribeExecution",
        "states:StopExecution",
        # Logging and tracing:
        "logs:CreateLogDelivery",
        "logs:GetLogDelivery",
        "logs:UpdateLogDelivery",
        "logs:DeleteLogDelivery",
        "logs:ListLogDeliveries",
        "logs:PutResourcePolicy",
        "logs:DescribeResourcePolicies",
        "logs:DescribeLogGroups",
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
    }
    (passed,) = [s for s in statements(resources, env, "MachineRole") if s["Action"] == "iam:PassRole"]
    assert {r["Fn::GetAtt"][0].rstrip("0123456789ABCDEF") for r in passed["Resource"]} == {
        "TrainingRole",
        "ProcessingRole",
    }
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    (started,) = [
        s for s in statements(resources, env, "MachineRole") if s["Action"] == "states:StartExecution"
    ]
    assert flat(started["Resource"]).endswith(f":stateMachine:evergreen-{env}-serving-update")


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_jobs_are_named_as_the_machines_role_and_sagemaker_allow(machine, resources, env):
    allowed = json.dumps(statements(resources, env, "MachineRole"))

    for state in tasks(machine(env)).values():
        name = state["Parameters"].get("TrainingJobName.$") or state["Parameters"].get("ProcessingJobName.$")
        if name:
            pattern = name.split("'")[1]
            assert len(pattern.format("0" * 32, "10")) <= 63
            kind = "training-job" if "TrainingJobName.$" in state["Parameters"] else "processing-job"
            assert f"{kind}/{env}-*" in allowed
            assert pattern.startswith(f"{env}-")


FUNCTION_BASICS = {
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "s3:GetObject",
    "s3:ListBucket",
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_analysis_reads_and_writes_to_the_ledger_alone(resources, env):
    assert granted(resources, env, "FunctionsJudge") == FUNCTION_BASICS | {"dynamodb:Query"}
    for statement in statements(resources, env, "FunctionsJudge"):
        where = json.dumps(statement["Resource"])
        if statement["Action"] == "dynamodb:PutItem":
            assert "LedgerTable" in where
        if statement["Action"] == "dynamodb:Query":
            assert where.count("/index/by-version-") == 2


@pytest.mark.parametrize(("env", "asks"), [("local", False), ("dev", False), ("prod", True)])
def test_release_moves_one_stack_one_endpoint_and_one_registry(resources, env, asks):
    manual = {"sns:Publish", "states:SendTaskSuccess", "states:SendTaskFailure"}
    if asks:  # production is also where the fleet scales and updates are guarded
        manual |= {
            "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy",
            "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
            "cloudwatch:PutMetricAlarm",
            "cloudwatch:DeleteAlarms",
            "cloudwatch:DescribeAlarms",
            "cloudwatch:DescribeAlarmHistory",
        }

    assert granted(resources, env, "FunctionsRelease") == FUNCTION_BASICS | {
        "dynamodb:DeleteItem",
        "cloudformation:DescribeStacks",
        "cloudformation:DescribeStackEvents",
        "cloudformation:ListStackResources",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:DescribeModel",
        "sagemaker:DescribeEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "sagemaker:CreateModelPackage",
        "sagemaker:UpdateModelPackage",
        "states:DescribeExecution",
    } | (manual if asks else set())
    for statement in statements(resources, env, "FunctionsRelease"):
        where = json.dumps(statement["Resource"])
        if statement["Action"] == "dynamodb:DeleteItem":
            keys = statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
            assert keys == [f"LOCK#evergreen-{env}"]
        if "AccessTable" in where and "dynamodb" in json.dumps(statement["Action"]):
            assert statement["Action"] == "dynamodb:PutItem"
            keys = statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
            assert keys == [f"ROUTING#evergreen-{env}"]
        if "cloudformation:DescribeStacks" in statement["Action"]:
            assert f"stack/evergreen-{env}-serving/*" in where


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_jobs_read_their_prefixes_and_write_under_releases_only(resources, env):
    for role in ("TrainingRole", "ProcessingRole"):
        for statement in statements(resources, env, role):
            if "s3:PutObject" in statement["Action"]:
                assert json.dumps(statement["Resource"]).endswith('/releases/*"]]}')
        read = json.dumps(
            [s["Resource"] for s in statements(resources, env, role) if s["Action"] == "s3:GetObject"]
        )
        assert ("/datasets/support/*" in read) is (role == "ProcessingRole")


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_functions_are_told_what_their_contracts_read(resources, env):
    functions = resources(env, "refresh", "AWS::Lambda::Function").values()
    by_handler = {f["Properties"]["Handler"]: f["Properties"] for f in functions}
    shared = {
        *("ENVIRONMENT", "LOG_LEVEL", "ENDPOINT_NAME", "SERVING_STACK", "ACCESS_TABLE", "RECORDS_TABLE"),
        *("LEDGER_TABLE", "ARTEFACTS_BUCKET", "MODEL_PACKAGE_GROUP"),
    }

    analysis = by_handler["lambdas.release.analysis_handler.handler"]["Environment"]["Variables"]
    release = by_handler["lambdas.release.handler.handler"]["Environment"]["Variables"]
    assert set(analysis) == shared | {"GATE", "CANARY"}
    assert set(release) == shared | {"LOOP"} | (
        {"APPROVAL_TOPIC_ARN", "AUTOSCALED"} if env == "prod" else set()
    )
    settings = load(env).refresh
    assert GateSettings.model_validate_json(analysis["GATE"]).metric == settings.gate.metric
    assert CanarySettings.model_validate_json(analysis["CANARY"]).shares == settings.canary.shares


def test_the_analysis_reads_indexes_that_the_data_stack_makes(resources):
    assert (store.CALLS_INDEX, store.RATINGS_INDEX) == (CALLS_INDEX, RATINGS_INDEX)
    made = resources("local", "data", "AWS::DynamoDB::Table")
    (records,) = [t["Properties"] for name, t in made.items() if name.startswith("RecordsTable")]

    shapes = {
        index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
        for index in records["GlobalSecondaryIndexes"]
    }

    assert shapes == {
        CALLS_INDEX: ["model_version", "received_at"],
        RATINGS_INDEX: ["model_version", "given_at"],
    }


def test_only_production_starts_by_the_calendar(resources):
    def schedules(env):
        rules = resources(env, "refresh", "AWS::Events::Rule").values()
        return [
            r["Properties"].get("ScheduleExpression")
            for r in rules
            if "ScheduleExpression" in r["Properties"]
        ]

    assert (schedules("local"), schedules("dev"), schedules("prod")) == ([], [], ["cron(0 3 ? * SUN *)"])


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_a_failed_release_is_told_to_the_alarms_topic(resources, env):
    rules = resources(env, "refresh", "AWS::Events::Rule")
    (rule,) = [r["Properties"] for name, r in rules.items() if name.startswith("Failures")]

    assert rule["EventPattern"]["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert "AlarmTopic" in json.dumps(rule["Targets"])


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_machine_logs_everything_under_our_key_and_traces(resources, env):
    machines = resources(env, "refresh", "AWS::StepFunctions::StateMachine").values()
    groups = resources(env, "refresh", "AWS::Logs::LogGroup").values()

    names = {machine["Properties"]["StateMachineName"] for machine in machines}
    assert names == {f"evergreen-{env}-refresh", f"evergreen-{env}-serving-update"}
    for machine in machines:
        assert machine["Properties"]["StateMachineType"] == "STANDARD"
        assert machine["Properties"]["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["Properties"]["TracingConfiguration"] == {"Enabled": True}
    assert all("KmsKeyId" in group["Properties"] for group in groups)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_outputs_are_the_agreed_ones(template_json, env):
    outputs = template_json(env, "refresh")["Outputs"]

    assert set(outputs) == {
        *("StateMachineArn", "UpdateMachineArn", "ModelPackageGroupName", "SourceDataUri", "AnswerTokens")
    }
    assert json.dumps(outputs["SourceDataUri"]["Value"]).endswith('/datasets/support/"]]}')


def test_the_source_archive_is_reproducible_and_holds_what_the_jobs_run():
    content = archive(ROOT)

    assert content == archive(ROOT)
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        names = set(tar.getnames())
    assert {
        "train.py",
        "requirements.txt",
        "contracts/training.py",
        "model_code/__init__.py",
        "model_code/training/finetune.py",
        "model_code/training/predict.py",
        "model_code/vllm_hook/install.py",
        "model_code/serving/admission.py",
        "evaluation/__main__.py",
    } <= names
    assert not [name for name in names if "__pycache__" in name or "engines" in name]


def test_the_jobs_pins_are_those_of_the_environments_they_share():
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))

    shared = pins("serving.txt") | pins("evaluation.txt")

    assert pins("jobs.txt").items() <= shared.items()
    assert "torch" not in pins("jobs.txt")  # the container's own
