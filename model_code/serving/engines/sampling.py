"""Chooses next tokens for a batch in which every request has its own temperature, top_p and seed.

It plugs into transformers' continuous batching as a logits processor: the batch loop samples greedily, and
this processor leaves only the chosen token above minus infinity. Each request draws its own random numbers on
the host, so neither its neighbours in the batch nor the device change what a seed draws.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from model_code.serving.engines.base import Logprob, SamplingParams
from model_code.serving.engines.schema_masks import SchemaMatcher

KEYWORD = "sampler"
_NUCLEUS_CANDIDATES = 256


class RequestSampler:
    """A request's sampling parameters and its stream of random numbers in [0, 1)."""

    def __init__(
        self, sampling: SamplingParams, matcher: SchemaMatcher | None = None, top_logprobs: int | None = None
    ) -> None:
        self.temperature = sampling.temperature
        self.top_p = sampling.top_p
        self.presence = sampling.presence_penalty
        self.frequency = sampling.frequency_penalty
        self.matcher = matcher
        self.top_logprobs = top_logprobs
        self.logprobs: list[Logprob] = []
        """One entry per token so far, where they were asked for."""
        self.adapter: str | None = None
        """The adapter under which the request is computed; `lora_layers` looks here."""
        self._random = random.Random(sampling.seed)  # noqa: S311 - sampling is no matter of security
        self.undefined = False
        """Set once the logits for this request were not numbers: what it says from then on is void."""

    def __deepcopy__(self, memo: dict[int, Any]) -> RequestSampler:
        """A request that is moved out of the cache and taken up again goes on drawing where it was."""
        return self

    @property
    def needs_chosen_token(self) -> bool:
        """Whether the chosen token has to be told to it."""
        return self.matcher is not None or self.top_logprobs is not None

    def draw(self) -> float:
        """The next random number."""
        return self._random.random()


class BatchSampler(ContinuousBatchingLogitsProcessor):
    """The logits processor. `prepare_tensor_args` runs right before the forward pass that `__call__` ends."""

    supported_kwargs = {KEYWORD: RequestSampler}
    ignored_kwargs = ()

    def __init__(self) -> None:
        self._rows: list[RequestSampler] = []
        self._penalised: list[tuple[int, list[int]]] = []  # row, tokens of its answer so far
        self.steps = 0
        self.batch = 0
        """Forward passes so far, and how many requests the last one gave a token."""

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing to fill: the parameters stay on the host."""

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Remember whose logits the coming forward pass computes, in row order."""
        states = [request.state for request in requests_with_new_token]
        self._rows = [state.logit_processor_kwargs[KEYWORD] for state in states]
        self.steps, self.batch = self.steps + 1, len(states)
        self._penalised = [
            (row, _answer(state))
            for row, (state, sampler) in enumerate(zip(states, self._rows, strict=True))
            if sampler.presence or sampler.frequency
        ]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Leave the rows that sample only their chosen token.

        Args:
            scores: logits [rows, vocabulary] of the requests that get a token; changed in place.
            tensor_arg: [rows] of zeros, which transformers wants; the parameters stay on the host.

        Returns:
            The same scores [rows, vocabulary].
        """
        for row in scores.isnan().any(dim=1).nonzero().flatten().tolist():
            self._rows[row].undefined = True
        told = [row for row, sampler in enumerate(self._rows) if sampler.needs_chosen_token]
        raw = {row: _logprobs(scores[row]) for row in told if self._rows[row].top_logprobs is not None}
        for row, answer in self._penalised:
            penalise(scores[row], answer, self._rows[row].presence, self._rows[row].frequency)
        for row in told:
            if (matcher := self._rows[row].matcher) is not None:
                matcher.mask(scores[row])
        self._sample(scores)
        for row in told:
            self._record_choice(self._rows[row], int(scores[row].argmax()), raw.get(row))
        return scores

    def _sample(self, scores: torch.Tensor) -> None:
        """Leave the rows that sample nothing but their chosen token."""
        sampling = [row for row, sampler in enumerate(self._rows) if sampler.temperature > 0]
        if not sampling:
            return
        samplers = [self._rows[row] for row in sampling]
        rows = torch.tensor(sampling, device=scores.device)
        chosen = choose(
            scores[rows],
            scores.new_tensor([sampler.temperature for sampler in samplers]),
            scores.new_tensor([sampler.top_p for sampler in samplers]),
            scores.new_tensor([sampler.draw() for sampler in samplers]),
        )
        scores[rows] = float("-inf")
        scores[rows, chosen] = 0.0

    @staticmethod
    def _record_choice(sampler: RequestSampler, token: int, raw: torch.Tensor | None) -> None:
        if sampler.matcher is not None:
            sampler.matcher.take(token)
        if raw is not None:
            values, tokens = raw.topk(min(sampler.top_logprobs or 0, raw.shape[0]))
            top = list(zip(tokens.tolist(), values.tolist(), strict=True))
            sampler.logprobs.append(Logprob(float(raw[token]), top))


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    """Of logits [vocabulary], in float32."""
    return torch.log_softmax(logits.float(), dim=-1)


def _answer(state: Any) -> list[int]:
    """The tokens generated so far, also those that went into the prompt when the cache was taken away."""
    # transformers keeps the prompt's own length in a private field alone.
    prompt_tokens = state._true_initial_tokens  # noqa: SLF001
    earlier = state.initial_tokens[prompt_tokens:] if prompt_tokens else []
    return [*earlier, *state.generated_tokens]


def penalise(logits: torch.Tensor, answer: list[int], presence: float, frequency: float) -> None:
    """Lower, in place, the logits [vocabulary] of tokens that an answer already holds."""
    if answer:
        tokens, counts = torch.tensor(answer, device=logits.device).unique(return_counts=True)
        logits[tokens] -= presence + frequency * counts


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, draw: torch.Tensor
) -> torch.Tensor:
    """Sample one token per row by inverting the cumulative distribution at `draw`.

    With top_p below 1 only the smallest set of most likely tokens that reaches it takes part (Holtzman et al.
    2020, nucleus sampling).

    Args:
        logits: [rows, vocabulary].
        temperature: [rows], above 0.
        top_p: [rows], the probability that the nucleus reaches, in (0, 1].
        draw: [rows], random numbers in [0, 1).

    Returns:
        Token ids [rows].
    """
    probabilities = torch.softmax(logits / temperature.unsqueeze(1), dim=-1)
    if bool((top_p >= 1).all()):
        return _invert(probabilities, draw)
    count = min(_NUCLEUS_CANDIDATES, probabilities.shape[1])
    ordered, tokens = probabilities.topk(count, dim=-1)
    if bool((ordered.sum(-1) < top_p).any()):  # a flat distribution: the nucleus is wider than the short list
        ordered, tokens = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = ordered.masked_fill(before >= top_p.unsqueeze(1), 0.0)
    kept[:, 0] = ordered[:, 0]  # the most likely token always takes part, however small top_p is
    return tokens.gather(1, _invert(kept, draw).unsqueeze(1)).squeeze(1)


def _invert(weights: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Weights [rows, candidates] and draws [rows] to the positions [rows] that the draws fall on."""
    cumulative = weights.cumsum(-1)
    total = cumulative[:, -1:]
    position = torch.searchsorted(cumulative, draw.unsqueeze(1) * total, right=True).squeeze(1)
    # Rounding may carry the draw past the last token of any weight: that one is meant then.
    last = weights.shape[1] - 1 - (weights > 0).flip(-1).to(torch.int8).argmax(-1)
    return torch.minimum(position, last)
