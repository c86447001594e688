"""The further models of tests/fixtures/settings/catalogue.yaml: stacks, grants, what the functions read."""

from __future__ import annotations

import json
import re

import pytest

from contracts.catalogue import read_entries
from infra.settings import load
from infra.settings.cost import estimate, of_endpoint
from tests.support.permissions import short
from tests.support.synthesis import EXAMPLES

ENV = "catalogue"
EMBEDDING, RERANKER = "serving-all-minilm-l6-v2", "serving-reranker-v2"
FUNCTION, POLICY, ENDPOINT = "AWS::Lambda::Function", "AWS::IAM::Policy", "AWS::SageMaker::Endpoint"
COMPONENT, PARAMETER = "AWS::SageMaker::InferenceComponent", "AWS::SSM::Parameter"


@pytest.fixture(scope="module")
def functions(resources):
    """The variables of the functions of the gateway's stack, by handler."""
    found = [entry["Properties"] for entry in resources(ENV, "gateway", FUNCTION).values()]
    return {one["Handler"].split(".")[1]: one["Environment"]["Variables"] for one in found}


@pytest.fixture(scope="module")
def entries(functions):
    return {entry.name: entry for entry in read_entries(short(functions["inference"]["MODELS"]))}


def test_all_functions_that_name_models_read_the_same_catalogue(functions):
    with_models = {name for name, variables in functions.items() if "MODELS" in variables}

    assert with_models == {"inference", "api", "job_worker"}
    assert len({short(functions[name]["MODELS"]) for name in with_models}) == 1


def test_the_catalogue_says_where_each_model_runs(entries, template_json):
    defaults = {
        f"${{{name}}}": parameter["Default"]
        for name, parameter in template_json(ENV, "gateway")["Parameters"].items()
    }
    places = {
        name: (entry.target.endpoint_name, entry.target.component, defaults[entry.target.model_version])
        for name, entry in entries.items()
        if entry.target.kind == "endpoint"
    }

    own, embedding, reranker = (f"evergreen-{ENV}{part}" for part in ("", f"-{EMBEDDING}", f"-{RERANKER}"))
    assert places == {
        "llama-3.1-8b-instruct": (own, f"{own}-base", f"/{own}/champion-version"),
        "all-minilm-l6-v2": (embedding, None, f"/{embedding}/champion-version"),
        "Reranker.V2": (reranker, None, f"/{reranker}/champion-version"),
        "support": (own, f"{own}-support", f"/{own}/adapters/support/version"),
        "legal-de": (own, f"{own}-legal-de", f"/{own}/adapters/legal-de/version"),
    }
    assert next(iter(entries)) == "llama-3.1-8b-instruct"
    assert entries["gpt-oss-20b"].target.region == "us-west-2"
    assert entries["openai/gpt-4o-mini"].target.secret == f"evergreen/{ENV}/models/openai"


def test_the_catalogue_says_what_each_model_is(entries):
    assert {name: entry.kind for name, entry in entries.items() if entry.kind != "chat"} == {
        "all-minilm-l6-v2": "embedding",
        "Reranker.V2": "rerank",
    }
    assert entries["all-minilm-l6-v2"].aliases == ("text-embedding-3-small",)
    assert entries["all-minilm-l6-v2"].limits.max_context_tokens == 256
    assert entries["all-minilm-l6-v2"].target.streamed is False
    assert entries["Reranker.V2"].target.streamed is True
    assert (entries["gpt-oss-20b"].price.input, entries["gpt-oss-20b"].price.output) == (0.07, 0.3)
    assert entries["support"].price is None
    assert entries["gpt-oss-20b"].guards.mask_pii
    assert entries["openai/gpt-4o-mini"].capabilities.images
    assert not entries["gpt-oss-20b"].capabilities.images


def test_every_version_is_written_by_the_stack_that_serves_it(entries, resources, template_json):
    written = {
        entry["Properties"]["Name"]
        for stack in ("serving", EMBEDDING, RERANKER)
        for entry in resources(ENV, stack, PARAMETER).values()
    }
    read = {
        parameter["Default"]
        for name, parameter in template_json(ENV, "gateway")["Parameters"].items()
        if name != "BootstrapVersion"
    }

    assert read == written


@pytest.mark.parametrize("role", ["InferenceRole", "WorkerRole"])
def test_functions_call_these_models_and_read_these_secrets_and_no_others(resources, role):
    found: dict[str, set[str]] = {}
    for name, policy in resources(ENV, "gateway", POLICY).items():
        if not name.startswith(role):
            continue
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            actions, targets = (
                [value] if isinstance(value, str | dict) else value
                for value in (statement["Action"], statement["Resource"])
            )
            for action in actions:
                found.setdefault(action, set()).update(
                    re.sub(r"^arn:\$\{AWS::Partition\}:[a-z]+:", "", short(arn)) for arn in targets
                )

    mine, endpoint = "us-east-1:111122223333", f"us-east-1:111122223333:endpoint/evergreen-{ENV}"
    component = f"{mine}:inference-component/evergreen-{ENV}"
    assert found["sagemaker:InvokeEndpointWithResponseStream"] == {
        endpoint,
        f"{endpoint}-{RERANKER}",
        *(f"{component}-{name}" for name in ("base", "support", "legal-de")),
    }
    assert found["sagemaker:InvokeEndpoint"] == {f"{endpoint}-{EMBEDDING}"}
    assert found["bedrock:InvokeModel"] == {"us-west-2::foundation-model/openai.gpt-oss-20b-1:0"}
    assert found["secretsmanager:GetSecretValue"] == {
        f"{mine}:secret:evergreen/{ENV}/models/openai-??????",
        f"{mine}:secret:evergreen/{ENV}/tracing-??????",
    }


def test_an_adapter_has_parameters_of_its_own(resources, template_json):
    parameters = template_json(ENV, "serving")["Parameters"]
    components = {
        entry["Properties"]["InferenceComponentName"]: entry["Properties"]["Specification"]
        for entry in resources(ENV, "serving", COMPONENT).values()
    }

    specification = components[f"evergreen-{ENV}-legal-de"]
    assert specification["BaseInferenceComponentName"] == f"evergreen-{ENV}-base"
    assert specification["Container"]["ArtifactUrl"] == {"Ref": "AdapterLegalDeUri"}
    assert "Default" not in parameters["AdapterLegalDeUri"]
    assert parameters["AdapterLegalDeVersion"]["Default"] == "3"
    assert parameters["AdapterSupportUri"]["Default"].endswith("/adapters/support.tar.gz")
    assert re.match(parameters["AdapterLegalDeUri"]["AllowedPattern"], "s3://models/legal/model.tar.gz")


def test_a_further_endpoint_has_its_stack_its_role_and_no_experiment(resources, template_json):
    (endpoint,) = resources(ENV, RERANKER, ENDPOINT).values()
    template = template_json(ENV, RERANKER)

    assert endpoint["Properties"]["EndpointName"] == f"evergreen-{ENV}-{RERANKER}"
    assert {"ChampionModelUri", "ChampionModelDigest", "ChampionModelVersion"} <= set(template["Parameters"])
    assert "ChallengerModelUri" not in template["Parameters"]
    readable = json.dumps(resources(ENV, RERANKER, POLICY))
    assert "your-models-111122223333/reranker/*" in readable
    assert "llama" not in readable


def test_the_cap_counts_every_endpoint():
    settings = load(ENV, EXAMPLES)
    each = [of_endpoint(one).most for one in (settings, *settings.further_endpoints)]

    assert len(each) == 3
    assert estimate(settings).most == pytest.approx(sum(each))


def test_the_functions_hold_what_every_endpoint_holds():
    settings = load(ENV, EXAMPLES)
    without = settings.model_copy(update={"models": []})

    # 10 at the serverless endpoint, three machines with 16 running and 64 queued, and a tenth more.
    assert settings.reserved_concurrency == without.reserved_concurrency + 1.1 * (10 + 3 * 80)
