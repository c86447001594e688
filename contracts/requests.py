"""What the requests of OpenAI's protocol have in common: what is taken, what is ignored, what is refused.

Clients send more than a server knows: fields of newer versions, nulls for everything they leave open, what an
answer held when it is put back into a conversation. So a null always means "not set", an unknown field inside
a message or a tool is ignored, and the fields in `UNSUPPORTED`, which would change the answer, are refused by
name.
Source: the OpenAI API reference; vLLM's and OpenRouter's for the parameters that are theirs.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

UNSUPPORTED_PARAMETER = "unsupported_parameter"
"""The code of a refusal of something that is known, and not done here."""

_NO_SAMPLER = "sampling is set by temperature, top_p, presence_penalty and frequency_penalty"
_NO_TEMPLATE = "the model's own chat template is used as it is"
_NO_GUIDE = "use response_format"
UNSUPPORTED = {
    "audio": "answers are text",
    "web_search_options": "the model does not search the web",
    "plugins": "the model has no plug-ins",
    "top_k": _NO_SAMPLER,
    "min_p": _NO_SAMPLER,
    "top_a": _NO_SAMPLER,
    "typical_p": _NO_SAMPLER,
    "repetition_penalty": _NO_SAMPLER,
    "length_penalty": _NO_SAMPLER,
    "use_beam_search": _NO_SAMPLER,
    "min_tokens": "an answer ends where the model ends it",
    "ignore_eos": "an answer ends where the model ends it",
    "stop_token_ids": "use stop",
    "bad_words": "the words of an answer cannot be excluded",
    "chat_template": _NO_TEMPLATE,
    "chat_template_kwargs": _NO_TEMPLATE,
    "continue_final_message": _NO_TEMPLATE,
    "add_generation_prompt": _NO_TEMPLATE,
    "guided_json": _NO_GUIDE,
    "guided_regex": _NO_GUIDE,
    "guided_choice": _NO_GUIDE,
    "guided_grammar": _NO_GUIDE,
    "structured_outputs": _NO_GUIDE,
    "grammar": _NO_GUIDE,
    "prompt_logprobs": "use /v1/completions with echo and logprobs",
    "suffix": "the model continues a prompt, it fills no gap",
    "best_of": "use n",
    "max_chunks_per_doc": "a document is scored whole; cut it with max_tokens_per_doc",
}
"""Parameters that would change an answer, each with what to do instead. Refused where they are no field."""


def unsupported(what: str) -> PydanticCustomError:
    """The refusal of a value that asks for something that is not done here."""
    return PydanticCustomError(UNSUPPORTED_PARAMETER, "{what}", {"what": what})


def without_nulls(value: Any) -> Any:
    """An object without its null fields; anything else as it is."""
    if isinstance(value, dict) and None in value.values():
        return {name: inner for name, inner in value.items() if inner is not None}
    return value


class RequestModel(BaseModel):
    """A request, or a part of one whose every field has a meaning: an unknown field is an error."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, value: Any) -> Any:
        return without_nulls(value)


class OpenModel(RequestModel):
    """A part of a request that clients add fields of their own to: those are ignored."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore", strict=True)


def one_or_many(value: Any) -> str | None:
    """Tells a text from a list, before either is checked: so that an error is about what was meant."""
    if isinstance(value, str):
        return "<text>"
    return "<list>" if isinstance(value, list) else None


Stop = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[str], Field(max_length=4), Tag("<list>")],
    Discriminator(
        one_or_many,
        custom_error_type="stop_type",
        custom_error_message="Input should be a string or a list of at most 4 strings",
    ),
]
"""`stop` of chats and completions."""


def ignored(meaning: str) -> Any:
    """A field that is checked, documented and then left out: nothing that answers a request sees it."""
    return Field(default=None, exclude=True, description=f"Ignored: {meaning}.")


class IgnoredFields(RequestModel):
    """Parameters of OpenAI's that change nothing about an answer here."""

    store: bool | None = ignored("what is kept of a request is the operator's setting")
    service_tier: str | None = ignored("there is one tier")
    safety_identifier: str | None = ignored("the key names the caller")
    prompt_cache_key: str | None = ignored("prompts with a common beginning share their cache anyway")
    prompt_cache_retention: str | None = ignored("as prompt_cache_key")
    prompt_cache_options: dict[str, Any] | None = ignored("as prompt_cache_key")


def stop_strings(stop: str | list[str] | None) -> list[str]:
    """`stop` as a list, empty strings left out."""
    stops = [stop] if isinstance(stop, str) else stop or []
    return [text for text in stops if text]
