"""Tells OpenVINO GenAI a model's vocabulary, which it needs to hold answers to a schema.

GenAI reads it from a detokenizer graph beside the model, so that is what is written here: the smallest one,
made from `tokenizer.json` alone. Text itself is decoded by the server.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.utils.node_factory import NodeFactory

from model_code.serving.engines.vocabulary import read_vocabulary

_ALL = np.iinfo(np.int32).max
NAME = "openvino_detokenizer.xml"


def write_vocabulary(folder: Path, target: Path, size: int) -> bool:
    """Write the detokenizer of a model folder; False where the tokenizer's way of writing is not known.

    `size` is how many tokens the model tells apart, padding included.
    """
    vocabulary = read_vocabulary(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    if vocabulary is None:
        return False
    # A control token has no text of its own, or an answer's schema would take its name for text. Nor have
    # blanks but the single space: GenAI allows any number of them between the parts of an answer, and a weak
    # model would write nothing else. Inside texts JSON has no bare line breaks anyway.
    tokens = [
        b"" if i in vocabulary.special or (token.isspace() and token != b" ") else token
        for i, token in enumerate(vocabulary.tokens)
    ]
    tokens += [b""] * (size - len(tokens))
    factory = NodeFactory(
        "opset13"
    )  # outlives the graph: it holds the library that the graph's parts are from
    factory.add_extension(str(_extension()))
    ov.save_model(
        _graph(tokens, sorted(vocabulary.special) or [0], factory), target / NAME, compress_to_fp16=False
    )
    return True


def _graph(tokens: list[bytes], hidden: list[int], factory: NodeFactory) -> ov.Model:
    ends = np.cumsum([len(token) for token in tokens], dtype=np.int32)
    begins = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    characters = np.frombuffer(b"".join(tokens), dtype=np.uint8)
    ids = ops.parameter([-1, -1], ov.Type.i64)
    inputs = [
        ops.convert(ids, "i32").output(0),
        *(ops.constant(part).output(0) for part in (begins, ends, characters)),
    ]
    # GenAI switches the skipping of tokens by this slice's end, and so needs to find one.
    zero, last, one = (ops.constant(np.array([value], np.int32)) for value in (0, _ALL, 1))
    skipped = ops.slice(ops.constant(np.array(hidden, np.int32)), zero, last, one)
    decoded = factory.create("VocabDecoder", [*inputs, skipped.output(0)])
    decoded.set_friendly_name("VocabDecoder")
    fused = factory.create("FuzeRagged", [decoded.output(0), decoded.output(1), *decoded.outputs()[2:4]])
    packed = factory.create("StringTensorPack", [*fused.outputs(), decoded.output(4)])
    packed.output(0).set_names({"string_output"})
    return ov.Model([ops.result(packed)], [ids], "vocabulary")


def _extension() -> Path:
    spec = importlib.util.find_spec("openvino_tokenizers")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package openvino-tokenizers is not installed")
    return Path(spec.origin).parent / "lib" / "libopenvino_tokenizers.so"
