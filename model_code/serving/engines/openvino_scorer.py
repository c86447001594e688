"""Log probabilities of a prompt's own tokens for the openvino engine, in a process of its own.

GenAI's pipeline tells those of the answer alone. So a prompt's come from a second copy of the converted
model, whose logits are read as they are. It is made when it is first asked for, and costs the model's memory
once more.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from model_code.serving.engines.base import Logprob
from model_code.serving.engines.child_process import ChildProcess, answer_questions
from model_code.serving.engines.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCORE_SECONDS = 120.0
CHUNK_TOKENS = 128
"""Tokens computed at once: their logits over the whole vocabulary are held in single precision."""


class PromptScorer:
    """The server's side. One prompt at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._process = ChildProcess("openvino-scorer", main, folder, threads)
        self._asking = asyncio.Lock()

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """One entry for each token but the first. Raises EngineError."""
        async with self._asking:
            return await asyncio.to_thread(self._ask, prompt, top)

    def _ask(self, prompt: list[int], top: int) -> list[Logprob]:
        try:
            entries: list[tuple[float, list[tuple[int, float]]]] = self._process.ask(
                (prompt, top), SCORE_SECONDS
            )
        except TimeoutError as error:
            raise EngineError(f"scoring a prompt took longer than {SCORE_SECONDS:g} s") from error
        except (EOFError, OSError) as error:
            raise EngineError("the process that scores prompts ended") from error
        return [Logprob(value, likeliest) for value, likeliest in entries]

    def close(self) -> None:
        """End the process; the next prompt starts another one."""
        self._process.close()


def main(connection: Connection, folder: Path, threads: int) -> None:
    """The process: a prompt in, its log probabilities out."""

    def prepare() -> Callable[[tuple[list[int], int]], list[tuple[float, list[tuple[int, float]]]]]:
        model = _Model(folder, threads)
        return lambda question: model.score(*question)

    answer_questions(connection, prepare)


class _Model:
    """The converted model as OpenVINO runs it, without GenAI's pipeline."""

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino as ov

        from model_code.serving.engines.openvino_worker import prepare

        with tempfile.TemporaryDirectory(prefix="evergreen-openvino-") as scratch:
            prepare(folder, Path(scratch))
            model = ov.Core().read_model(Path(scratch) / "openvino_model.xml")
            compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self._request = compiled.create_infer_request()
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}

    def score(self, prompt: list[int], top: int) -> list[tuple[float, list[tuple[int, float]]]]:
        """Each token's log probability after those before it, and the likeliest ones in its place."""
        self._request.reset_state()
        found: list[tuple[float, list[tuple[int, float]]]] = []
        for start in range(0, len(prompt) - 1, CHUNK_TOKENS):
            logits = self._logits(prompt, start, min(start + CHUNK_TOKENS, len(prompt) - 1))
            for row, token in zip(logits, prompt[start + 1 :], strict=False):
                found.append(entry(row, token, top))
        return found

    def _logits(self, prompt: list[int], start: int, end: int) -> NDArray[np.float32]:
        """[end - start, vocabulary]: what follows each of those tokens."""
        import numpy as np

        given = {
            "input_ids": np.array([prompt[start:end]], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self._request.infer({name: value for name, value in given.items() if name in self._inputs})
        logits: NDArray[np.float32] = self._request.get_tensor("logits").data[0].astype(np.float32)
        return logits


def entry(logits: NDArray[np.float32], token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """A token's log probability by logits [vocabulary], and those of the likeliest ones, likeliest first."""
    import numpy as np

    highest = logits.max()
    values = logits - highest - np.log(np.exp(logits - highest).sum())
    likeliest: list[int] = np.argpartition(-values, range(top))[:top].tolist() if top else []
    return float(values[token]), [(each, float(values[each])) for each in likeliest]
