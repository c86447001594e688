"""Tries out grammars before the openvino engine sees them, in a process that may fail in its stead.

GenAI prepares a grammar inside a step of the whole batch: one that it cannot take, or takes very long for,
would end or hold up everybody's answers. So it is prepared once in a pipeline of its own, over a model of
almost no size, first; what passes is remembered, and waits for nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import tempfile
from collections import OrderedDict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from model_code.serving.engines.child_process import ChildProcess, answer_questions
from model_code.serving.engines.errors import UnsupportedSchemaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRY_SECONDS = 5.0
_REMEMBERED = 512
_MEMORY_BYTES = 3 * 1024**3
_REASON_CHARACTERS = 300
_SOURCE_PLACE = re.compile(r"^.*\.(?:cc|cpp|h|hpp):\d+:?\s*", re.DOTALL)  # where in its code xgrammar says it
_WIDTH = 64
_DUMMY = {
    "model_type": "llama", "hidden_size": _WIDTH, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True, "max_position_embeddings": 64, "eos_token_id": 0,
}  # fmt: skip


class SchemaProbe:
    """The server's side. The process starts with the first grammar."""

    def __init__(self, folder: Path) -> None:
        self._process = ChildProcess("openvino-schemas", main, folder)
        self._known: OrderedDict[str, str | None] = OrderedDict()  # a grammar, and why it was refused
        self._asking = asyncio.Lock()  # held while the process works on a new one

    async def check(self, grammar: str) -> None:
        """Raises UnsupportedSchemaError. A known grammar is told at once; a new one takes TRY_SECONDS at the
        longest once the process runs, and as long as those before it."""
        if grammar not in self._known:
            async with self._asking:
                if grammar not in self._known:  # another request may have asked the same meanwhile
                    self._known[grammar] = await asyncio.to_thread(self._ask, grammar)
                    while len(self._known) > _REMEMBERED:
                        self._known.popitem(last=False)
        self._known.move_to_end(grammar)
        if (reason := self._known[grammar]) is not None:
            raise UnsupportedSchemaError(reason)

    def _ask(self, grammar: str) -> str | None:
        try:
            answer: str | None = self._process.ask(grammar, TRY_SECONDS)
        except TimeoutError:
            return f"it takes longer than {TRY_SECONDS:g} s to prepare"
        except (EOFError, OSError):
            return "it cannot be prepared"
        return answer

    def close(self) -> None:
        """End the process; the next grammar starts another one."""
        self._process.close()


def main(connection: Connection, folder: Path) -> None:
    """The process: a grammar in, None or the reason against it out."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    answer_questions(connection, lambda: _Pipeline(folder).fault_of)


class _Pipeline:
    """A pipeline with the real vocabulary and next to nothing else."""

    def __init__(self, folder: Path) -> None:
        import openvino as ov

        from model_code.serving.engines.openvino_graph import LlamaGraph
        from model_code.serving.engines.openvino_vocabulary import write_vocabulary

        size = json.loads((folder / "config.json").read_text())["vocab_size"]
        config = {**_DUMMY, "vocab_size": size}
        self._scratch = tempfile.TemporaryDirectory(prefix="evergreen-schemas-")
        path = Path(self._scratch.name)
        model = LlamaGraph(config, _Zeros(size)).build()
        ov.save_model(model, path / "openvino_model.xml", compress_to_fp16=False)
        (path / "config.json").write_text(json.dumps(config))
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
        write_vocabulary(folder, path, size)
        self._open()

    def _open(self) -> None:
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks, scheduler.max_num_seqs = 4, 1
        self._pipeline = genai.ContinuousBatchingPipeline(
            Path(self._scratch.name), scheduler, "CPU", {"INFERENCE_NUM_THREADS": 1}
        )
        self._number = 0

    def fault_of(self, grammar: str) -> str | None:
        """Why GenAI does not take a grammar."""
        import numpy as np
        import openvino as ov
        import openvino_genai as genai

        config = genai.GenerationConfig()
        config.max_new_tokens, config.stop_token_ids = 1, {0}
        config.structured_output_config = genai.StructuredOutputConfig(grammar=grammar)
        self._number += 1
        try:
            handle = self._pipeline.add_request(
                self._number, ov.Tensor(np.array([[1]], dtype=np.int64)), config
            )
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            handle.read_all()
        except (MemoryError, RuntimeError) as error:
            self._open()
            return " ".join(_SOURCE_PLACE.sub("", str(error)).split())[-_REASON_CHARACTERS:]
        return None


class _Zeros:
    """Weights that are all zero, of the shapes that `_DUMMY` asks for."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def __contains__(self, name: str) -> bool:
        """No biases, no norms of queries and keys."""
        return False

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """A weight of that name."""
        import numpy as np

        if "norm" in name:
            return np.zeros(_WIDTH, np.float32)
        return np.zeros((self._vocabulary if "embed" in name else _WIDTH, _WIDTH), np.float32)
