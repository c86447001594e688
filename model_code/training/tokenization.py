"""Turns support pairs into token ids with a loss mask, and those into length-bucketed batches.

The prompt's ids are exactly those the server would feed the model, from the same chat template; only
the answer and its end token carry loss. Knows tokenizers and tensors, not models or jobs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from contracts.training import SupportPair
from model_code.training.job import TrainingError

IGNORED = -100
"""The label that torch's cross entropy leaves out."""
BUCKET_BATCHES = 8


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation; ids from `answer_start` on carry loss."""

    ids: list[int]
    answer_start: int


@dataclass(frozen=True)
class TokenBatch:
    """Tensors of shape (rows, longest row); padding is on the right.

    `keep` is how many trailing positions can hold an answer token: logits before them are not needed.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    keep: int

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int(self.attention_mask.sum())


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    *,
    add_generation_prompt: bool = False,
) -> str:
    """A conversation as the chat template writes it."""
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    if not isinstance(text, str):
        raise TypeError("the chat template of one conversation gives one text")
    return text


def encode(pair: SupportPair, tokenizer: PreTrainedTokenizerBase) -> Example:
    """One pair as the chat template writes it. Raises TrainingError when the template does not fit.

    A template fits when a finished conversation reads: prompt, answer, end-of-sequence token. Otherwise
    the model would never learn to stop where the server stops it.
    """
    question = [{"role": "user", "content": pair.prompt}]
    dialogue = [*question, {"role": "assistant", "content": pair.answer}]
    opening = chat_text(tokenizer, question, add_generation_prompt=True)
    whole = chat_text(tokenizer, dialogue)
    if not whole.startswith(opening + pair.answer + tokenizer.eos_token):
        raise TrainingError(
            "the base model's chat template does not end an answer with its end-of-sequence token "
            f"{tokenizer.eos_token!r}: an answer could not be told from its end"
        )
    prompt_ids = tokenizer(opening, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(pair.answer, add_special_tokens=False)["input_ids"]
    return Example([*prompt_ids, *answer_ids, tokenizer.eos_token_id], len(prompt_ids))


def encode_all(
    pairs: Sequence[SupportPair], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[Example], int]:
    """The examples of at most `max_tokens` tokens, and how many pairs were longer and left out."""
    encoded = [encode(pair, tokenizer) for pair in pairs]
    fitting = [example for example in encoded if len(example.ids) <= max_tokens]
    return fitting, len(encoded) - len(fitting)


def collate(examples: Sequence[Example], pad_id: int) -> TokenBatch:
    """Examples padded on the right to the longest of them."""
    longest = max(len(example.ids) for example in examples)
    input_ids = torch.full((len(examples), longest), pad_id)
    attention_mask = torch.zeros((len(examples), longest), dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORED)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.ids)
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        labels[row, example.answer_start : len(ids)] = ids[example.answer_start :]
    first_answer = min(example.answer_start for example in examples)
    return TokenBatch(input_ids, attention_mask, labels, keep=longest - first_answer + 1)


def batches(
    examples: Sequence[Example], size: int, pad_id: int, shuffle_seed: str | None
) -> list[TokenBatch]:
    """Batches of examples of similar length, so little is computed on padding.

    With a seed the order is random but the same for the same seed: examples are shuffled, sorted by
    length inside windows of eight batches, and the batches shuffled again.
    """
    order = list(examples)
    if shuffle_seed is None:
        order.sort(key=lambda example: len(example.ids))
        return [collate(order[start : start + size], pad_id) for start in range(0, len(order), size)]
    chance = random.Random(shuffle_seed)  # noqa: S311 - an order, not a secret
    chance.shuffle(order)
    window = size * BUCKET_BATCHES
    result = []
    for start in range(0, len(order), window):
        bucket = sorted(order[start : start + window], key=lambda example: len(example.ids))
        result += [collate(bucket[at : at + size], pad_id) for at in range(0, len(bucket), size)]
    chance.shuffle(result)
    return result
