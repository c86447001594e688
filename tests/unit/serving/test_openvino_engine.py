"""The openvino engine with its real worker process: cancellation, release, log probabilities, memory."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino_genai")
tokenizers = pytest.importorskip("tokenizers")

from model_code.serving.engines.base import (  # noqa: E402
    EngineLimits,
    GenerationRequest,
    SamplingParams,
    TokenEvent,
)
from model_code.serving.engines.errors import (  # noqa: E402
    EngineError,
    UnsupportedSchemaError,
)
from model_code.serving.engines.openvino_engine import OpenVinoEngine  # noqa: E402
from model_code.serving.engines.openvino_messages import Add, parse_report  # noqa: E402
from model_code.serving.engines.openvino_probe import SchemaProbe  # noqa: E402
from tests.support.vllm_hook import until  # noqa: E402
from tests.unit.serving.test_openvino_graph import save_model  # noqa: E402

GREEDY = SamplingParams(0.0, 1.0, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer of bytes; nothing ends an answer but its length."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "llama", vocab_size=256, max_position_embeddings=4096)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": None}))
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))
    return folder


@asynccontextmanager
async def engine_of(folder: Path) -> AsyncIterator[OpenVinoEngine]:
    engine = OpenVinoEngine(EngineLimits(None, 8, 1))
    await asyncio.to_thread(engine.load, folder)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


def request(number: int, tokens: int, **fields: object) -> GenerationRequest:
    return GenerationRequest(str(number), [1, 2, 3], tokens, GREEDY, **fields)  # type: ignore[arg-type]


async def all_of(engine: OpenVinoEngine, asked: GenerationRequest) -> list[TokenEvent]:
    return [event async for event in engine.generate(asked)]


async def steps_after_leaving(engine: OpenVinoEngine, number: int) -> int:
    """Steps that the engine still takes for an answer that nobody wants any more."""
    async with aclosing(engine.generate(request(number, 4000))) as events:
        for _ in range(5):
            await anext(events)
        left_at = engine.stats().steps
    await asyncio.sleep(0.2)
    assert engine.stats().running == 0
    return engine.stats().steps - left_at


def test_an_answer_nobody_wants_ends_within_two_steps(folder: Path) -> None:
    async def scenario() -> list[int]:
        async with engine_of(folder) as engine:
            return [await steps_after_leaving(engine, number) for number in range(7)]

    # A step of this model takes less than a message: the best of a few is what the engine itself needs.
    assert min(asyncio.run(scenario())) <= 2


def test_memory_is_released_and_the_engine_goes_on(folder: Path) -> None:
    async def scenario() -> None:
        async with engine_of(folder) as engine:
            before = await all_of(engine, request(1, 20))
            await engine.release()
            after = await all_of(engine, request(2, 20))
            assert [event.tokens for event in after] == [event.tokens for event in before]

    asyncio.run(scenario())


def test_log_probabilities_are_told_where_asked_for(folder: Path) -> None:
    async def scenario() -> None:
        async with engine_of(folder) as engine:
            plain = await all_of(engine, request(1, 9))
            told = await all_of(engine, request(2, 9, logprobs=0))
            assert all(event.logprobs is None for event in plain)
            assert [e.tokens for e in told] == [e.tokens for e in plain]
            values = [entry.value for event in told for entry in event.logprobs or []]
            assert len(values) == 9
            assert all(value < 0 for value in values)

    asyncio.run(scenario())


def test_a_worker_that_ends_while_a_schema_is_looked_at_fails_the_request(folder: Path) -> None:
    class Murderous:
        """In place of the probe: while it looks at a schema, the worker dies and everybody is told."""

        def __init__(self, engine: OpenVinoEngine) -> None:
            self._engine = engine

        async def check(self, _schema: str) -> None:
            assert self._engine._process is not None
            self._engine._process.kill()
            await until(lambda: self._engine.fault() is not None)

        def close(self) -> None:
            """Nothing was opened."""

    async def scenario() -> None:
        async with engine_of(folder) as engine:
            await all_of(engine, request(1, 2))
            engine._probe = Murderous(engine)  # type: ignore[assignment]
            async with asyncio.timeout(60):
                with pytest.raises(EngineError, match="process ended"):
                    await all_of(engine, request(2, 2, schema='{"enum": [1]}'))

    asyncio.run(scenario())


class NoMemory:
    """A pipeline that takes requests and runs out of memory at the first step."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def add_request(self, *request: Any) -> Any:
        """As the real one."""
        return self._real.add_request(*request)

    def step(self) -> None:
        """What pybind makes of `std::bad_alloc`."""
        raise MemoryError("std::bad_alloc")


def test_memory_that_runs_out_ends_what_ran_and_no_more(folder: Path) -> None:
    from model_code.serving.engines.openvino_worker import Worker

    ours, theirs = multiprocessing.Pipe()
    worker = Worker(theirs, folder, EngineLimits(None, 8, 1))
    worker._pipeline = NoMemory(worker._pipeline)

    def work() -> None:
        with suppress(EOFError):
            worker.run()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ours.send(Add(1, request(1, 5)))
    assert ours.poll(60)
    refused = parse_report(ours.recv_bytes())
    assert (refused.number, refused.kind) == (1, "memory")

    ours.send(Add(2, request(2, 5)))  # a new pipeline has taken the place of the old one
    tokens: list[int] = []
    while len(tokens) < 5:
        assert ours.poll(60)
        tokens += [token for _, fresh, _, _ in parse_report(ours.recv_bytes()).tokens for token in fresh]
    ours.close()
    thread.join(60)
    assert not thread.is_alive()


def test_a_schema_that_genai_cannot_take_is_refused_and_others_go_on(folder: Path) -> None:
    """Given a schema that slipped through every check before the engine's own."""

    async def scenario() -> None:
        async with engine_of(folder) as engine:
            for _ in range(2):  # the second time it is remembered
                with pytest.raises(UnsupportedSchemaError, match="not defined"):
                    await all_of(engine, request(1, 5, schema='{"$ref": "#/$defs/none"}'))
            digit = request(2, 20, schema='{"enum": [1, 2]}')
            assert await all_of(engine, digit)
            assert await all_of(engine, request(3, 5))

    asyncio.run(scenario())


def test_a_known_schema_waits_for_no_new_one(folder: Path) -> None:
    async def scenario() -> None:
        probe = SchemaProbe(folder)
        try:
            await probe.check('root ::= "0"')
            new = [asyncio.create_task(probe.check(f'root ::= "{number}"')) for number in range(1, 9)]
            await asyncio.sleep(0)  # the first of them is with the process now
            await probe.check('root ::= "0"')
            assert not any(task.done() for task in new)
            await asyncio.gather(*new)
        finally:
            probe.close()

    asyncio.run(scenario())
