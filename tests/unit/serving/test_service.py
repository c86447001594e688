"""The service over engines that misbehave; needs the serving environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("tokenizers")

from contracts.artefact import MANIFEST_NAME, describe
from contracts.chat import ChatRequest
from contracts.messages import Message
from model_code.serving import engines
from model_code.serving.engines.base import (
    Capabilities,
    EngineStats,
    GenerationRequest,
    Logprob,
    TokenEvent,
)
from model_code.serving.engines.errors import (
    EngineError,
    OutOfMemoryError,
    UnsupportedSchemaError,
)
from model_code.serving.errors import ServingError
from model_code.serving.generation.operations import CHAT
from model_code.serving.generation.service import Service
from model_code.serving.settings import ServerSettings
from tests.support.waiting import until_async

Behaviour = Callable[[GenerationRequest], AsyncGenerator[TokenEvent, None]]
REQUEST = ChatRequest(model="m", messages=[Message(role="user", content="a")], max_tokens=4)


class FakeEngine:
    """Answers the warm-up, then does what a test wants."""

    name = "fake"
    context_tokens = 64
    cache_tokens = 256
    capabilities = Capabilities(schemas=False, top_logprobs=0)

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.reason: str | None = None
        self.released = 0
        self.has_released = asyncio.Event()
        self.logprob = -1.0
        self.computes = asyncio.Event()
        self.computes.set()

    def load(self, folder: Path) -> None:
        """Nothing to load."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """The warm-up's answer, or the test's."""
        if request.request_id in {"warm-up", "check", "probe"}:
            await self.computes.wait()
            yield TokenEvent([0], "length", [Logprob(self.logprob, [])])
            return
        async for event in self._behaviour(request):
            yield event

    def fault(self) -> str | None:
        """What the test says."""
        return self.reason

    def stats(self) -> EngineStats:
        """No load."""
        return EngineStats(running=0, waiting=0, cache_use=0.0)

    async def release(self) -> None:
        """Count it."""
        self.released += 1
        self.has_released.set()

    def close(self) -> None:
        """Nothing to stop."""


async def silent(request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
    """Accepts work and never answers."""
    await asyncio.Event().wait()
    yield TokenEvent([0])


async def short(request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
    """Two tokens, the second of which depends on the seed."""
    yield TokenEvent([0])
    await asyncio.sleep(0)
    yield TokenEvent([1 + (request.sampling.seed or 0)], "stop")


async def starving(request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
    """No memory."""
    raise OutOfMemoryError("std::bad_alloc")
    yield TokenEvent([0])


async def dying(request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
    """One token, then the end."""
    yield TokenEvent([0])
    raise EngineError("out of memory")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artefact whose tokenizer knows single letters."""
    vocabulary = {letter: index for index, letter in enumerate("abcdefghij<>:")}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }  # fmt: skip
    template = "{% for message in messages %}{{ message.content }}{% endfor %}:"
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (tmp_path / MANIFEST_NAME).write_bytes(describe(tmp_path, "m").canonical())
    return tmp_path


def start(
    monkeypatch: pytest.MonkeyPatch, folder: Path, behaviour: Behaviour, **settings: object
) -> tuple[Service, FakeEngine]:
    engine = FakeEngine(behaviour)
    monkeypatch.setattr(engines, "create", lambda settings: engine)
    fields = {"model_name": "m", "model_folder": folder, **settings}
    return Service(ServerSettings.model_validate(fields)), engine


def test_an_engine_that_falls_silent_makes_the_server_unready(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, silent, stall=0.05)
        await service.start()
        assert service.unready_reason() is None

        engine.computes.clear()
        pieces = service.generate(await service.plan(CHAT, REQUEST))
        waiting = asyncio.ensure_future(anext(pieces))
        await until_async(
            lambda: "while 1 requests run" in (service.unready_reason() or ""), "the silence is seen"
        )
        with pytest.raises(ServingError, match="cannot serve now"):
            await service.plan(CHAT, REQUEST)

        waiting.cancel()
        await asyncio.wait({waiting})
        await pieces.aclose()
        assert service.unready_reason() is not None  # that nobody waits any more says nothing for it
        engine.computes.set()
        await until_async(lambda: service.unready_reason() is None, "it computes again")
        await service.close()

    asyncio.run(scenario())


def test_an_idle_server_stays_ready_while_its_engine_computes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, silent, stall=0.5)
        await service.start()
        await asyncio.sleep(0.8)
        assert service.unready_reason() is None
        engine.computes.clear()
        await until_async(lambda: service.unready_reason() is not None, "the probe hangs")
        engine.computes.set()
        await until_async(lambda: service.unready_reason() is None, "it computes again")
        await service.close()

    asyncio.run(scenario())


def test_a_failing_request_frees_its_slot_and_a_dead_engine_is_unready(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, dying, max_running=1, max_queued=0)
        await service.start()
        for _ in range(2):  # the second finds the slot free
            with pytest.raises(EngineError):
                async for _piece in service.generate(await service.plan(CHAT, REQUEST)):
                    pass
        engine.reason = "the batch loop died"
        assert service.unready_reason() == "the batch loop died"

    asyncio.run(scenario())


def test_the_default_length_is_the_setting_or_what_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        open_end = REQUEST.model_copy(update={"max_tokens": None})
        service, _ = start(monkeypatch, folder, silent)
        await service.start()
        assert (await service.plan(CHAT, open_end)).max_tokens == 64 - 2

        bounded, _ = start(monkeypatch, folder, silent, default_max_tokens=5)
        await bounded.start()
        assert (await bounded.plan(CHAT, open_end)).max_tokens == 5

    asyncio.run(scenario())


async def answers_of(service: Service, request: ChatRequest) -> dict[int, str]:
    """The texts of all answers."""
    texts: dict[int, str] = {}
    async for piece in service.generate(await service.plan(CHAT, request)):
        texts[piece.index] = texts.get(piece.index, "") + piece.text
    return texts


def test_a_prompt_beyond_the_context_is_refused_in_openais_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM knows them by "this model's maximum context length is", LangChain by "prompt is too long"."""

    async def scenario() -> None:
        service, _ = start(monkeypatch, folder, short)
        await service.start()
        request = REQUEST.model_copy(update={"messages": [Message(role="user", content="a" * 80)]})
        with pytest.raises(ServingError) as caught:
            await service.plan(CHAT, request)
        error = json.loads(caught.value.body)["error"]
        assert "this model's maximum context length is 64 tokens" in error["message"].lower()
        assert "prompt is too long" in error["message"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        await service.close()

    asyncio.run(scenario())


def test_a_schema_that_the_engine_refuses_is_loosened_unless_it_is_strict(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    async def picky(request: GenerationRequest) -> AsyncGenerator[TokenEvent, None]:
        """Takes no schema with a pattern."""
        asked.append(request.schema)
        if "pattern" in (request.schema or ""):
            raise UnsupportedSchemaError("no patterns")
        yield TokenEvent([0], "stop")

    def request(**fields: object) -> ChatRequest:
        named = {"name": "a", "schema": {"type": "string", "pattern": "^a$"}, **fields}
        form = {"type": "json_schema", "json_schema": named}
        return ChatRequest.model_validate({**REQUEST.model_dump(), "response_format": form})

    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, picky)
        engine.capabilities = Capabilities(schemas=True, top_logprobs=0)
        await service.start()
        plan = await service.plan(CHAT, request())
        assert [delta.text async for delta in service.generate(plan)] == ["a"]
        assert [schema and "pattern" in schema for schema in asked] == [True, False]
        plan = await service.plan(CHAT, request(strict=True))
        with pytest.raises(ServingError, match="cannot hold an answer"):
            [delta async for delta in service.generate(plan)]
        await service.close()

    asyncio.run(scenario())


def test_several_answers_come_from_seeds_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        service, _ = start(monkeypatch, folder, short)
        await service.start()
        request = REQUEST.model_copy(update={"n": 3, "seed": 1})
        assert await answers_of(service, request) == {0: "a c", 1: "a d", 2: "a e"}
        assert service.unready_reason() is None

    asyncio.run(scenario())


def test_more_answers_than_slots_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        service, _ = start(monkeypatch, folder, short, max_running=2)
        await service.start()
        with pytest.raises(ServingError) as caught:
            await service.plan(CHAT, REQUEST.model_copy(update={"n": 3}))
        assert json.loads(caught.value.body)["error"]["param"] == "n"

    asyncio.run(scenario())


def test_of_several_answers_the_first_failure_ends_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        service, _ = start(monkeypatch, folder, dying, max_running=2, max_queued=0)
        await service.start()
        for _ in range(2):  # the second finds the slots free
            with pytest.raises(EngineError):
                await answers_of(service, REQUEST.model_copy(update={"n": 2}))

    asyncio.run(scenario())


def test_without_memory_load_is_shed_counted_and_taken_up_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, starving, max_running=8)
        await service.start()
        for slots in (4, 2, 1, 1):
            with pytest.raises(ServingError) as caught:
                await answers_of(service, REQUEST)
            assert (caught.value.status, caught.value.code) == (503, "out_of_memory")
            assert (
                f'evergreen_slots{{gen_ai_request_model="m"}} {slots}.0' in service.render_metrics().decode()
            )
        assert 'reason="out_of_memory"} 4.0' in service.render_metrics().decode()

        engine._behaviour = short
        for _ in range(9):
            await answers_of(service, REQUEST)
        assert 'evergreen_slots{gen_ai_request_model="m"} 8.0' in service.render_metrics().decode()

    asyncio.run(scenario())


def test_what_the_engine_cannot_do_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        "response_format": {"response_format": {"type": "json_object"}},
        "top_logprobs": {"logprobs": True, "top_logprobs": 1},
        "tool_choice": {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "required",
        },
    }

    async def scenario() -> None:
        service, _ = start(monkeypatch, folder, short)
        await service.start()
        for field, fields in asked.items():
            request = ChatRequest.model_validate_json(
                json.dumps({**json.loads(REQUEST.model_dump_json(exclude_unset=True)), **fields})
            )
            with pytest.raises(ServingError) as caught:
                await service.plan(CHAT, request)
            error = json.loads(caught.value.body)["error"]
            assert (error["param"], error["code"]) == (field, "unsupported_by_engine")

    asyncio.run(scenario())


def test_memory_goes_back_once_after_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, short, idle_release=0.05)
        await service.start()
        await asyncio.sleep(0.4)
        assert engine.released == 0  # never used: nothing to give back
        await answers_of(service, REQUEST)
        async with asyncio.timeout(10):
            await engine.has_released.wait()
        await asyncio.sleep(0.4)
        assert engine.released == 1
        await service.close()

    asyncio.run(scenario())


def test_a_model_without_numbers_is_never_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        service, engine = start(monkeypatch, folder, short)
        engine.logprob = float("nan")
        with pytest.raises(EngineError, match="not numbers"):
            await service.start()
        assert service.unready_reason()

    asyncio.run(scenario())


def test_a_model_that_loses_its_numbers_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("model_code.serving.generation.service.CHECK_SECONDS", 0.02)
        service, engine = start(monkeypatch, folder, silent)
        await service.start()
        engine.logprob = float("nan")
        await asyncio.sleep(0.2)
        assert service.unready_reason() is None  # idle: nothing is looked at

        pieces = service.generate(await service.plan(CHAT, REQUEST))
        waiting = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0.2)
        assert "not numbers" in (service.unready_reason() or "")
        assert service.engine_fault()  # which ends the process, to be replaced
        waiting.cancel()
        await asyncio.wait({waiting})
        await service.close()

    asyncio.run(scenario())
