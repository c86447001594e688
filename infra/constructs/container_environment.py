"""What a model container is told, by engine: a pure function from settings to environment variables.

Our own names come from contracts.container; `SM_VLLM_*` and `SM_ON_*` become flags of the two vLLM images.
vLLM ends on a flag that its version lacks, so the image's row decides which are passed.
"""

from __future__ import annotations

from contracts import container
from infra.settings.engine import Engine, NeuronSettings, TransformersSettings, VllmSettings
from infra.settings.images import VLLM_QUEUE_FLAG, Image, image_table

_MODEL_DIR = container.DEFAULT_MODEL_DIR
_AUTO = "auto"  # our handler takes the fastest of its engines that the model and the device allow
_DRAIN_SECONDS = 25  # SageMaker kills a container 30 s after asking it to stop
_HOOK_FILE = f"{_MODEL_DIR}/{container.HOOK_FILE}"
_HOOK = {
    "CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE": f"{_HOOK_FILE}:Hook",  # the outermost middleware
    "CUSTOM_FASTAPI_PING_HANDLER": f"{_HOOK_FILE}:ping",  # one that cannot be loaded stops the start
    # Under its supervisor the image lets vLLM live for 5 s after SIGTERM; SageMaker replaces what exits.
    "PROCESS_AUTO_RECOVERY": "false",
    "STANDARD_AUTO_INSTALL_REQ": "false",  # a model's files never install packages into the server
}
"""Read by model-hosting-container-standards, which AWS's vLLM image starts its server with."""


def container_environment(
    engine: Engine, model_name: str, version: str, digest: str, *, image: Image | None = None
) -> dict[str, str]:
    """Environment of the container.

    Args:
        engine: The settings of what runs inside.
        model_name: What callers say.
        version: The model's version; may be a CloudFormation token, as `digest` may.
        digest: SHA-256 of the artefact's manifest in hex; empty where it has none.
        image: What the flags are for; the row that the engine names, if left out.
    """
    image = image or image_table().images[engine.image]
    environment = {
        container.ENV_ENGINE: _AUTO if engine.kind == "transformers" else engine.kind,
        container.ENV_MODEL_NAME: model_name,
        container.ENV_MODEL_VERSION: version,
        container.ENV_MODEL_DIGEST: digest,
        container.ENV_MAX_CONTEXT: str(engine.max_context_tokens),
        container.ENV_MAX_RUNNING: str(engine.max_running_requests),
        container.ENV_MAX_QUEUED: str(engine.max_queued_requests),
        container.ENV_DEFAULT_MAX_TOKENS: str(engine.default_max_tokens),
        container.ENV_REQUEST_TIMEOUT: str(engine.request_timeout_seconds),
    }
    if not isinstance(engine, NeuronSettings) and engine.stateful_sessions:
        environment[container.ENV_SESSIONS_ENABLED] = "true"
    if isinstance(engine, TransformersSettings) and engine.max_adapters:
        environment[container.ENV_MAX_ADAPTERS] = str(engine.max_adapters)
    if isinstance(engine, TransformersSettings):
        bounds = {
            container.ENV_MAX_QUEUED_TOKENS: engine.max_queued_tokens,
            container.ENV_IDLE_RELEASE: engine.idle_release_seconds,
        }
        environment |= {name: str(value) for name, value in bounds.items() if value is not None}
    if isinstance(engine, VllmSettings) and engine.max_adapters:
        environment |= {
            "SM_VLLM_ENABLE_LORA": "true",
            "SM_VLLM_MAX_LORAS": str(engine.max_adapters),
            "SM_VLLM_MAX_CPU_LORAS": str(engine.max_adapters),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        }
    if isinstance(engine, VllmSettings):
        environment |= {
            "SM_VLLM_MODEL": _MODEL_DIR,
            "SM_VLLM_SERVED_MODEL_NAME": model_name,
            "SM_VLLM_MAX_MODEL_LEN": str(engine.max_context_tokens),
            "SM_VLLM_MAX_NUM_SEQS": str(engine.max_running_requests),
            # vLLM counts those that run among those that wait; where it cannot count, the hook does
            VLLM_QUEUE_FLAG: str(engine.max_running_requests + engine.max_queued_requests),
            "SM_VLLM_TENSOR_PARALLEL_SIZE": str(engine.tensor_parallel),
            "SM_VLLM_GPU_MEMORY_UTILIZATION": str(engine.gpu_memory_utilization),
            "SM_VLLM_SHUTDOWN_TIMEOUT": str(_DRAIN_SECONDS),  # vLLM's default, 0, aborts running answers
        }
        if engine.tool_call_parser:
            environment["SM_VLLM_ENABLE_AUTO_TOOL_CHOICE"] = "true"
            environment["SM_VLLM_TOOL_CALL_PARSER"] = engine.tool_call_parser
        if engine.quantization:
            environment["SM_VLLM_QUANTIZATION"] = engine.quantization
        if engine.hook:
            environment |= _HOOK
    if isinstance(engine, NeuronSettings):
        environment |= {
            "SM_ON_MODEL": _MODEL_DIR,
            "SM_ON_BATCH_SIZE": str(engine.max_running_requests),
            "SM_ON_SEQUENCE_LENGTH": str(engine.max_context_tokens),
            "SM_ON_TENSOR_PARALLEL_SIZE": str(engine.tensor_parallel),
        }
    return {name: value for name, value in environment.items() if image.knows(name)}
