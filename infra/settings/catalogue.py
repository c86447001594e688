"""The section `models`: what is served beside the environment's own model, told apart by `kind`.

Each entry becomes one `contracts.catalogue.ModelEntry`. Rules between entries, and between an entry and the
rest of the file, are in catalogue_rules.py. Knows nothing of CDK.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from contracts.catalogue import ModelKind
from contracts.targets import OpenAITarget
from infra.settings.base import RuleError, SettingsModel, setting, text
from infra.settings.components import ARCHIVE_FORM, ARCHIVE_PATTERN, ScaleToZeroEndpoint
from infra.settings.endpoint import RealtimeEndpoint, ServerlessEndpoint
from infra.settings.engine import VllmSettings
from infra.settings.engine_promises import promise_table
from infra.settings.exclusions import exclusion
from infra.settings.fallback import BEDROCK_ID_PATTERN
from infra.settings.guards import GuardrailSettings
from infra.settings.model import NAME_FORM, NAME_PATTERN, SOURCE_FORM, SOURCE_PATTERN, VERSION_PATTERN
from infra.settings.texts import Region

_OWN_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_OWN_NAME_FORM = "letters, digits, dots, dashes and underscores"
_PROMISES: dict[ModelKind, str] = {
    "embedding": "embeddings",
    "classification": "classification",
    "rerank": "rerank",
}
"""What a container must keep to serve a task other than chat, by the promises' names."""

_TASK = exclusion(
    "model-task",
    refuses="a model of `models` whose engine does not serve its task",
    why="docs/engines.md lists what each server keeps.",
    change="another engine, or the task that the model has",
)
_IMAGES = exclusion(
    "model-images",
    refuses="`images` of a model that reads none: no chat model, or one in an engine without image parts",
    why="Image parts are passed to vLLM, and to hosted models; our handler reads text.",
    change="leave the key out, or engine vllm",
)
_ADAPTER_TASK = exclusion(
    "adapter-task",
    refuses="an adapter with a task other than chat",
    why="Engines apply LoRA adapters to the model that continues texts.",
    change="task chat, or leave the key out",
)
_HOSTED_TASK = exclusion(
    "bedrock-task",
    refuses="a model in Amazon Bedrock with a task other than chat",
    why="Bedrock's OpenAI-compatible route knows chat completions only.",
    change="task chat, or leave the key out",
)

Alias = Annotated[str, text(NAME_PATTERN, NAME_FORM)]
OwnEndpoint = Annotated[
    RealtimeEndpoint | ScaleToZeroEndpoint | ServerlessEndpoint, Field(discriminator="kind")
]


def part_of(name: str) -> str:
    """A model's name as names of AWS resources hold it: `llama-3-1-8b` of `Llama-3.1_8B`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class _Entry(SettingsModel):
    """What every kind of entry has."""

    kind: str
    name: str
    task: ModelKind = setting(
        "What the model is for; `chat` continues texts as well.", "embedding", default="chat"
    )
    aliases: list[Alias] = setting(
        "Further names that callers may say.", ["text-embedding-3-small"], default=[], max_length=16
    )
    input_token_price: float | None = setting(
        "What callers are charged for a million input tokens, in US dollars; left out, it is not known. "
        "Adapters of the environment's own model cost what that costs.",
        0.02,
        ge=0,
        default=None,
    )
    output_token_price: float | None = setting(
        "What callers are charged for a million output tokens, in US dollars; with a price of input tokens "
        "only what writes no text may leave it out.",
        0.4,
        ge=0,
        default=None,
    )
    images: bool = setting("Whether the model reads image parts of messages.", True, default=False)
    guards: GuardrailSettings | None = setting(
        "Checks of this model's prompts and answers in place of the environment's; `{}` for none.",
        {"mask_pii": True},
        default=None,
    )

    @model_validator(mode="after")
    def _prices_come_together(self) -> Self:
        writes = self.task == "chat"
        half = self.output_token_price is None and self.input_token_price is not None and writes
        if half or (self.input_token_price is None and self.output_token_price is not None):
            raise RuleError(
                "output_token_price" if half else "input_token_price",
                what="Only one of the two token prices is set.",
                why="Half a price would make the other tokens free without anybody having said so.",
                change="both prices; 0 where these tokens are free",
                example=0.0,
            )
        return self

    @property
    def part(self) -> str:
        """The name as stacks, endpoints and components hold it."""
        return part_of(self.name)


class _Named(_Entry):
    name: str = setting(
        "What callers put into `model`.", "all-minilm-l6-v2", pattern=_OWN_NAME_PATTERN, form=_OWN_NAME_FORM
    )


class EndpointModel(_Named):
    """A model on an endpoint of its own, with a serving stack of its own."""

    kind: Literal["endpoint"] = setting("An endpoint of its own.", "endpoint")
    version: str = setting("Version of the first artefact.", "1", pattern=VERSION_PATTERN, default="1")
    source: str | None = setting(
        "S3 prefix of the first artefact (for serverless one tar.gz); left out, `make model ENV=… NAME=…` "
        "brings it.",
        "s3://my-models/all-minilm-l6-v2/model.tar.gz",
        pattern=SOURCE_PATTERN,
        form=SOURCE_FORM,
        default=None,
    )
    size_gb: float | None = setting("As `model.size_gb`.", 0.09, gt=0, le=2000, default=None)
    endpoint: OwnEndpoint = setting("As section `endpoint`, without kind async.", {"kind": "serverless"})

    @model_validator(mode="after")
    def _engine_serves_the_task(self) -> Self:
        engine = self.endpoint.engine
        server = "vllm-plain" if isinstance(engine, VllmSettings) and not engine.hook else engine.kind
        promise = promise_table().promises.get(_PROMISES.get(self.task, ""))
        lacking = promise.lacking.get(server) if promise else None
        if lacking:
            raise _TASK.refusal(
                "task",
                what=f"Engine '{engine.kind}' does not serve {self.task}.",
                why=lacking,
                example="chat",
            )
        if self.images and (self.task != "chat" or engine.kind != "vllm"):
            raise _IMAGES.refusal(
                "images",
                what=f"A model for {self.task} on engine '{engine.kind}' reads no images.",
                example=None,
            )
        return self


class AdapterModel(_Named):
    """A LoRA adapter of the environment's own model."""

    kind: Literal["adapter"] = setting("A LoRA adapter of the environment's own model.", "adapter")
    version: str = setting("Version of the first artefact.", "1", pattern=VERSION_PATTERN, default="1")
    source: str | None = setting(
        "With `endpoint.kind: scale_to_zero` the first archive in S3; left out, the deploy names it "
        "(parameter `Adapter…Uri`). Elsewhere the adapter is the folder `adapters/<name>` of the model's "
        "own artefact.",
        "s3://my-models/adapters/support.tar.gz",
        pattern=ARCHIVE_PATTERN,
        form=ARCHIVE_FORM,
        default=None,
    )

    @model_validator(mode="after")
    def _continues_the_base(self) -> Self:
        if self.task != "chat":
            raise _ADAPTER_TASK.refusal("task", what=f"An adapter for {self.task}.", example="chat")
        return self


class _Hosted(_Entry):
    """A model that somebody else runs."""

    name: str = setting(
        "What callers put into `model`.",
        "gpt-oss-20b",
        pattern=NAME_PATTERN,
        form=NAME_FORM,
    )
    max_context_tokens: int | None = setting(
        "Prompt and answer together, in tokens, as callers are told.",
        128_000,
        ge=1,
        le=100_000_000,
        default=None,
    )
    max_output_tokens: int | None = setting(
        "Longest answer, in tokens, as callers are told.", 16_384, ge=1, le=100_000_000, default=None
    )

    @model_validator(mode="after")
    def _images_are_of_chats(self) -> Self:
        if self.images and self.task != "chat":
            raise _IMAGES.refusal("images", what=f"A model for {self.task} reads no images.", example=None)
        return self


class BedrockModel(_Hosted):
    """A model in Amazon Bedrock that speaks the OpenAI protocol."""

    kind: Literal["bedrock"] = setting("A model in Amazon Bedrock.", "bedrock")
    model_id: str = setting(
        "The model's id in Bedrock.",
        "openai.gpt-oss-20b-1:0",
        pattern=BEDROCK_ID_PATTERN,
        form="a model's id, such as openai.gpt-oss-20b-1:0",
    )
    region: Region | None = setting("Its region; left out, the environment's.", "us-west-2", default=None)

    @model_validator(mode="after")
    def _answers_chat(self) -> Self:
        if self.task != "chat":
            raise _HOSTED_TASK.refusal("task", what=f"A model in Bedrock for {self.task}.", example="chat")
        return self


class OpenAIModel(_Hosted):
    """A model behind any URL that speaks the OpenAI API."""

    kind: Literal["openai"] = setting("A URL that speaks the OpenAI API.", "openai")
    base_url: str = setting(
        "Where the provider's API begins, as SDKs have it: what comes before `/chat/completions`.",
        "https://api.openai.com/v1",
        max_length=512,
    )
    model: str = setting("What the provider calls the model.", "gpt-4o-mini", min_length=1, max_length=256)
    secret: str | None = setting(
        "Name or ARN of the secret in Secrets Manager that holds the provider's key, alone or as `api_key` "
        "of a JSON object; left out, no key is sent.",
        "evergreen/prod/models/openai",
        pattern=r"^[A-Za-z0-9/_+=.@:-]{1,512}$",
        form="a secret's name or ARN",
        default=None,
    )

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        """The contract's own rule, so that no URL passes here which the functions refuse."""
        try:
            return OpenAITarget(kind="openai", base_url=url, model="model").base_url
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


OwnModel = EndpointModel | AdapterModel
HostedModel = BedrockModel | OpenAIModel
ModelSettings = Annotated[
    EndpointModel | AdapterModel | BedrockModel | OpenAIModel, Field(discriminator="kind")
]
