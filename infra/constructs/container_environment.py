"""What a model container is told, by engine: a pure function from settings to environment variables.

Our own names come from contracts.container; `SM_VLLM_*` (from infra.settings.vllm_flags) and `SM_ON_*` become
flags of the two vLLM images.
"""

from __future__ import annotations

from contracts import container
from infra.settings.engine import Engine, NeuronSettings, TransformersSettings, VllmSettings
from infra.settings.engine_versions import engine_versions
from infra.settings.images import Image, image_table
from infra.settings.vllm_flags import flags

_MODEL_DIR = container.DEFAULT_MODEL_DIR
_AUTO = "auto"  # our handler takes the fastest of its engines that the model and the device allow
_STALL_SECONDS = 60
"""Longest silence of an engine that is asked for something; less where requests give up within twice that,
so that a hung engine is seen before those who wait for it have left."""
_HOOK_FILE = f"{_MODEL_DIR}/{container.HOOK_FILE}"
_HOOK = {
    "CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE": f"{_HOOK_FILE}:Hook",  # the outermost middleware
    "CUSTOM_FASTAPI_PING_HANDLER": f"{_HOOK_FILE}:ping",  # one that cannot be loaded stops the start
    # Under its supervisor the image lets vLLM live for 5 s after SIGTERM; SageMaker replaces what exits.
    "PROCESS_AUTO_RECOVERY": "false",
    "STANDARD_AUTO_INSTALL_REQ": "false",  # a model's files never install packages into the server
    "PYTHONDONTWRITEBYTECODE": "1",  # the hook's own would be a file that the artefact does not name
}
"""Read by model-hosting-container-standards, which AWS's vLLM image starts its server with."""


def container_environment(
    engine: Engine,
    model_name: str,
    version: str,
    digest: str,
    *,
    image: Image | None = None,
    adapters: bool = False,
) -> dict[str, str]:
    """Environment of the container.

    Args:
        engine: The settings of what runs inside.
        model_name: What callers say.
        version: The model's version; may be a CloudFormation token, as `digest` may.
        digest: SHA-256 of the artefact's manifest in hex; empty where it has none.
        image: What the flags are for; the row that the engine names, if left out.
        adapters: Whether the artefact holds LoRA adapters, each in a folder of its own.
    """
    image = image or image_table().images[engine.image]
    environment = {
        container.ENV_ENGINE: _AUTO if engine.kind == "transformers" else engine.kind,
        container.ENV_MODEL_NAME: model_name,
        container.ENV_MODEL_VERSION: version,
        container.ENV_MODEL_DIGEST: digest,
        container.ENV_MAX_CONTEXT: str(engine.max_context_tokens),
        container.ENV_MAX_RUNNING: str(engine.max_running_requests),
    }
    if not isinstance(engine, NeuronSettings):
        environment |= {
            container.ENV_MAX_QUEUED: str(engine.max_queued_requests),
            container.ENV_DEFAULT_MAX_TOKENS: str(engine.default_max_tokens),
            container.ENV_REQUEST_TIMEOUT: str(engine.request_timeout_seconds),
            container.ENV_STALL: str(min(_STALL_SECONDS, max(1, engine.request_timeout_seconds // 2))),
        }
        if engine.stateful_sessions:
            environment[container.ENV_SESSIONS_ENABLED] = "true"
    if isinstance(engine, TransformersSettings) and engine.max_adapters:
        environment[container.ENV_MAX_ADAPTERS] = str(engine.max_adapters)
    if isinstance(engine, TransformersSettings):
        bounds = {
            container.ENV_MAX_QUEUED_TOKENS: engine.max_queued_tokens,
            container.ENV_IDLE_RELEASE: engine.idle_release_seconds,
        }
        environment |= {name: str(value) for name, value in bounds.items() if value is not None}
    if adapters and isinstance(engine, TransformersSettings):
        environment[container.ENV_ADAPTER_FOLDER] = container.ADAPTER_FOLDER
    if adapters and isinstance(engine, VllmSettings):
        # vLLM's own plug-in looks there for an adapter that a request names and that is not loaded. It ends
        # the server where there is no such folder.
        environment["VLLM_LORA_RESOLVER_CACHE_DIR"] = f"{_MODEL_DIR}/{container.ADAPTER_FOLDER}"
    if isinstance(engine, VllmSettings):
        facts = engine_versions()[image.engine_version]
        environment |= {flag.variable: flag.value for flag in flags(engine, model_name, facts)}
        if engine.max_adapters:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        if engine.hook:
            environment |= _HOOK
    if isinstance(engine, NeuronSettings):
        environment |= {
            "SM_ON_MODEL": _MODEL_DIR,
            "SM_ON_BATCH_SIZE": str(engine.max_running_requests),
            "SM_ON_SEQUENCE_LENGTH": str(engine.max_context_tokens),
            "SM_ON_TENSOR_PARALLEL_SIZE": str(engine.tensor_parallel),
        }
    return environment
