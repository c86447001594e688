"""Engines: what runs inside the container, and what it needs of the image and the machine.

One class per engine kind, told apart by `kind`. Knows nothing of CDK.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.engine_promises import refuse_unkept
from infra.settings.engine_versions import engine_versions
from infra.settings.exclusions import exclusion
from infra.settings.images import image_table
from infra.settings.vllm_flags import QUEUE_FLAG, check

_IMAGE = exclusion(
    "engine-image",
    refuses="an image that is not in the table, or runs another engine",
    why="Engines need images built for them, and only a pinned tag can be rolled back to.",
    change="an image of the engine, or a new row in infra/settings/images.yaml",
)
_ANSWER = exclusion(
    "answer-in-context",
    refuses="`default_max_tokens` above the context",
    why="Prompt and answer share max_context_tokens.",
    change="a number up to max_context_tokens",
)
_QUEUE = exclusion(
    "queue-bound",
    refuses="`hook: false` on an image whose vLLM has no bound for its queue",
    why="vLLM bounds its queue from 0.29.0; before, nothing but the hook holds max_queued_requests.",
    change="`hook: true`, or an image with vLLM 0.29.0 or later",
)
_DRIVER = exclusion(
    "host-image",
    refuses="a host image (AMI) without the driver that the container needs",
    why="CUDA 13 images do not start on SageMaker's default host image, nor Neuron images on one for GPUs.",
    change="an InferenceAmiVersion of the image's row",
)


class _Engine(SettingsModel):
    """What every engine has: the image, the context and the batch."""

    kind: str
    image: str = setting("Row of infra/settings/images.yaml: a pinned container image.", "vllm-cuda-2.4")
    max_context_tokens: int = setting(
        "Prompt and answer together, in tokens; longer requests are refused.", 8192, ge=128, le=1_048_576
    )
    max_running_requests: int = setting("Requests decoded together in one batch.", 32, ge=1, le=1024)

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer for which the caller names no length."""
        return self.max_context_tokens

    @model_validator(mode="after")
    def _image_runs_the_engine(self) -> Self:
        images = image_table().images
        fitting = sorted(name for name, image in images.items() if image.engine == self.kind)
        if self.image not in fitting:
            known = "runs another engine" if self.image in images else "is not in the image table"
            raise _IMAGE.refusal(
                "image",
                what=f"The image '{self.image}' {known}.",
                why=f"Engine '{self.kind}' needs an image built for it.",
                change=f"one of {', '.join(fitting)}, or a new row in infra/settings/images.yaml",
                example=fitting[0],
            )
        return self


class _Admitting(_Engine):
    """What engines have whose server is ours, or has our hook: the limits that admission works with."""

    max_queued_requests: int = setting(
        "Requests that may wait for a place in the batch; more get 503 with Retry-After.", 64, ge=0, le=10_000
    )
    default_max_tokens: int = setting(
        "Answer length where the caller names none, in tokens.", 512, ge=1, le=131_072, default=512
    )
    request_timeout_seconds: int = setting(
        "Longest life of one request inside the container.", 300, ge=1, le=900, default=300
    )

    @property
    def answer_tokens(self) -> int:
        """See the base."""
        return self.default_max_tokens

    @model_validator(mode="after")
    def _answer_fits_the_context(self) -> Self:
        if self.default_max_tokens > self.max_context_tokens:
            raise _ANSWER.refusal(
                "default_max_tokens",
                what=f"default_max_tokens {self.default_max_tokens} exceeds the context.",
                why=f"Prompt and answer share max_context_tokens {self.max_context_tokens}.",
                change=f"a number up to {self.max_context_tokens}",
                example=self.max_context_tokens // 4,
            )
        return self


class _Adaptable(SettingsModel):
    """What engines have that take LoRA adapters while they serve, and bind callers to one container."""

    max_adapters: int = setting(
        "LoRA adapters loaded at once while serving; 0 turns them off.", 4, ge=0, le=256, default=0
    )
    stateful_sessions: bool = setting(
        "Sticky sessions: a caller's requests reach the container that caches its prompts.",
        True,
        default=False,
    )


class VllmSettings(_Admitting, _Adaptable):
    """AWS's vLLM container on NVIDIA GPUs."""

    kind: Literal["vllm"] = setting("vLLM on NVIDIA GPUs.", "vllm")
    tensor_parallel: int = setting("GPUs that share one copy of the model.", 1, ge=1, le=16, default=1)
    gpu_memory_utilization: float = setting(
        "Share of GPU memory for weights and the key-value cache.", 0.9, gt=0, le=0.98, default=0.9
    )
    hook: bool = setting(
        "Our hook in front of vLLM: readiness, deadlines, admission, error shape, drain. The artefact must "
        "hold it, or the container does not start: trained ones do, and those that `make model` brings.",
        True,
        default=True,
    )
    inference_ami_version: str | None = setting(
        "Host image with the driver that the container's CUDA needs.",
        "al2023-ami-sagemaker-inference-gpu-4-1",
        default=None,
    )
    tool_call_parser: str | None = setting(
        "How the model writes tool calls, by vLLM's name for it (`hermes`, `llama3_json`, `mistral` …). Left "
        "out, vLLM refuses every request whose `tool_choice` is not `none`.",
        "hermes",
        pattern=r"^[a-z][a-z0-9_-]{1,40}$",
        default=None,
    )
    quantization: Literal["awq", "gptq", "fp8", "bitsandbytes"] | None = setting(
        "How weights are quantised; left out, as the artefact's own config says.", "fp8", default=None
    )
    arguments: dict[str, str | int | float | bool] = setting(
        "Further flags of vLLM's server, without dashes: the image's version must have them, and no other "
        "key may set them.",
        {"max-num-batched-tokens": 8192},
        default={},
    )

    @model_validator(mode="after")
    def _driver(self) -> Self:
        _check_driver(self.image, self.inference_ami_version)
        return self

    @model_validator(mode="after")
    def _queue_is_bounded(self) -> Self:
        version = image_table().images[self.image].engine_version
        if not self.hook and QUEUE_FLAG not in engine_versions()[version].flags:
            raise _QUEUE.refusal(
                "hook",
                what=f"Image '{self.image}' holds vLLM {version}, whose queue takes no bound.",
                example=True,
            )
        return self

    @model_validator(mode="after")
    def _no_key_without_effect(self) -> Self:
        if not self.hook:
            refuse_unkept("vllm-plain", self.model_fields_set)
        return self

    @model_validator(mode="after")
    def _image_takes_the_flags(self) -> Self:
        check(self, image_table().images[self.image].engine_version)
        return self


class NeuronSettings(_Engine):
    """vLLM on Inferentia and Trainium. Batch and context are compiled into the model: match the artefact."""

    kind: Literal["neuron"] = setting("vLLM on Inferentia2 and Trainium.", "neuron")
    tensor_parallel: int = setting("Neuron cores that share one copy of the model.", 2, ge=1, le=64)
    inference_ami_version: str | None = setting(
        "Host image with the Neuron driver; SageMaker's default where left out.",
        "al2-ami-sagemaker-inference-neuron-2",
        default=None,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_key_without_effect(cls, values: Any) -> Any:
        refuse_unkept("neuron", values if isinstance(values, dict) else ())
        return values

    @model_validator(mode="after")
    def _driver(self) -> Self:
        if self.inference_ami_version:
            _check_driver(self.image, self.inference_ami_version)
        return self


class TransformersSettings(_Admitting, _Adaptable):
    """Our own inference handler: any model that transformers loads, on CPU or GPU."""

    kind: Literal["transformers"] = setting("Our inference handler on CPU or GPU.", "transformers")
    max_queued_tokens: int | None = setting(
        "Prompts and answers of waiting requests together, in tokens, beyond which more get 503; left out, "
        "from what the cache holds. One request may always wait.",
        65_536,
        ge=128,
        le=100_000_000,
        default=None,
    )
    idle_release_seconds: int | None = setting(
        "Seconds without a request after which memory that filled with use is given back; 0 for never; left "
        "out, 600.",
        600,
        ge=0,
        le=86_400,
        default=None,
    )

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.max_queued_tokens is None:
            return self
        if not self.max_queued_requests:
            raise RuleError(
                "max_queued_tokens",
                what=f"{self.max_queued_tokens} tokens may wait, but max_queued_requests is 0.",
                why="Where no request may wait there are no tokens to bound.",
                change="leave the key out, or max_queued_requests from 1 upwards",
                example=None,
            )
        if self.max_queued_tokens < self.max_context_tokens:
            raise RuleError(
                "max_queued_tokens",
                what=f"{self.max_queued_tokens} is below max_context_tokens {self.max_context_tokens}.",
                why="A single long request would fill the queue for everyone.",
                change=f"a number from {self.max_context_tokens} upwards",
                example=4 * self.max_context_tokens,
            )
        return self


def _check_driver(name: str, version: str | None) -> None:
    """The host image has the driver that the container image asks for."""
    image = image_table().images[name]
    allowed = image.inference_ami_versions
    if allowed and version not in allowed:
        host = f"host image '{version}'" if version else "SageMaker's default host image"
        built = f"CUDA {image.cuda}" if image.cuda else "Neuron"
        raise _DRIVER.refusal(
            "inference_ami_version",
            what=f"Image '{name}' does not start on {host}.",
            why=f"It is built for {built}, whose driver that host lacks.",
            change=f"one of {', '.join(allowed)}",
            example=allowed[0],
        )


Engine = Annotated[VllmSettings | NeuronSettings | TransformersSettings, Field(discriminator="kind")]
