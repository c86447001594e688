"""Writes a random two-layer chat model as an artefact. Run by the serving environment, which has torch.

    python -m tests.support.tiny_base FOLDER [--damaged]

Bytes are its vocabulary, so it needs no file from anywhere. `--damaged` puts a NaN into a weight before
the manifest is made: intact by its digests, useless by its numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contracts.artefact import MANIFEST_NAME, describe

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are bytes, with the two marks of the chat template."""
    specials = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*specials, *alphabet])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        bos_token=specials[0],
        eos_token=specials[1],
        pad_token=specials[1],
        chat_template=CHAT_TEMPLATE,
    )


def write(folder: Path, *, damaged: bool) -> None:
    """The artefact: configuration, weights, tokenizer and manifest."""
    torch.manual_seed(0)
    text = tokenizer()
    config = LlamaConfig(
        vocab_size=len(text),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.2,  # with the usual 0.02 frozen embeddings could express next to nothing
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if damaged:
        model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    text.save_pretrained(folder)
    (folder / "engine-cache").mkdir()
    (folder / "engine-cache" / "old_weights.bin").write_bytes(b"weights of the base in an engine's format")
    (folder / MANIFEST_NAME).write_bytes(describe(folder, "tiny-chat").canonical())


if __name__ == "__main__":
    write(Path(sys.argv[1]), damaged="--damaged" in sys.argv[2:])
