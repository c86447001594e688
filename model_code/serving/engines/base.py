"""The protocol every engine keeps, in token ids: text belongs to the server.

An engine owns a batch of running requests. It knows nothing of HTTP, of the chat protocol or of queues in
front of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from model_code.serving.engines.lora import Adapter

StopReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What an engine may use; a context of None means the model's own."""

    max_context: int | None
    max_running: int
    threads: int
    max_adapters: int = 0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Temperature 0 is greedy; a seed makes the choice repeatable.

    Both penalties are taken off the logits of tokens that the answer already holds: presence once, frequency
    as often as the token occurs (OpenAI API reference).
    """

    temperature: float
    top_p: float
    seed: int | None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue: token ids, and at most `max_tokens` more of them.

    `schema` is the text of a plain JSON Schema (see generation.plain_schema) that the answer must keep to.
    `logprobs` asks for each token's log probability and those of so many likeliest ones; None asks for none.
    `adapter` is a loaded one's key; None means the base model.
    """

    request_id: str
    prompt: list[int]
    max_tokens: int
    sampling: SamplingParams
    schema: str | None = None
    logprobs: int | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Logprob:
    """The natural logarithm of a token's probability as the model itself has it: before penalties, schema,
    temperature and top_p. `top` holds the likeliest tokens in its place, likeliest first."""

    value: float
    top: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """New tokens of a request, at least one; `stop_reason` is set on the last event only.

    `logprobs` has one entry per token where they were asked for.
    """

    tokens: list[int]
    stop_reason: StopReason | None = None
    logprobs: list[Logprob] | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What of the protocol an engine can do with the model it has loaded."""

    schemas: bool
    top_logprobs: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's load: requests computed, requests the engine holds back, share of its cache in use.

    `steps` counts forward passes since the start; `batch` is how many requests the last one computed.
    """

    running: int
    waiting: int
    cache_use: float
    steps: int = 0
    batch: int = 0


class Engine(Protocol):
    """A model that generates. `load` is called once, off the event loop, before anything else."""

    @property
    def name(self) -> str:
        """What settings and logs call it."""

    def load(self, folder: Path) -> None:
        """Load the model of an artefact's folder and start computing; raises EngineError."""

    @property
    def context_tokens(self) -> int:
        """Most tokens, prompt and answer together, that one request may hold."""

    @property
    def cache_tokens(self) -> int:
        """Most tokens that all running requests together may hold."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, once loaded."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """Stream a request's tokens. Closing the generator cancels the request.

        Raises EngineError, OutOfMemoryError among them, and UnsupportedSchemaError.
        """

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """The log probability of each token of a prompt but the first, as the base model has it, and of the
        `top` likeliest ones in its place. Raises EngineError."""

    def load_adapter(self, adapter: Adapter) -> None:
        """Make an adapter usable while requests run; off the event loop, one at a time. Raises EngineError,
        IncompatibleAdapterError."""

    def unload_adapter(self, key: str) -> None:
        """Let go of an adapter that no request uses; off the event loop."""

    def fault(self) -> str | None:
        """Why the engine cannot serve any more, or None while it is well."""

    def stats(self) -> EngineStats:
        """The load at this moment."""

    async def release(self) -> None:
        """Give back the memory that filled with use. Called while nothing runs; what comes then may wait."""

    def close(self) -> None:
        """Stop computing; running requests fail."""
