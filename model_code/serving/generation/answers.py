"""Answers to plans: from an engine's tokens to deltas, the prompt before them where it is echoed.

Knows nothing of who may compute now; that is the service's.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from model_code.serving.engines.base import Engine, GenerationRequest, Logprob
from model_code.serving.engines.errors import UnsupportedSchemaError
from model_code.serving.errors import invalid
from model_code.serving.generation.chat_tokenizer import ChatTokenizer
from model_code.serving.generation.output_stream import OutputStream
from model_code.serving.generation.planning import Plan
from model_code.serving.logs import event
from model_code.serving.protocol.deltas import OutputDelta

logger = logging.getLogger(__name__)


class Answers:
    """One engine's. `progressed` is called whenever it has shown a sign of life."""

    def __init__(self, engine: Engine, tokenizer: ChatTokenizer, progressed: Callable[[], None]) -> None:
        self._engine, self._tokenizer, self._progressed = engine, tokenizer, progressed
        self._ids = itertools.count()

    async def of(self, plan: Plan, index: int, adapter: str | None) -> AsyncGenerator[OutputDelta, None]:
        """One answer. Where the engine cannot hold to the plan's schema, the loose one takes its place."""
        begun = False
        try:
            async with aclosing(self._deltas(plan, index, adapter)) as deltas:
                async for delta in deltas:
                    begun = True
                    yield delta
        except UnsupportedSchemaError as refused:
            if begun or plan.loose_schema is None or plan.schema == plan.loose_schema:
                raise
            event(logger, f"schema loosened: {refused}", level=logging.WARNING)
            loosened = replace(plan, schema=plan.loose_schema)
            async with aclosing(self.of(loosened, index, adapter)) as deltas:
                async for delta in deltas:
                    yield delta

    async def _deltas(self, plan: Plan, index: int, adapter: str | None) -> AsyncGenerator[OutputDelta, None]:
        engine = self._engine
        stream = OutputStream(plan, self._tokenizer, index)
        if plan.echo is not None:
            yield stream.echo(await self._prompt_logprobs(plan))
            if plan.max_tokens == 0:
                return
        sampling = plan.sampling
        if index and sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + index)  # or all answers would be the same
        logprobs = None if plan.logprobs is None else min(plan.logprobs, engine.capabilities.top_logprobs)
        request = GenerationRequest(
            str(next(self._ids)), plan.prompt, plan.max_tokens, sampling, plan.schema, logprobs, adapter
        )
        async with aclosing(engine.generate(request)) as events:
            async for tokens in events:
                self._progressed()
                delta = stream.push(tokens)
                if delta is not None:
                    yield delta
                if stream.ended:
                    return

    async def _prompt_logprobs(self, plan: Plan) -> list[Logprob] | None:
        """Those of an echoed prompt, where they are asked for."""
        if plan.logprobs is None:
            return None
        if plan.adapter is not None:
            text = "Prompts are scored by the base model alone: leave 'logprobs' out, or name the base model."
            raise invalid(text, param="logprobs", code="unsupported_parameter")
        scores = await self._engine.score(plan.prompt, plan.logprobs)
        self._progressed()
        return scores
