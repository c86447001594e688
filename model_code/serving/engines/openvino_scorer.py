"""Log probabilities of a prompt's own tokens for the openvino engine, in a process of its own.

GenAI's pipeline tells those of the answer alone. So a prompt's come from a second copy of the converted
model, whose logits are read as they are. It is made when it is first asked for, and costs the model's memory
once more.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from model_code.serving.engines.base import Logprob
from model_code.serving.engines.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

START_SECONDS = 120.0
SCORE_SECONDS = 120.0
CHUNK_TOKENS = 128
"""Tokens computed at once: their logits over the whole vocabulary are held in single precision."""


class PromptScorer:
    """The server's side. One prompt at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._asking = asyncio.Lock()
        self._guard = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    async def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """One entry for each token but the first. Raises EngineError."""
        async with self._asking:
            return await asyncio.to_thread(self._ask, prompt, top)

    def _ask(self, prompt: list[int], top: int) -> list[Logprob]:
        try:
            connection = self._started()
            connection.send((prompt, top))
            if connection.poll(SCORE_SECONDS):
                entries: list[tuple[float, list[tuple[int, float]]]] = connection.recv()
                return [Logprob(value, likeliest) for value, likeliest in entries]
        except (EOFError, OSError) as error:
            self.close()
            raise EngineError("the process that scores prompts ended") from error
        self.close()
        raise EngineError(f"scoring a prompt took longer than {SCORE_SECONDS:g} s")

    def _started(self) -> Connection:
        with self._guard:
            if self._connection is None:
                context = multiprocessing.get_context("spawn")
                self._connection, theirs = context.Pipe()
                self._process = context.Process(
                    target=main,
                    args=(theirs, self._folder, self._threads),
                    name="openvino-scorer",
                    daemon=True,
                )
                self._process.start()
                theirs.close()  # or its end would not show here
                if not self._connection.poll(START_SECONDS):
                    raise EOFError
                self._connection.recv()
            return self._connection

    def close(self) -> None:
        """End the process; the next prompt starts another one."""
        with self._guard:
            if self._process is not None:
                self._process.kill()
                self._process.join(START_SECONDS)
            if self._connection is not None:
                self._connection.close()
            self._process = self._connection = None


def main(connection: Connection, folder: Path, threads: int) -> None:
    """The process: a prompt in, its log probabilities out, until the connection ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the server decides when this process ends
    model = _Model(folder, threads)
    connection.send(None)
    try:
        while True:
            connection.send(model.score(*connection.recv()))
    except (EOFError, OSError):
        return


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
