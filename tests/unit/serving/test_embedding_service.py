"""The encoding service over encoders that misbehave; needs the serving environment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("prometheus_client")
tokenizers = pytest.importorskip("tokenizers")

from contracts.artefact import MANIFEST_NAME, describe  # noqa: E402
from model_code.serving import engines  # noqa: E402
from model_code.serving.encoders.embedding_service import EmbeddingService  # noqa: E402
from model_code.serving.engines.errors import EngineError  # noqa: E402
from model_code.serving.errors import ServingError  # noqa: E402
from model_code.serving.settings import ServerSettings  # noqa: E402
from tests.support.waiting import until_async  # noqa: E402


class FakeEncoder:
    """Says a text's length, twice; waits or fails when told to."""

    name = "fake"
    labels = ()
    normalisation = "none"
    context_tokens = 8
    pads = True

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.value: float | None = None

    def load(self, folder: Path) -> None:
        """Nothing to load."""

    def encode(self, texts: Sequence[Sequence[int]]):
        """Two numbers per text."""
        assert self.go.wait(60)
        return np.array([[self.value or len(text)] * 2 for text in texts], np.float32)

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artefact whose tokenizer knows words and cuts texts by itself, as some files do."""
    words = tokenizers.models.WordLevel({"Hello": 0, "a": 1, "?": 2}, unk_token="?")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / MANIFEST_NAME).write_bytes(describe(tmp_path, "fake").canonical())
    return tmp_path


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """The encoder that the service gets."""
    fake = FakeEncoder()
    monkeypatch.setattr(engines, "create_encoder", lambda settings, task: fake)
    return fake


def play(folder: Path, scenario: Callable[[EmbeddingService], Awaitable[None]], **settings: object) -> None:
    """Run a scenario on a started service."""

    async def run() -> None:
        values = {"model_folder": folder, "model_name": "m", "max_running": 1, "max_queued": 1, **settings}
        service = EmbeddingService(ServerSettings.model_validate(values), "embedding")
        await service.start()
        try:
            await scenario(service)
        finally:
            await service.close()

    asyncio.run(run())


async def code_of(action: Awaitable[object]) -> str | None:
    with pytest.raises(ServingError) as refused:
        await action
    return refused.value.code


async def holds(service: EmbeddingService, name: str, value: float) -> None:
    """Wait until a gauge of the service has a value."""
    line = f'evergreen_{name}{{gen_ai_request_model="m"}} {value}'.encode()
    await until_async(lambda: line in service.render_metrics(), f"{name} is {value}")


def test_texts_are_neither_cut_nor_padded_by_the_tokenizers_own_file(
    folder: Path, encoder: FakeEncoder
) -> None:
    async def scenario(service: EmbeddingService) -> None:
        vectors, tokens = await service.embed("m", ["a a a", "a"], None)
        assert (vectors[:, 0].tolist(), tokens) == ([3, 1], 4)
        assert await code_of(service.embed("m", ["a " * 9], None)) == "context_length_exceeded"
        assert await code_of(service.embed("m", ["   "], None)) == "invalid_value"

    play(folder, scenario)


def test_the_metrics_are_there_while_a_text_waits(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        await holds(service, "running_requests", 0.0)
        encoder.go.clear()
        waiting = asyncio.create_task(service.embed("m", ["a"], None))
        await holds(service, "running_requests", 1.0)
        encoder.go.set()
        await waiting

    play(folder, scenario)


def test_the_queue_is_bounded(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        encoder.go.clear()
        waiting = [asyncio.create_task(service.embed("m", ["a"], None)) for _ in range(2)]
        await holds(service, "queued_requests", 1.0)
        assert await code_of(service.embed("m", ["a"], None)) == "queue_full"
        encoder.go.set()
        await asyncio.gather(*waiting)
        await service.embed("m", ["a"], None)

    play(folder, scenario)


def test_results_that_are_no_numbers_fail_their_request_alone(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        encoder.value = float("nan")
        with pytest.raises(EngineError, match="not numbers"):
            await service.embed("m", ["a"], None)
        encoder.value = None
        await service.embed("m", ["a"], None)

    play(folder, scenario)


def test_a_model_without_numbers_is_never_ready(folder: Path, encoder: FakeEncoder) -> None:
    encoder.value = float("inf")

    async def scenario(service: EmbeddingService) -> None:
        raise AssertionError("it started")

    with pytest.raises(EngineError, match="not numbers"):
        play(folder, scenario)


def test_an_encoder_that_stands_still_is_unhealthy(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        encoder.go.clear()
        hanging = asyncio.create_task(service.embed("m", ["a"], None))
        reason = await until_async(service.unready_reason, "the stall is seen")
        assert "nothing came" in reason
        hanging.cancel()  # that nobody waits any more says nothing for it
        await asyncio.wait({hanging})
        assert service.unready_reason() is not None
        encoder.go.set()
        await until_async(lambda: service.unready_reason() is None, "it encodes again")

    play(folder, scenario, stall=0.05)


def test_an_encoder_that_hangs_is_unhealthy_though_nobody_asks(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        assert service.unready_reason() is None
        encoder.go.clear()
        await until_async(service.unready_reason, "the probe hangs")
        encoder.go.set()
        await until_async(lambda: service.unready_reason() is None, "it encodes again")

    play(folder, scenario, stall=0.05)


def test_draining_lets_the_running_finish_and_refuses_the_rest(folder: Path, encoder: FakeEncoder) -> None:
    async def scenario(service: EmbeddingService) -> None:
        encoder.go.clear()
        running = asyncio.create_task(service.embed("m", ["a"], None))
        await holds(service, "running_requests", 1.0)
        draining = asyncio.create_task(service.drain(60))
        await until_async(service.unready_reason, "the drain begins")
        assert await code_of(service.embed("m", ["a"], None)) == "not_ready"
        assert not service.cut_off.is_set()
        encoder.go.set()
        await draining
        assert (await running)[1] == 1
        assert service.cut_off.is_set()

    play(folder, scenario)
