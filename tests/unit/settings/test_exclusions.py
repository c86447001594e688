"""Every registered exclusion refuses the file it is for and accepts the nearest file that is right."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from infra.settings import Settings, SettingsError, load
from infra.settings.base import RuleError
from infra.settings.exclusions import exclusion, register
from infra.settings.loader import FOLDER

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"
GONE = object()

POOLS, ZERO, QUEUE, SERVERLESS = "pools", "scale-to-zero", "async", "serverless"
TWO = "two-regions"
NEURON_FILE = "neuron"
FAILOVER = {"region": "us-west-2", "instances": {"type": "ml.g6e.xlarge", "min": 1, "max": 2}}
NEURON = {"kind": "neuron", "image": "vllm-neuron-0.4.5", "tensor_parallel": 2} | {
    "max_context_tokens": 4096,
    "max_running_requests": 4,
}
RESERVATION = "arn:aws:sagemaker:us-east-1:111122223333:training-plan/llm"
REFRESH = yaml.safe_load((FOLDER / "prod.yaml").read_text())["refresh"]
ARCHIVE = "s3://my-models/small/model.tar.gz"


def schedule(least: int, most: int) -> list[dict[str, Any]]:
    return [{"name": "night", "at": "cron(0 20 * * ? *)", "min": least, "max": most}]


ADAPTER_ARCHIVE = "s3://my-models/adapters/support.tar.gz"
ADAPTER = {"kind": "adapter", "name": "support"}
HOSTED = {"kind": "bedrock", "name": "gpt-oss-20b", "model_id": "openai.gpt-oss-20b-1:0"}
EMBEDDING = {
    "kind": "endpoint",
    "name": "all-minilm-l6-v2",
    "task": "embedding",
    "endpoint": {
        "kind": "serverless",
        "engine": {"kind": "transformers", "image": "evergreen-serving-local"}
        | {"max_context_tokens": 256, "max_running_requests": 32, "max_queued_requests": 64}
        | {"default_max_tokens": 128, "request_timeout_seconds": 60},
        "memory_mb": 2048,
        "max_concurrency": 4,
    },
}


def on_neuron(**changed: Any) -> dict[str, Any]:
    """A further model on an engine that generates text and nothing else."""
    endpoint = yaml.safe_load((FOLDER / "prod.yaml").read_text())["endpoint"]
    endpoint |= {"engine": NEURON, "instances": {"type": "ml.inf2.xlarge", "min": 2, "max": 2}}
    return {"kind": "endpoint", "name": "further", "endpoint": endpoint} | changed


Change = dict[str, Any]
# Exclusion: the file to begin with, what makes it refused, and what makes it right again.
CASES: dict[str, tuple[str, Change, Change]] = {
    "counts-in-order": ("prod", {"endpoint.instances.max": 1}, {"endpoint.instances.max": 2}),
    "burstable-scaling": (
        "local",
        {"endpoint.instances": {"type": "ml.t2.medium", "min": 1, "max": 2}},
        {"endpoint.instances": {"type": "ml.t2.medium", "min": 1, "max": 1}},
    ),
    "volume-on-nvme": (
        "prod",
        {"endpoint.instances.volume_gb": 64},
        {
            "endpoint.engine": NEURON,
            "endpoint.instances": {"type": "ml.inf2.xlarge", "min": 2, "max": 2, "volume_gb": 64},
        },
    ),
    "pool-storage": (
        "local",
        {"endpoint.instances.alternatives": ["ml.m5d.2xlarge"]},
        {"endpoint.instances.alternatives": ["ml.m7i.2xlarge"]},
    ),
    "pool-distinct": (
        "prod",
        {"endpoint.instances.alternatives": ["ml.g6e.xlarge"]},
        {"endpoint.instances.alternatives": ["ml.g6e.2xlarge"]},
    ),
    "pool-size": (
        "prod",
        {"endpoint.instances.alternatives": [f"ml.g6e.{size}xlarge" for size in (2, 4, 8, 12, 16)]},
        {"endpoint.instances.alternatives": [f"ml.g6e.{size}xlarge" for size in (2, 4, 8, 12)]},
    ),
    "reservation-one-type": (
        "prod",
        {
            "endpoint.instances.reservation": RESERVATION,
            "endpoint.instances.alternatives": ["ml.g6e.2xlarge"],
        },
        {"endpoint.instances.reservation": RESERVATION},
    ),
    "zero-needs-components": (
        "dev",
        {"endpoint.instances.min": 0},
        {"endpoint.instances.min": 1},
    ),
    "schedule-counts": (
        POOLS,
        {"endpoint.scaling.schedules": schedule(3, 2)},
        {"endpoint.scaling.schedules": schedule(2, 2)},
    ),
    "canary-share": (
        "prod",
        {"endpoint.deployment.canary_percent": 51},
        {"endpoint.deployment.canary_percent": 50},
    ),
    "linear-step": (
        POOLS,
        {"endpoint.deployment.step_percent": 9},
        {"endpoint.deployment.step_percent": 10},
    ),
    "rolling-batch": (
        ZERO,
        {"endpoint.deployment.batch_percent": 51},
        {"endpoint.deployment.batch_percent": 50},
    ),
    "bake-time": (
        "prod",
        {"endpoint.deployment.bake_seconds": 3601},
        {"endpoint.deployment.bake_seconds": 3600},
    ),
    "rollback-alarm-count": (
        "prod",
        {"endpoint.deployment.alarms": [f"alarm-{n}" for n in range(8)]},
        {"endpoint.deployment.alarms": [f"alarm-{n}" for n in range(7)]},
    ),
    "engine-image": (
        "prod",
        {"endpoint.engine.image": "vllm-neuron-0.4.5"},
        {"endpoint.engine.image": "vllm-cuda-2.4"},
    ),
    "answer-in-context": (
        "prod",
        {"endpoint.engine.default_max_tokens": 8193},
        {"endpoint.engine.default_max_tokens": 8192},
    ),
    "queue-bound": (
        "prod",
        {"endpoint.engine.hook": False},
        {"endpoint.engine.hook": True},
    ),
    "engine-promise": (
        NEURON_FILE,
        {"endpoint.engine.request_timeout_seconds": 60},
        {"endpoint.engine.request_timeout_seconds": GONE},
    ),
    "engine-flag": (
        "prod",
        {"endpoint.engine.arguments": {"max-num-queued-reqs": 8}},
        {"endpoint.engine.arguments": {"max-num-batched-tokens": 8192}},
    ),
    "engine-name": (
        "prod",
        {"endpoint.engine.tool_call_parser": "lama3_json"},
        {"endpoint.engine.tool_call_parser": "llama3_json"},
    ),
    "engine-arguments": (
        "prod",
        {"endpoint.engine.arguments": {"max-num-seqs": 8}},
        {"endpoint.engine.arguments": {"enable-prefix-caching": True}},
    ),
    "host-image": (
        "prod",
        {"endpoint.engine.inference_ami_version": GONE},
        {"endpoint.engine.inference_ami_version": "al2023-ami-sagemaker-inference-gpu-4-1"},
    ),
    "engine-machine": (
        "prod",
        {"endpoint.instances.type": "ml.c7i.xlarge"},
        {"endpoint.instances.type": "ml.g6.xlarge"},
    ),
    "inf1": (
        NEURON_FILE,
        {"endpoint.instances.type": "ml.inf1.xlarge"},
        {"endpoint.instances.type": "ml.inf2.8xlarge"},
    ),
    "tensor-parallel": (
        "prod",
        {"endpoint.engine.tensor_parallel": 2},
        {"endpoint.engine.tensor_parallel": 2, "endpoint.instances.type": "ml.g6e.12xlarge"},
    ),
    "canary-two-machines": ("prod", {"endpoint.instances.min": 1}, {"endpoint.instances.min": 2}),
    "schedule-within-max": (
        POOLS,
        {"endpoint.scaling.schedules": schedule(2, 5)},
        {"endpoint.scaling.schedules": schedule(2, 4)},
    ),
    "schedule-zero": (
        "dev",
        {"endpoint.scaling": {"schedules": schedule(0, 1)}},
        {"endpoint.scaling": {"schedules": schedule(1, 1)}},
    ),
    "schedule-burstable": (
        "local",
        {"endpoint.instances.type": "ml.t2.medium", "endpoint.scaling": {"schedules": schedule(1, 1)}},
        {"endpoint.instances.type": "ml.c7i.large", "endpoint.scaling": {"schedules": schedule(1, 1)}},
    ),
    "isolated-endpoints": (
        POOLS,
        {"endpoint.network_isolation": True},
        {"endpoint.network_isolation": True, "endpoint.vpc.interface_endpoints": []},
    ),
    "serverless-timeout": (
        SERVERLESS,
        {"endpoint.engine.request_timeout_seconds": 61},
        {"endpoint.engine.request_timeout_seconds": 60},
    ),
    "copies-fit": (ZERO, {"endpoint.copies.max": 3}, {"endpoint.copies.max": 2}),
    "adapters-engine": (
        ZERO,
        {"endpoint.engine": NEURON, "endpoint.instances.type": "ml.inf2.xlarge"},
        {"endpoint.engine": NEURON, "endpoint.instances.type": "ml.inf2.xlarge", "endpoint.adapters": GONE},
    ),
    "serverless-cpu": (
        SERVERLESS,
        {"endpoint.engine": NEURON},
        {"endpoint.engine.kind": "transformers"},
    ),
    "serverless-provisioned": (
        SERVERLESS,
        {"endpoint.provisioned_concurrency": 6},
        {"endpoint.provisioned_concurrency": 5, "endpoint.provisioned_scaling.max": 5},
    ),
    "serverless-ready-scaling": (
        SERVERLESS,
        {"endpoint.provisioned_concurrency": GONE},
        {"endpoint.provisioned_concurrency": GONE, "endpoint.provisioned_scaling": GONE},
    ),
    "serverless-ready-bounds": (
        SERVERLESS,
        {"endpoint.provisioned_scaling.max": 6},
        {"endpoint.provisioned_scaling.max": 5},
    ),
    "serverless-memory": (SERVERLESS, {"endpoint.memory_mb": 7168}, {"endpoint.memory_mb": 6144}),
    "serverless-concurrency": (
        SERVERLESS,
        {"endpoint.max_concurrency": 201},
        {"endpoint.max_concurrency": 200},
    ),
    "async-concurrency": (
        QUEUE,
        {"endpoint.max_concurrent_requests": 1001},
        {"endpoint.max_concurrent_requests": 1000},
    ),
    "download-timeout": (
        "prod",
        {"endpoint.model_download_timeout_seconds": 3601},
        {"endpoint.model_download_timeout_seconds": 3600},
    ),
    "startup-timeout": (
        "prod",
        {"endpoint.startup_timeout_seconds": 59},
        {"endpoint.startup_timeout_seconds": 60},
    ),
    "metrics-frequency": (
        "prod",
        {"endpoint.monitoring.publish_seconds": 20},
        {"endpoint.monitoring.publish_seconds": 30},
    ),
    "routing-kv-aware": (
        "prod",
        {"endpoint.routing": "kv_aware"},
        {"endpoint.routing": "prefix_aware"},
    ),
    "async-variants": (QUEUE, {"endpoint.shadow_percent": 50}, {"endpoint.max_concurrent_requests": 50}),
    "async-capture": (QUEUE, {"endpoint.data_capture": {"percent": 5}}, {"endpoint.data_capture": GONE}),
    "scale_to_zero-variants": (
        ZERO,
        {"endpoint.challenger_weight": 0.1},
        {"endpoint.challenger_weight": GONE},
    ),
    "scale_to_zero-rollout": (
        ZERO,
        {"endpoint.deployment": {"kind": "canary", "canary_percent": 10, "bake_seconds": 60}},
        {"endpoint.deployment": {"kind": "rolling"}},
    ),
    "serverless-variants": (
        SERVERLESS,
        {"endpoint.challenger_weight": 0.1},
        {"endpoint.challenger_weight": GONE},
    ),
    "serverless-rollout": (
        SERVERLESS,
        {"endpoint.deployment": {"kind": "all_at_once"}},
        {"endpoint.deployment": GONE},
    ),
    "serverless-network": (
        SERVERLESS,
        {"endpoint.network_isolation": True},
        {"endpoint.network_isolation": GONE},
    ),
    "serverless-machines": (
        SERVERLESS,
        {"endpoint.instances": {"type": "ml.c7i.large", "min": 1, "max": 1}},
        {"endpoint.instances": GONE},
    ),
    "serverless-capture": (
        SERVERLESS,
        {"endpoint.data_capture": {"percent": 5}},
        {"endpoint.data_capture": GONE},
    ),
    "neuron-jobs": (
        "prod",
        {"refresh.training.instance_type": "ml.inf2.xlarge"},
        {"refresh.training.instance_type": "ml.g6.2xlarge"},
    ),
    "timeout-below-model": (
        "prod",
        {"model.size_gb": 40.0, "endpoint.model_download_timeout_seconds": 79},
        {"model.size_gb": 40.0, "endpoint.model_download_timeout_seconds": 80},
    ),
    "model-memory": (
        "prod",
        {"model.size_gb": 44.0},  # 48 GB, of which the engine takes 90 %
        {"model.size_gb": 43.0},
    ),
    "serverless-model": (SERVERLESS, {"model.size_gb": 4.0}, {"model.size_gb": 3.0}),
    "artefact-form": (SERVERLESS, {"model.source": "s3://my-models/small/"}, {"model.source": ARCHIVE}),
    "image-region": (
        NEURON_FILE,
        {"environment.region": "eu-south-2"},
        {"environment.region": "us-west-2"},
    ),
    "refresh-realtime": (ZERO, {"refresh": REFRESH}, {"refresh": GONE}),
    "scaling-target": (
        "prod",
        {"endpoint.scaling": {"metric": "invocations"}},
        {"endpoint.scaling": {"metric": "invocations", "target": 120.0}},
    ),
    "endpoint-name": ("prod", {"name": "x" * 54}, {"name": "x" * 53}),
    "failover-same-region": (
        TWO,
        {"failover.region": "us-east-1"},
        {"failover.region": "us-east-2"},
    ),
    "failover-realtime": (ZERO, {"failover": FAILOVER}, {"failover": GONE}),
    "failover-image": (
        NEURON_FILE,
        {"failover": {"region": "eu-south-2", "instances": {"type": "ml.inf2.xlarge", "min": 1, "max": 1}}},
        {"failover": {"region": "us-west-2", "instances": {"type": "ml.inf2.xlarge", "min": 1, "max": 1}}},
    ),
    "failover-machine": (
        TWO,
        {"failover.region": "eu-west-1"},
        {
            "failover.region": "eu-west-1",
            "failover.instances": {"type": "ml.g5.xlarge", "alternatives": ["ml.g6.xlarge"]}
            | {"min": 1, "max": 1},
        },
    ),
    "failover-network": (
        POOLS,
        {"failover": FAILOVER},
        {
            "failover": FAILOVER
            | {"vpc": {"cidr": "10.41.0.0/22", "availability_zones": ["us-west-2a", "us-west-2b"]}}
        },
    ),
    "failover-bucket-name": (TWO, {"name": "x" * 24}, {"name": "x" * 23}),
    "body-size": (
        "prod",
        {"gateway.max_body_bytes": 5_000_001},
        {"gateway.max_body_bytes": 5_000_000},
    ),
    "instance-type": (
        "prod",
        {"endpoint.instances.type": "ml.g6e.3xlarge"},
        {"endpoint.instances.type": "ml.g6e.2xlarge"},
    ),
    "region-unknown": (
        "local",
        {"environment.region": "us-east-9"},
        {"environment.region": "us-east-2"},
    ),
    "instance-region": (
        "prod",
        {"environment.region": "eu-west-1"},
        {"environment.region": "eu-central-1"},
    ),
    "zero-region": (
        ZERO,
        {"environment.region": "eu-west-3", "endpoint.instances.type": "ml.g6.xlarge"},
        {"environment.region": "eu-west-3", "endpoint.instances.type": "ml.g6.xlarge"}
        | {"endpoint.instances.min": 1},
    ),
    "zones-region": (
        POOLS,
        {"endpoint.vpc.availability_zones": ["us-west-2a", "us-west-2b"]},
        {"endpoint.vpc.availability_zones": ["us-east-1c", "us-east-1d"]},
    ),
    "tags": ("prod", {"environment.tags": {"aws:team": "x"}}, {"environment.tags": {"aws-team": "x"}}),
    "reserved-concurrency": (
        "prod",
        {"functions.reserved_concurrency": 901},
        {"functions.reserved_concurrency": 900},
    ),
    "concurrency-below-model": (
        "prod",  # four machines with 64 running and 128 queued requests each
        {"functions.reserved_concurrency": 767},
        {"functions.reserved_concurrency": 768},
    ),
    "update-deadline": (
        "prod",
        {"endpoint.deployment": {"kind": "linear", "step_percent": 10, "bake_seconds": 2281}},
        {"endpoint.deployment": {"kind": "linear", "step_percent": 10, "bake_seconds": 2280}},
    ),
    "model-task": ("prod", {"models": [on_neuron(task="rerank")]}, {"models": [on_neuron(task="chat")]}),
    "model-images": (
        "local",
        {"models": [{**EMBEDDING, "images": True}]},
        {"models": [{**HOSTED, "images": True}]},
    ),
    "adapter-task": (
        ZERO,
        {"models": [{**ADAPTER, "name": "sales", "task": "embedding"}]},
        {"models": [{**ADAPTER, "name": "sales"}]},
    ),
    "bedrock-task": ("prod", {"models": [{**HOSTED, "task": "embedding"}]}, {"models": [HOSTED]}),
    "model-names": (
        "prod",
        {"models": [{**HOSTED, "aliases": ["llama-3.1-8b-instruct"]}]},
        {"models": [{**HOSTED, "aliases": ["llama-3.1-8b"]}]},
    ),
    "model-parts": (
        "local",
        {"models": [EMBEDDING, {**EMBEDDING, "name": "all_MiniLM.L6-v2"}]},
        {"models": [EMBEDDING, {**EMBEDDING, "name": "all-minilm-l12-v2"}]},
    ),
    "models-async": (QUEUE, {"models": [HOSTED]}, {"models": []}),
    "adapter-engine": (
        "prod",
        {"models": [ADAPTER]},
        {"models": [ADAPTER], "endpoint.engine.max_adapters": 1},
    ),
    "adapter-source": (
        "local",
        {"models": [{**ADAPTER, "source": ADAPTER_ARCHIVE}], "endpoint.engine.max_adapters": 1},
        {"models": [ADAPTER], "endpoint.engine.max_adapters": 1},
    ),
    "adapter-places": (
        "prod",
        {"models": [ADAPTER, {**ADAPTER, "name": "legal"}], "endpoint.engine.max_adapters": 1},
        {"models": [ADAPTER, {**ADAPTER, "name": "legal"}], "endpoint.engine.max_adapters": 2},
    ),
    "base-images": ("local", {"model.images": True}, {"model.images": False}),
    "function-variables": (
        "prod",
        {"models": [{**HOSTED, "name": f"hosted-{number}"} for number in range(25)]},
        {"models": [{**HOSTED, "name": f"hosted-{number}"} for number in range(20)]},
    ),
    "web-acl-below-throttle": (
        "prod",  # 100 a second
        {"gateway.waf.requests_per_five_minutes": 29_999},
        {"gateway.waf.requests_per_five_minutes": 30_000},
    ),
    "production": (
        "prod",
        {"gateway.waf.enabled": False},
        {"gateway.waf.enabled": False, "environment.production": False},
    ),
}


def values(base: str, change: Change) -> dict[str, Any]:
    """A file's content with some keys changed, by their dotted paths."""
    folder = FOLDER if (FOLDER / f"{base}.yaml").exists() else EXAMPLES
    content = {"name": base, **yaml.safe_load((folder / f"{base}.yaml").read_text())}
    for path, value in change.items():
        *outer, last = path.split(".")
        place = content
        for key in outer:
            place = place.setdefault(key, {})
        if value is GONE:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return content


def test_every_exclusion_has_a_refused_file_and_an_accepted_neighbour():
    assert set(CASES) == set(register())


@pytest.mark.parametrize("id", CASES)
def test_it_refuses_what_it_is_for(id):
    base, wrong, _ = CASES[id]

    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values(base, wrong))

    (error, *_) = caught.value.errors()
    cause = error.get("ctx", {}).get("error")
    if bound := register()[id].bound:
        # Between a path's keys pydantic names the chosen kinds.
        named = [part for part in map(str, error["loc"]) if part in bound.split(".")]
        assert ".".join(named) == bound
        assert cause is None
    else:
        assert isinstance(cause, RuleError)
        assert cause.rule == id
        assert cause.change


@pytest.mark.parametrize("id", CASES)
def test_it_accepts_the_neighbour(id):
    base, _, right = CASES[id]

    Settings.model_validate(values(base, right))


@pytest.mark.parametrize("one", register().values(), ids=lambda one: one.id)
def test_it_says_what_why_and_what_instead(one):
    assert re.fullmatch(r"[a-z0-9_-]+", one.id)
    assert len(one.refuses) > 5
    assert one.why.endswith(".")
    assert one.change
    assert "|" not in one.refuses + one.why + one.change  # it becomes a row of a table


def test_an_id_is_given_once():
    with pytest.raises(ValueError, match="registered twice"):
        exclusion("inf1", refuses="x", why="x", change="x")


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_the_examples_load(name):
    assert load(name, EXAMPLES).endpoint.kind


def test_the_loader_points_at_a_key_of_another_kind(tmp_path):
    text = (
        (EXAMPLES / "serverless.yaml")
        .read_text()
        .replace("  memory_mb: 4096", "  vpc: {}\n  memory_mb: 4096")
    )
    (tmp_path / "small.yaml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        load("small", tmp_path)

    line = text[: text.index("  vpc:")].count("\n") + 1
    assert f"small.yaml:{line}: There is no 'vpc' with kind serverless." in str(caught.value)
    assert "example: remove the line" in str(caught.value)


@pytest.mark.parametrize(
    ("least", "most", "schedules"),
    [(2, 1, []), (1, 3, schedule(0, 2)), (1, 3, schedule(2, 4))],
)
def test_provisioned_concurrency_scales_within_its_bounds(least, most, schedules):
    change = {"endpoint.provisioned_concurrency": least}
    change["endpoint.provisioned_scaling"] = {"max": most, "schedules": schedules}

    with pytest.raises(ValidationError, match="ProvisionedConcurrency goes from 1 up to MaxConcurrency"):
        Settings.model_validate(values(SERVERLESS, change))


@pytest.mark.parametrize(
    ("size", "download", "startup"),
    [(None, 600, 1800), (1.0, 310, 1800), (16.1, 461, 1800), (400.0, 3600, 3600)],
)
def test_timeouts_follow_the_models_size_and_the_engine(size, download, startup):
    change = {"model.size_gb": size} if size else {"model.size_gb": GONE}
    change |= {"endpoint.model_download_timeout_seconds": GONE, "endpoint.startup_timeout_seconds": GONE}
    change |= {"endpoint.instances.type": "ml.p5.48xlarge", "endpoint.engine.tensor_parallel": 8}
    settings = Settings.model_validate(values("prod", change))

    assert (settings.download_timeout_seconds, settings.startup_timeout_seconds) == (download, startup)


def test_timeouts_of_the_file_come_first():
    settings = Settings.model_validate(values("prod", {"model.size_gb": 16.1}))

    assert (settings.download_timeout_seconds, settings.startup_timeout_seconds) == (1800, 1800)


def test_an_engine_without_graphs_to_capture_starts_as_its_size_says():
    change = {"endpoint.startup_timeout_seconds": GONE, "model.size_gb": 1.0}

    assert Settings.model_validate(values("local", change)).startup_timeout_seconds == 315
    assert Settings.model_validate(values(NEURON_FILE, change)).startup_timeout_seconds == 1800
