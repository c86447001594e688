"""The process that owns OpenVINO GenAI's pipeline: takes requests, runs steps, sends what each step made.

A process of its own because the pipeline's step holds Python's interpreter lock from beginning to end: in
the server's process, `/ping` and every stream would stand still while a long prompt computes. It ends
when its connection does, so it never outlives the server.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import shutil
import signal
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov
import openvino_genai as genai

from model_code.serving.engines.base import EngineLimits, GenerationRequest, StopReason
from model_code.serving.engines.openvino_graph import UnsupportedModelError, convert
from model_code.serving.engines.openvino_messages import (
    Add,
    Cancel,
    Failed,
    Ready,
    Refused,
    Release,
    Step,
    send_report,
)
from model_code.serving.engines.openvino_vocabulary import NAME as VOCABULARY
from model_code.serving.engines.openvino_vocabulary import write_vocabulary

CONVERTED = "openvino"
"""Folder inside an artefact that holds the converted model, if preparation left one there."""
STEP_TOKENS = 512
"""Most tokens in one step: a longer prompt is computed in pieces, between which others decode."""
GATHER_MILLISECONDS = 1
"""An idle engine waits so long for one more request before its first step, and again after each."""
BLOCK_TOKENS = 32  # what the CPU plug-in's paged attention uses
CACHE_CONTEXTS = 8
"""The cache holds this many requests of full length, or as many more of shorter ones."""
_LARGEST_SEED = 2**31 - 1
_REASON_CHARACTERS = 400
_FINISHED = genai.GenerationFinishReason
Kind = Literal["failed", "schema", "memory"]


def main(connection: Connection, folder: Path, limits: EngineLimits) -> None:
    """Load, then serve until the other side closes the connection."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the server decides when this process ends
    try:
        worker = Worker(connection, folder, limits)
        gc.freeze()  # see the server's
        send_report(connection, worker.ready)
        worker.run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except UnsupportedModelError as error:
        send_report(connection, Failed(str(error)))
    except Exception as error:  # noqa: BLE001 - the server must learn why its engine ended
        send_report(connection, Failed(_one_line(error)))
    finally:
        connection.close()
        os._exit(0)  # the pipeline's own threads have nothing left to say


class Worker:
    """The pipeline and the requests inside it."""

    def __init__(self, connection: Connection, folder: Path, limits: EngineLimits) -> None:
        self._connection = connection
        self._incoming = select.poll()  # Connection.poll makes a selector each time it is asked
        self._incoming.register(connection.fileno(), select.POLLIN)
        self._folder = folder
        self._limits = limits
        longest = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
        context = min(longest, limits.max_context or longest)
        self._blocks = -(-context // BLOCK_TOKENS) * CACHE_CONTEXTS
        eos = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id")
        self._eos = set(eos if isinstance(eos, list) else [] if eos is None else [eos])
        self._handles: dict[int, tuple[genai.GenerationHandle, bool]] = {}  # and: wants log probabilities
        self._cancelled = False  # since the last step, which is what lets go of the cache
        self._pipeline, schemas = self._open()
        self.ready = Ready(context, self._blocks * BLOCK_TOKENS, schemas)

    def _open(self) -> tuple[genai.ContinuousBatchingPipeline, bool]:
        with tempfile.TemporaryDirectory(prefix="evergreen-openvino-") as scratch:
            schemas = prepare(self._folder, Path(scratch))
            return _pipeline(Path(scratch), self._limits, self._blocks), schemas

    def run(self) -> None:
        """Take what has come, compute a step, send it; sleep while there is nothing to do."""
        while True:
            # Requests seldom come alone: those that come at the same moment shall share their first step.
            patience = 0 if self._handles else GATHER_MILLISECONDS
            while not (self._handles or self._cancelled) or self._incoming.poll(patience):
                self._take(self._connection.recv())
            batch = len(self._handles)
            try:
                self._pipeline.step()
            except (MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                self._start_over(error)
                continue
            self._cancelled = False
            send_report(self._connection, self._collect(batch))

    def _take(self, message: Add | Cancel | Release) -> None:
        if isinstance(message, Add):
            request = message.request
            prompt = ov.Tensor(np.array([request.prompt], dtype=np.int64))
            try:
                handle = self._pipeline.add_request(message.number, prompt, self._config(request))
            except (
                MemoryError,
                RuntimeError,
            ) as error:  # what GenAI raises for a configuration it does not like
                kind: Kind = "memory" if _is_memory(error) else "schema" if request.schema else "failed"
                send_report(self._connection, Refused(message.number, kind, _one_line(error)))
            else:
                self._handles[message.number] = (handle, request.logprobs is not None)
        elif isinstance(message, Release):
            if not self._handles:
                del self._pipeline  # first, so that both are never held at once
                self._pipeline, _ = self._open()
        elif (known := self._handles.pop(message.number, None)) is not None:
            known[0].cancel()
            self._cancelled = True

    def _start_over(self, error: Exception) -> None:
        """After memory ran out inside a step nothing is sure of the pipeline: a new one takes its place."""
        for number in self._handles:
            send_report(self._connection, Refused(number, "memory", _one_line(error)))
        self._handles.clear()
        self._cancelled = False
        del self._pipeline
        self._pipeline, _ = self._open()

    def _collect(self, batch: int) -> Step:
        tokens = []
        for number, (handle, with_logprobs) in list(self._handles.items()):
            fresh, values, reason = _read(handle, with_logprobs)
            if fresh or reason:
                tokens.append((number, fresh, reason, values))
            elif handle.get_status() == genai.GenerationStatus.IGNORED:  # the cache had no room left for it
                send_report(self._connection, Refused(number, "memory", "the key-value cache is full"))
                del self._handles[number]
            if reason:
                del self._handles[number]
        usage = self._pipeline.get_metrics().cache_usage
        return Step(tokens, len(self._handles), batch, min(1.0, usage / 100))

    def _config(self, request: GenerationRequest) -> genai.GenerationConfig:
        sampling, config = request.sampling, genai.GenerationConfig()
        config.max_new_tokens = request.max_tokens
        config.stop_token_ids = self._eos
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.do_sample = sampling.temperature > 0
        if config.do_sample:
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            seed = random.getrandbits(31) if sampling.seed is None else sampling.seed
            config.rng_seed = seed % _LARGEST_SEED
        if request.schema is not None:
            config.structured_output_config = genai.StructuredOutputConfig(grammar=request.schema)
        if request.logprobs is not None:
            config.logprobs = 1
        return config


def _one_line(error: Exception) -> str:
    """An error on one line; what it says last says most."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[-_REASON_CHARACTERS:]}"


def _is_memory(error: Exception) -> bool:
    """Whether memory was what was lacking; OpenVINO says so in words only."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "allocate" in text


def _pipeline(folder: Path, limits: EngineLimits, blocks: int) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = limits.max_running
    scheduler.max_num_batched_tokens = max(STEP_TOKENS, limits.max_running)
    scheduler.num_kv_blocks = blocks
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    return genai.ContinuousBatchingPipeline(
        folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": limits.threads}
    )


def prepare(folder: Path, scratch: Path) -> bool:
    """Put what the pipeline opens into `scratch`: the artefact's own converted model, or one made now.

    Returns whether answers can be held to a schema.
    """
    ready = folder / CONVERTED
    if (ready / "openvino_model.xml").is_file():
        for file in ready.iterdir():
            (scratch / file.name).symlink_to(file.resolve())
    else:
        convert(folder, scratch)
    for name in ("config.json", "generation_config.json"):
        if not (scratch / name).exists():
            shutil.copyfile(folder / name, scratch / name)
    if (scratch / VOCABULARY).exists():
        return True
    return write_vocabulary(folder, scratch, json.loads((folder / "config.json").read_text())["vocab_size"])


def _read(
    handle: genai.GenerationHandle, with_logprobs: bool
) -> tuple[list[int], list[float] | None, StopReason | None]:
    tokens: list[int] = []
    values: list[float] | None = [] if with_logprobs else None
    reason = _FINISHED.NONE
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
            if values is not None:
                values += output.generated_log_probs
            reason = output.finish_reason
    if reason == _FINISHED.NONE:
        return tokens, values, None
    return tokens, values, "stop" if reason == _FINISHED.STOP else "length"
