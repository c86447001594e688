"""The second region: what stands there, how models reach it, who may call it, what it costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import aws_cdk as cdk
import pytest

from infra.compose import compose
from infra.policy.cost import cost_cap
from infra.settings import load
from infra.settings.cost import estimate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tests" / "fixtures" / "settings"
ENV, THERE = "two-regions", "us-west-2"
STACKS = ("failover-data", "failover", "failover-update")
BUCKET = f"evergreen-{ENV}-models-111122223333-{THERE}"


@pytest.fixture(scope="module")
def only(resources):
    """`only(stack, type)` are the properties of the stack's one resource of a type."""

    def of(stack, kind):
        (found,) = resources(ENV, stack, kind).values()
        return found["Properties"]

    return of


def statements(resources, stack, role):
    for name, policy in resources(ENV, stack, "AWS::IAM::Policy").items():
        if name.startswith(role):
            yield from policy["Properties"]["PolicyDocument"]["Statement"]


def test_stacks_stand_in_their_regions_and_are_deployed_in_order(assembly):
    manifest = json.loads((assembly(ENV) / "manifest.json").read_text())["artifacts"]
    places = {
        name.removeprefix(f"evergreen-{ENV}-"): entry
        for name, entry in manifest.items()
        if entry["type"] == "aws:cloudformation:stack"
    }

    assert {name for name, entry in places.items() if THERE in entry["environment"]} == set(STACKS)
    assert f"evergreen-{ENV}-failover-data" in places["data"]["dependencies"]
    assert f"evergreen-{ENV}-serving" in places["failover"]["dependencies"]


def test_nothing_refers_across_regions(template_file, template_json):
    """An export of one region cannot be imported in the other: what is imported stands in the own region."""
    exported = {
        output["Export"]["Name"]
        for output in template_json(ENV, "failover-data")["Outputs"].values()
        if "Export" in output
    }
    imported = set(re.findall(r'"Fn::ImportValue": "([^"]+)"', template_file(ENV, "failover").read_text()))

    assert imported
    assert imported <= exported
    assert "failover" not in str(re.findall(r"Fn::ImportValue.*", template_file(ENV, "gateway").read_text()))
    assert "ExportsReader" not in template_file(ENV, "failover").read_text()


def test_models_are_copied_as_they_are_written(resources):
    buckets = resources(ENV, "data", "AWS::S3::Bucket")
    (replication,) = [
        each["Properties"]["ReplicationConfiguration"]
        for each in buckets.values()
        if "ReplicationConfiguration" in each["Properties"]
    ]

    assert [rule["Filter"]["Prefix"] for rule in replication["Rules"]] == ["models/", "releases/"]
    for rule in replication["Rules"]:
        assert (
            rule["Status"] == rule["SourceSelectionCriteria"]["SseKmsEncryptedObjects"]["Status"] == "Enabled"
        )
        assert rule["DeleteMarkerReplication"]["Status"] == "Disabled"
        target = rule["Destination"]
        assert target["Bucket"]["Fn::Join"][1][-1] == f":s3:::{BUCKET}"
        alias = target["EncryptionConfiguration"]["ReplicaKmsKeyID"]["Fn::Join"][1][-1]
        assert alias == f":kms:{THERE}:111122223333:alias/evergreen-{ENV}-models"


def test_the_copies_lie_under_the_name_and_the_alias_that_the_first_region_uses(resources, only):
    buckets = resources(ENV, "failover-data", "AWS::S3::Bucket").values()
    named = [each["Properties"] for each in buckets if each["Properties"].get("BucketName") == BUCKET]

    assert [each["VersioningConfiguration"]["Status"] for each in named] == ["Enabled"]
    assert only("failover-data", "AWS::KMS::Alias")["AliasName"] == f"alias/evergreen-{ENV}-models"


def test_s3_may_write_copies_under_that_key_alone(resources):
    (use,) = [s for s in statements(resources, "data", "Replication") if "kms:Encrypt" in s["Action"]]

    assert use["Condition"] == {
        "StringEquals": {"kms:ViaService": f"s3.{THERE}.amazonaws.com"},
        "ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/evergreen-{ENV}-models"},
    }
    (write,) = [
        s for s in statements(resources, "data", "Replication") if "s3:ReplicateObject" in s["Action"]
    ]
    assert all(BUCKET in json.dumps(resource) for resource in write["Resource"])
    (read,) = [
        s for s in statements(resources, "data", "Replication") if "ForReplication" in str(s["Action"])
    ]
    ends = [resource["Fn::Join"][1][-1] for resource in read["Resource"]]
    assert ends == ["/models/*", "/releases/*/training/*/output/*"]  # a release's data stays where it is
    assert "s3:ReplicateDelete" not in write["Action"]


def test_the_second_endpoint_has_the_first_ones_container_and_machines_of_its_own(resources, only):
    variants = only("failover", "AWS::SageMaker::EndpointConfig")["ProductionVariants"]
    (model,) = resources(ENV, "failover", "AWS::SageMaker::Model").values()
    container = model["Properties"]["PrimaryContainer"]
    first = next(
        each["Properties"]["PrimaryContainer"]
        for name, each in resources(ENV, "serving", "AWS::SageMaker::Model").items()
        if "Champion" in name
    )

    assert [(v["VariantName"], v["InitialInstanceCount"]) for v in variants] == [("champion", 1)]
    assert [pool["InstanceType"] for pool in variants[0]["InstancePools"]] == [
        "ml.g6e.xlarge",
        "ml.g6e.2xlarge",
    ]
    assert container["Environment"] == first["Environment"]
    assert container["Image"] == first["Image"].replace("us-east-1", THERE)
    target = only("failover", "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)
    endpoint = only("failover", "AWS::SageMaker::Endpoint")
    assert endpoint["EndpointName"] == f"evergreen-{ENV}"
    assert endpoint["RetainAllVariantProperties"] is True
    shift = endpoint["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert shift["Type"] == "ALL_AT_ONCE"


def test_its_artefact_is_a_parameter_that_begins_in_its_own_region(template_json):
    parameters = template_json(ENV, "failover")["Parameters"]

    assert parameters["ChampionModelUri"]["Default"].startswith("s3://your-models-west-")
    assert not {"Phase", "ChallengerModelUri"} & set(parameters)


def test_its_containers_read_models_of_their_own_region_alone(resources):
    text = json.dumps(list(statements(resources, "failover", "ExecutionRole")))

    assert "your-models-west-111122223333" in text
    assert "your-models-111122223333" not in text
    assert "us-east-1" not in text


def test_two_alarms_say_that_it_is_in_use_and_that_it_fails(resources):
    alarms = resources(ENV, "failover", "AWS::CloudWatch::Alarm").values()
    by_name = {alarm["Properties"]["AlarmName"]: alarm["Properties"] for alarm in alarms}

    assert set(by_name) == {f"evergreen-{ENV}-failover-in-use", f"evergreen-{ENV}-failover-endpoint5xx"}
    runbook = (ROOT / "docs" / "monitoring.md").read_text()
    for alarm in by_name.values():
        assert alarm["AlarmActions"]
        _, anchor = alarm["AlarmDescription"].split("docs/monitoring.md#")
        assert f"\n## {anchor}\n" in runbook


def test_the_door_asks_it_first_and_may_call_it(resources):
    functions = resources(ENV, "gateway", "AWS::Lambda::Function")
    told = [
        json.loads(each["Properties"]["Environment"]["Variables"]["FALLBACKS"])
        for each in functions.values()
        if "FALLBACKS" in each["Properties"].get("Environment", {}).get("Variables", {})
    ]

    assert len(told) == 2  # the door and the jobs' worker, which run the same pipeline
    for chain in told:
        assert chain == [
            {
                "kind": "endpoint",
                "endpoint_name": f"evergreen-{ENV}",
                "model_version": f"failover/{THERE}",
                "region": THERE,
            }
        ]
    called = [
        json.dumps(statement["Resource"])
        for statement in statements(resources, "gateway", "Inference")
        if statement["Action"] == "sagemaker:InvokeEndpointWithResponseStream"
    ]
    assert any(f":sagemaker:{THERE}:111122223333:endpoint/evergreen-{ENV}" in each for each in called)


def test_other_fallbacks_come_after_it():
    bedrock = {"kind": "bedrock", "model_id": "openai.gpt-oss-20b-1:0"}
    settings = load(ENV, EXAMPLES)
    more = type(settings).model_validate({**settings.model_dump(), "fallbacks": [bedrock]})

    assert [target.kind for target in more.fallback_chain] == ["endpoint", "bedrock"]
    assert load("prod").fallback_chain == []


def config(template):
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::SageMaker::EndpointConfig"
    }


def test_the_loop_brings_it_each_promoted_champion_and_nothing_else(resources):
    machines = resources(ENV, "refresh", "AWS::StepFunctions::StateMachine")
    (machine,) = [one for name, one in machines.items() if name.startswith("Machine")]
    states = json.loads(machine["Properties"]["DefinitionString"])["States"]
    entering = [
        name
        for name, state in states.items()
        if "PromoteToSecondRegion" in [state.get("Next"), *(c["Next"] for c in state.get("Choices", []))]
    ]

    assert entering == ["HasSecondRegion"]
    assert states["RetirementReady"]["Choices"][0]["Next"] == "HasSecondRegion"
    assert states["PromoteToSecondRegion"]["Catch"][0]["Next"] == "SecondRegionFailed"
    assert states["CheckSecondRegion"]["Catch"][0]["Next"] == "SecondRegionFailed"
    assert states["SecondRegionFailed"]["Next"] == "ReleaseLock"  # the first region keeps its champion
    assert "CopyPendingError" in str(states["PromoteToSecondRegion"]["Retry"])
    (loaded,) = [
        each["Properties"]["Environment"]["Variables"]["LOOP"]
        for name, each in resources(ENV, "refresh", "AWS::Lambda::Function").items()
        if "Release" in name
    ]
    assert '\\"second_region\\":true' in json.dumps(loaded)


def test_the_loop_starts_updates_of_that_stack_in_its_region_and_is_told_its_names(resources):
    (release,) = [
        each["Properties"]["Environment"]["Variables"]
        for name, each in resources(ENV, "refresh", "AWS::Lambda::Function").items()
        if "Release" in name
    ]

    assert (release["FAILOVER_STACK"], release["FAILOVER_REGION"]) == (f"evergreen-{ENV}-failover", THERE)
    assert release["FAILOVER_BUCKET"] == BUCKET
    machine = f"evergreen-{ENV}-failover-update"
    assert json.dumps(release["FAILOVER_UPDATE_MACHINE"]).endswith(
        f':states:{THERE}:111122223333:stateMachine:{machine}"]]}}'
    )
    (started,) = [
        json.dumps(statement["Resource"])
        for statement in statements(resources, "refresh", "FunctionsRelease")
        if statement["Action"] == "states:StartExecution"
    ]
    assert f":states:{THERE}:111122223333:stateMachine:{machine}" in started


def test_one_state_machine_there_may_update_that_stack(resources):
    (made,) = resources(ENV, "failover-update", "AWS::StepFunctions::StateMachine").values()
    assert made["Properties"]["StateMachineName"] == f"evergreen-{ENV}-failover-update"
    assert made["Properties"]["DefinitionSubstitutions"]["StackName"] == f"evergreen-{ENV}-failover"

    (updates,) = [
        json.dumps(statement["Resource"])
        for statement in statements(resources, "failover-update", "FailoverUpdateRole")
        if "cloudformation:UpdateStack" in statement["Action"]
    ]
    stacks = re.findall(r":cloudformation:([a-z0-9-]+):\d+:stack/([a-z-]+)/\*", updates)
    assert stacks == [(THERE, f"evergreen-{ENV}-failover")]


def test_the_estimate_and_the_cap_count_both_regions(template_json):
    settings = load(ENV, EXAMPLES)
    first, second = 2.605 * 730, 2.803 * 730  # ml.g6e.xlarge; the dearer alternative there

    found = estimate(settings)

    assert found.least == pytest.approx(2 * first + 1 * second)
    assert found.most == pytest.approx(4 * first + 3 * second)
    assert found.with_challenger == pytest.approx(6 * first + 3 * second)
    assert "1 to 3 × ml.g6e.xlarge or ml.g6e.2xlarge in us-west-2" in found.sentence()
    template = {"Resources": config(template_json(ENV, "serving"))}
    updates = 16 * (settings.update_seconds * 6 * 2.605 + settings.standby.update_seconds * 3 * 2.803) / 3600
    assert found.greatest == pytest.approx(found.with_challenger + updates)
    for cap, findings in ((found.greatest - 1, 1), (found.greatest + 1, 0)):
        place = settings.environment.model_copy(update={"monthly_cost_cap_usd": cap})
        capped = settings.model_copy(update={"environment": place})
        assert len(list(cost_cap(capped).check(template))) == findings


def test_a_machine_without_a_price_there_is_refused(template_json):
    settings = load(ENV, EXAMPLES)
    there = settings.failover.instances.model_copy(update={"type": "ml.g6e.16xlarge", "alternatives": []})
    dear = settings.model_copy(update={"failover": settings.failover.model_copy(update={"instances": there})})

    (finding,) = cost_cap(dear).check({"Resources": config(template_json(ENV, "serving"))})

    assert "no price is known for ml.g6e.16xlarge" in finding.why


def test_the_policy_holds_in_the_second_region(context, tmp_path: Path):
    """A finding in its stack ends synth as one in the first region does."""
    app = cdk.App(context=context, outdir=str(tmp_path))
    compose(app, load(ENV, EXAMPLES))
    stack = app.node.find_child(f"evergreen-{ENV}-failover")
    endpoint = stack.node.find_child("Inference").endpoint
    endpoint.retain_all_variant_properties = False

    with pytest.raises(RuntimeError):
        app.synth()

    assert "retain-variant-properties" in (tmp_path / "validation-report.json").read_text()
