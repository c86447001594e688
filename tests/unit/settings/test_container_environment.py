"""What infra tells containers, against what contracts says they read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts import container
from infra.constructs.container_environment import container_environment
from infra.settings.engine import Engine, NeuronSettings, TransformersSettings, VllmSettings
from model_code.serving.settings import read_settings

COMMON = {"max_context_tokens": 4096, "max_running_requests": 8, "max_queued_requests": 16}
ENGINES: list[Engine] = [
    VllmSettings(kind="vllm", image="vllm-cuda-2.4", tensor_parallel=1, max_adapters=3,
                 inference_ami_version="al2023-ami-sagemaker-inference-gpu-4-1",
                 stateful_sessions=True, **COMMON),
    TransformersSettings(kind="transformers", image="evergreen-serving-local", max_adapters=3,
                        stateful_sessions=True, max_queued_tokens=8192, idle_release_seconds=300, **COMMON),
]  # fmt: skip
LEFT_ALONE = {
    "ENV_DRAIN": "the container's default fits SageMaker's 30 s",
    "ENV_HOST": "the container listens everywhere",
    "ENV_MAX_ADAPTER_BYTES": "the container's default",
    "ENV_MAX_SESSIONS": "the container's default",
    "ENV_SESSION_SECONDS": "SageMaker's default",
    "ENV_SAGEMAKER_PORT": "SageMaker sets it",
    "ENV_SAGEMAKER_MODEL_DIR": "SageMaker's folder is the default",
}
"""Variables that no settings file decides, with the reason."""


def told(engine: Engine) -> dict[str, str]:
    return container_environment(engine, "demo", "v1", "d" * 64)


def test_every_variable_is_set_from_settings_or_left_alone_on_purpose() -> None:
    names = {name for name in vars(container) if name.startswith("ENV_")}
    transformers = container_environment(ENGINES[1], "demo", "v1", "d" * 64, adapters=True)
    unset = {name for name in names if getattr(container, name) not in transformers}
    assert unset == set(LEFT_ALONE)


def test_every_limit_of_the_engine_reaches_the_container() -> None:
    """A setting that no container hears of would be a promise that nobody keeps."""
    for engine in ENGINES:
        plain = told(engine)
        for field, other in {
            "max_context_tokens": 2048, "max_running_requests": 9, "max_queued_requests": 17,
            "default_max_tokens": 99, "request_timeout_seconds": 77, "max_adapters": 1,
            "stateful_sessions": False,
        }.items():  # fmt: skip
            assert told(engine.model_copy(update={field: other})) != plain, field


@pytest.mark.parametrize(("timeout", "stall"), [(300, "60"), (119, "59"), (60, "30"), (1, "1")])
def test_a_hung_engine_is_seen_before_its_requests_give_up(timeout: int, stall: str) -> None:
    for engine in ENGINES:
        environment = told(engine.model_copy(update={"request_timeout_seconds": timeout}))
        assert environment[container.ENV_STALL] == stall


def test_adapters_and_sessions_are_off_unless_asked_for() -> None:
    for engine in ENGINES:
        off = told(engine.model_copy(update={"max_adapters": 0, "stateful_sessions": False}))
        assert not [name for name in off if "LORA" in name or "ADAPTERS" in name or "SESSIONS" in name]


def test_vllm_is_told_how_the_model_writes_tool_calls() -> None:
    engine = ENGINES[0].model_copy(update={"tool_call_parser": "hermes"})
    assert told(engine)["SM_VLLM_TOOL_CALL_PARSER"] == "hermes"
    assert told(engine)["SM_VLLM_ENABLE_AUTO_TOOL_CHOICE"] == "true"  # without it vLLM refuses `auto`
    assert not [name for name in told(ENGINES[0]) if "TOOL" in name]


def test_neuron_promises_neither() -> None:
    assert not {"max_adapters", "stateful_sessions"} & NeuronSettings.model_fields.keys()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.kind)
def test_values_are_strings(engine: Engine) -> None:
    assert all(isinstance(value, str) for value in told(engine).values())


def test_what_the_file_leaves_out_is_the_containers_to_decide() -> None:
    plain = ENGINES[1].model_copy(update={"max_queued_tokens": None, "idle_release_seconds": None})

    assert not {container.ENV_MAX_QUEUED_TOKENS, container.ENV_IDLE_RELEASE} & set(told(plain))


def test_never_to_give_memory_back_is_said() -> None:
    assert told(ENGINES[1].model_copy(update={"idle_release_seconds": 0}))[container.ENV_IDLE_RELEASE] == "0"
    assert read_settings(told(ENGINES[1])).max_queued_tokens == 8192


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_queued_tokens": 4095}, "is below max_context_tokens 4096"),
        ({"max_queued_tokens": 4096, "max_queued_requests": 0}, "max_queued_requests is 0"),
        ({"idle_release_seconds": -1}, "greater than or equal to 0"),
    ],
)
def test_a_queue_that_holds_nothing_is_refused(changes: dict[str, int], says: str) -> None:
    fields = {"kind": "transformers", "image": "evergreen-serving-local", **COMMON}
    TransformersSettings.model_validate(fields | {"max_queued_tokens": 4096})

    with pytest.raises(ValidationError, match=says):
        TransformersSettings.model_validate(fields | changes)
