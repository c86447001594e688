"""A settings file that cannot work ends in one error: file, line of the key, what is allowed, an example."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import SettingsError, load
from infra.settings.loader import FOLDER

PROD = (FOLDER / "prod.yaml").read_text()
LOCAL = (FOLDER / "local.yaml").read_text()


def error_of(folder: Path, text: str, name: str = "prod") -> str:
    (folder / f"{name}.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(name, folder)
    return str(caught.value)


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1


# What is written, what stands there instead, where the error points, what it says, allows and shows.
WRONG = [
    (
        "ttft_ms: 800",
        "ttft_mss: 800",
        "ttft_mss",
        "Did you mean 'ttft_ms'?",
        "quality_floor, ttft_ms",
        "ttft_ms: 800",
    ),
    (
        "ttft_ms: 800",
        "ttft_ms: fast",
        "ttft_ms",
        "'goals.ttft_ms' does not fit",
        "whole number from 1",
        "ttft_ms: 800",
    ),
    ("ttft_ms: 800", "ttft_ms: '800'", "ttft_ms", "it holds '800'", "whole number", "ttft_ms: 800"),
    ("  ttft_ms: 800\n", "", "goals:", "'goals.ttft_ms' is missing", "whole number", "ttft_ms: 800"),
    (
        "kind: vllm",
        "kind: tgi",
        "kind: tgi",
        "does not name a known kind",
        "vllm, neuron, transformers",
        "kind: vllm",
    ),
    (
        "kind: realtime",
        "kind: batch",
        "kind: batch",
        "does not name a known kind",
        "realtime, scale_to_zero, async, serverless",
        "kind: realtime",
    ),
    ("goals:", "goal:", "goal:", "Did you mean 'goals'?", "goals, environment", "goals: {"),
    (
        "cors_origins: []",
        "cors_origins: [1]",
        "cors_origins",
        "it holds 1",
        "a list of origins",
        "cors_origins: [",
    ),
    (
        "    image: vllm",
        "    images: vllm",
        "images:",
        "Did you mean 'image'?",
        "kind, image",
        "image: vllm-cuda-2.4",
    ),
    (
        "canary_percent: 10",
        "canary_percent: 60",
        "deployment:",
        "it holds 60",
        "from 1 up to 50",
        "canary_percent: 10",
    ),
    (
        "timeout_seconds: 1800\n\nr",
        "timeout_seconds: 59\n\nr",
        "startup_t",
        "it holds 59",
        "from 60 up to 3600",
        "1800",
    ),
    (
        "\n  waf: {",
        "\n  waf: { rules: 1,",
        "waf:",
        "'gateway.waf.rules' is unknown",
        "enabled, requests",
        "enabled: true",
    ),
    (
        "environment:\n",
        "environment:\n  name: x\n",
        "name: x",
        "'environment.name' is unknown",
        "account",
        "account:",
    ),
]

_ISSUER = "\n  jwt:\n    - issuer: https://x/\n      audiences: [a]\n      "
_ELSEWHERE = "arn:aws:acm:eu-west-1:111122223333:certificate/0f1e2d3c-0000-0000-0000-000000000000"
LISTS = [
    (
        "\n  waf: {",
        f"{_ISSUER}jwks_ulr: https://x/k\n  waf: {{",
        "jwks_ulr: https",
        "'gateway.jwt.0.jwks_ulr' is unknown. Did you mean 'jwks_url'?",
        "issuer, audiences",
        "jwks_url: https://",
    ),
    (
        "\n  waf: {",
        f"{_ISSUER}jwks_url: http://x/k\n  waf: {{",
        "jwks_url: http:",
        "'gateway.jwt.0.jwks_url' does not fit",
        "text matching",
        "jwks_url: https://",
    ),
    (
        "\n  waf: {",
        "\n  jwt:\n    - issuer: https://x/\n      audiences: [a]\n  waf: {",
        "- issuer: https://x/",
        "needs keys, and from one place",
        "either jwks_url or jwks",
        "jwks_url: https://",
    ),
    (
        "\nmodel:",
        "\nfallbacks:\n  - { kind: bedrock, model_id: gpt }\n\nmodel:",
        "{ kind: bedrock, model_id: gpt",
        "'fallbacks.0.model_id' does not fit",
        "text matching",
        "openai.gpt-oss",
    ),
    (
        "\nmodel:",
        "\nfallbacks:\n  - { kind: azure, model_id: gpt }\n\nmodel:",
        "kind: azure",
        "'fallbacks.0.kind' does not name a known kind",
        "a list of mappings whose `kind` is one of endpoint, bedrock",
        "bedrock",
    ),
    (
        "\nmodel:",
        "\nguards:\n  denied_topics: { law: [hi] }\n\nmodel:",
        "denied_topics: { law",
        "'hi' has 2 characters",
        "3 to 200",
        "sue my landlord",
    ),
    (
        "\n  waf: {",
        f"\n  domain: {{ name: api.example.com, certificate_arn: '{_ELSEWHERE}' }}\n  waf: {{",
        "domain: { name",
        "is in eu-west-1",
        "a certificate made in us-east-1",
        "arn:aws:acm:us-east-1",
    ),
]

AGAINST_THE_SERVICE = [
    (
        "type: ml.g6e.xlarge",
        "type: ml.inf2.xlarge",
        "instances:",
        "does not run on",
        "NVIDIA GPU type",
        "ml.g6e.xlarge",
    ),
    (
        "type: ml.g6e.xlarge",
        "type: ml.c7i.xlarge",
        "instances:",
        "computes on its CPU",
        "NVIDIA GPU",
        "ml.g6e.xlarge",
    ),
    (
        "image: vllm-cuda-2.4",
        "image: latest",
        "image:",
        "not in the image table",
        "vllm-cuda-2.4",
        "vllm-cuda-2.4",
    ),
    (
        "image: vllm-cuda-2.4",
        "image: vllm-neuron-0.4.5",
        "image:",
        "runs another engine",
        "vllm-cuda",
        "vllm-cuda",
    ),
    (
        "min: 2, max: 4",
        "min: 1, max: 4",
        "deployment:",
        "at least 2 instances",
        "instances.min: 2",
        "kind: all_at_once",
    ),
    ("min: 2, max: 4", "min: 5, max: 4", "instances:", "max 4 is below min 5", "from 5 upwards", "max: 5"),
    (
        "max: 4 }",
        "max: 4, volume_gb: 64 }",
        "instances:",
        "takes no volume size",
        "leave the key out",
        "remove the line",
    ),
    (
        "tokens: 1024",
        "tokens: 9999",
        "default_max_tokens",
        "exceeds the context",
        "up to 8192",
        "default_max_tokens: 2048",
    ),
    (
        "    inference_ami_version: al2023-ami-sagemaker-inference-gpu-4-1\n",
        "",
        "engine:",
        "built for CUDA 13",
        "al2023-ami-sagemaker-inference-gpu-4-1",
        "inference_ami_version: al2023",
    ),
    (
        "instance_type: ml.g6e.2xlarge",
        "instance_type: ml.inf2.xlarge",
        "instance_type:",
        "Inferentia cannot train",
        "an NVIDIA GPU type",
        "instance_type: ml.g6.2xlarge",
    ),
    (
        "instance_type: ml.g6e.2xlarge",
        "instance_type: ml.trn1.32xlarge",
        "instance_type:",
        "not compiled for Trainium",
        "an NVIDIA GPU type",
        "instance_type: ml.g6.2xlarge",
    ),
    (
        "    image: pytorch-training-2.9",
        "    image: vllm-neuron-0.4.5",
        "image: vllm-neuron",
        "serves models and trains none",
        "pytorch-training-2.9",
        "image: ",
    ),
    (
        "shares: [0.05, 0.25, 0.5]",
        "shares: [0.25, 0.05, 0.5]",
        "shares:",
        "do not grow",
        "growing order",
        "shares: [0.05, 0.25, 0.5]",
    ),
    (
        "planned_sample: [200, 500, 1000]",
        "planned_sample: [200, 500]",
        "planned_sample:",
        "3 shares and 2 planned samples",
        "one number for each share",
        "planned_sample: [200, 200, 200]",
    ),
    (
        "approvers: [ml-lead@example.com]",
        "approvers: []",
        "approvers:",
        "there are no approvers",
        "approval: automatic",
        "approvers: [lead@example.com]",
    ),
    (
        "poll_seconds: 180",
        "poll_seconds: 10",
        "poll_seconds:",
        "ends an execution at 25,000 events",
        "at least 130 seconds",
        "poll_seconds: 130",
    ),
    (
        "  minimum_requests: 200 ",
        "  period_seconds: 10\n  minimum_requests: 200 ",
        "period_seconds: 10",
        "by the minute",
        "60 or 300",
        "period_seconds: 60",
    ),
    (
        "  minimum_requests: 200 ",
        "  datapoints_to_alarm: 9\n  minimum_requests: 200 ",
        "datapoints_to_alarm: 9",
        "never happen",
        "up to 5",
        "datapoints_to_alarm: 5",
    ),
    (
        "\nrecords:\n",
        "\njobs:\n  request_seconds: 400\n  worker_seconds: 500\nrecords:\n",
        "request_seconds: 400",
        "too little time",
        "at most 250",
        "request_seconds: 250",
    ),
    (
        "\nrecords:\n",
        "\njobs:\n  retention_days: 2\n  deadline_hours: 72\nrecords:\n",
        "deadline_hours: 72",
        "forgotten after 2 days",
        "at most 48",
        "deadline_hours: 48",
    ),
    (
        "\nrecords:\n",
        "\njobs:\n  workers: 1\nrecords:\n",
        "workers: 1",
        "it holds 1",
        "from 2 up to 1000",
        "workers: 2",
    ),
]


@pytest.mark.parametrize(
    ("was", "now", "at", "says", "allowed", "example"), [*WRONG, *LISTS, *AGAINST_THE_SERVICE]
)
def test_the_error_names_line_fault_alternative_and_example(tmp_path, was, now, at, says, allowed, example):
    assert was in PROD
    text = PROD.replace(was, now, 1)

    message = error_of(tmp_path, text)

    first, permitted, shown = message.splitlines()
    assert first.startswith(f"{tmp_path / 'prod.yaml'}:{line_of(text, at)}: ")
    assert says in first
    assert permitted.startswith("  allowed: ")
    assert allowed in permitted
    assert shown.startswith("  example: ")
    assert example in shown


def test_burstable_machines_do_not_scale(tmp_path):
    text = LOCAL.replace("type: ml.c7i.2xlarge, min: 1, max: 1", "type: ml.t2.medium, min: 1, max: 2")

    message = error_of(tmp_path, text, "local")

    assert "SageMaker does not autoscale burstable" in message
    assert "example: max: 1" in message


def test_a_burstable_machine_of_fixed_number_is_accepted(tmp_path):
    text = LOCAL.replace("type: ml.c7i.2xlarge, min: 1, max: 1", "type: ml.t2.medium, min: 1, max: 1")
    text = text.replace("  monthly_cost", "  prices_usd_per_hour: { ml.t2.medium: 0.06 }\n  monthly_cost")
    (tmp_path / "local.yaml").write_text(text)

    assert load("local", tmp_path).endpoint.instances.type == "ml.t2.medium"


def test_the_endpoints_name_fits_sagemaker(tmp_path):
    assert "SageMaker allows 63" in error_of(tmp_path, PROD, "x" * 54)
    (tmp_path / f"{'x' * 53}.yaml").write_text(PROD)

    assert len(load("x" * 53, tmp_path).endpoint_name) == 63


def test_a_key_that_stands_twice_is_refused_at_its_second_line(tmp_path):
    text = PROD + "  poll_seconds: 7\n"

    message = error_of(tmp_path, text)

    assert f":{len(text.splitlines())}: the key 'poll_seconds' stands here twice" in message


def test_what_is_not_yaml_is_told_with_its_line(tmp_path):
    message = error_of(tmp_path, PROD.replace("goals:", "goals: : x"))

    assert f":{line_of(PROD, 'goals:')}: this is not YAML" in message


@pytest.mark.parametrize("text", ["", "- goals\n", "just text\n"])
def test_a_file_without_sections_says_which_there_are(tmp_path, text):
    assert "goals, environment, functions" in error_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("goals: &a {b: *a}\n", ":1: '*a' refers to another place"),
        ("goals: 1\n? [a, b]\n: c\n", ":2: a key must be one word"),
        (PROD + "7: 8\n", "the key '7' is unknown"),
        ("goals:\n" + PROD.split("\n", 6)[6], "'goals' is empty"),
    ],
)
def test_shapes_that_are_no_settings_are_refused_with_their_line(tmp_path, text, says):
    assert says in error_of(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "prod.yaml").write_bytes(b"goals: \xff\n")

    with pytest.raises(SettingsError, match="this is not YAML"):
        load("prod", tmp_path)


def test_the_environments_name_is_the_files_own(tmp_path):
    assert "'name' is the file's own name" in error_of(tmp_path, "name: prod\n" + PROD)


def test_an_environment_without_a_file_lists_those_there_are():
    with pytest.raises(SettingsError, match="allowed: dev, local, prod, staging"):
        load("nowhere")
