"""Turns the vocabulary inside a GGUF file into `tokenizer.json` and its companions.

GGUF names the pre-tokenizer only ("smollm"); what the name stands for (single digits, then GPT-2's byte-level
pattern) is written out here.
"""

from __future__ import annotations

from typing import Any

from local.model.llama import GgufModel

_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PRE_TOKENIZERS = {
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    }
}


def tokenizer_json(model: GgufModel) -> dict[str, Any]:
    """The content of `tokenizer.json`: byte-level BPE with the control tokens as special tokens."""
    tokens = model.field("tokenizer.ggml.tokens")
    kinds = model.field("tokenizer.ggml.token_type")
    special = [index for index, kind in enumerate(kinds) if kind == _CONTROL_TOKEN]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(index, tokens[index]) for index in special],
        "normalizer": None,
        "pre_tokenizer": _PRE_TOKENIZERS[model.field("tokenizer.ggml.pre")],
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in model.field("tokenizer.ggml.merges")],
        },
    }


def _added_token(index: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": index, "content": content, **flags}


def tokenizer_config(model: GgufModel, context: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`, chat template included."""
    tokens = model.field("tokenizer.ggml.tokens")

    def token(role: str) -> str:
        return str(tokens[model.field(f"tokenizer.ggml.{role}_token_id")])

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "pad_token": token("padding"),
        "unk_token": token("unknown"),
        "chat_template": model.field("tokenizer.chat_template"),
    }


def generation_config(config: dict[str, Any]) -> dict[str, Any]:
    """The content of `generation_config.json`; sampling is left to the request."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names}
