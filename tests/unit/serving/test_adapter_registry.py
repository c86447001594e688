"""The registry of adapters over an engine that misbehaves: names, holders, limits."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
safetensors = pytest.importorskip("safetensors.numpy")

from contracts.adapters import AdapterRegistration  # noqa: E402
from model_code.serving.engines.errors import EngineError  # noqa: E402
from model_code.serving.engines.lora import Adapter  # noqa: E402
from model_code.serving.errors import ServingError  # noqa: E402
from model_code.serving.generation.adapters import Adapters  # noqa: E402


class Engine:
    """Notes the keys it holds; fails when told to."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.fails = False

    def load_adapter(self, adapter: Adapter) -> None:
        """Keep it, or fail."""
        if self.fails:
            raise EngineError("out of memory")
        self.keys.append(adapter.key)

    def unload_adapter(self, key: str) -> None:
        """Let go of it."""
        self.keys.remove(key)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A base with one layer, and an adapter of it."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    safetensors.save_file({"layer.weight": np.zeros((4, 3), np.float32)}, base / "model.safetensors")
    halves = {
        "base_model.model.layer.lora_A.weight": np.ones((2, 3), np.float32),
        "base_model.model.layer.lora_B.weight": np.ones((4, 2), np.float32),
    }
    safetensors.save_file(halves, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
    return tmp_path


def play(
    folders: Path,
    scenario: Callable[[Adapters, Engine], Awaitable[None]],
    *,
    count: int = 2,
    size: int = 1 << 20,
    on_demand: Path | None = None,
) -> None:
    """Run a scenario on a fresh registry."""

    async def run() -> None:
        engine = Engine()
        base = folders / "base"
        adapters = Adapters(engine, base, "d" * 64, "model", count, size, on_demand)  # type: ignore[arg-type]
        await scenario(adapters, engine)

    asyncio.run(run())


def wanted(folders: Path, name: str = "a", **fields: bool) -> AdapterRegistration:
    return AdapterRegistration(name=name, src=str(folders / "adapter"), **fields)


async def code_of(action: Awaitable[None]) -> str | None:
    with pytest.raises(ServingError) as refused:
        await action
    return refused.value.code


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the registry has nothing to wait for
            await asyncio.sleep(0.005)


def test_an_adapter_stays_while_it_is_held(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await adapters.load(wanted(folders))
        with adapters.hold("a") as key:
            await adapters.unload("a")
            assert "a" not in adapters
            await asyncio.sleep(0.05)
            assert engine.keys == [key]
            with pytest.raises(ServingError):
                adapters.hold("a").__enter__()
        await settled(lambda: not engine.keys)

    play(folders, scenario)


def test_a_name_may_return_while_its_last_holder_still_runs(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await adapters.load(wanted(folders))
        with adapters.hold("a") as old:
            await adapters.unload("a")
            await adapters.load(wanted(folders))
            with adapters.hold("a") as new:
                assert {old, new} == set(engine.keys)
        await settled(lambda: engine.keys == [new])

    play(folders, scenario)


def test_one_that_nobody_uses_is_gone_at_once(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        for _ in range(3):
            await adapters.load(wanted(folders))
            await adapters.unload("a")
            assert not engine.keys

    play(folders, scenario, count=1)


def test_who_is_leaving_still_takes_its_room(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await adapters.load(wanted(folders))
        with adapters.hold("a"):
            await adapters.unload("a")
            assert await code_of(adapters.load(wanted(folders, "b"))) == "adapter_limit"
        await settled(lambda: not engine.keys)
        await adapters.load(wanted(folders, "b"))

    play(folders, scenario, count=1)


def test_a_name_is_given_once_however_many_ask_at_the_same_time(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        loads = [adapters.load(wanted(folders)) for _ in range(5)]
        results = await asyncio.gather(*loads, return_exceptions=True)
        assert [isinstance(result, ServingError) for result in results].count(True) == 4
        assert len(engine.keys) == 1

    play(folders, scenario)


def test_a_load_that_fails_leaves_nothing(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        engine.fails = True
        assert await code_of(adapters.load(wanted(folders))) == "adapter_failed"
        engine.fails = False
        await adapters.load(wanted(folders))
        assert adapters.names == ["a"]

    play(folders, scenario)


def test_what_is_asked_for_is_kept_or_refused(folders: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        assert await code_of(adapters.load(wanted(folders, preload=False))) == "invalid_value"
        await adapters.load(wanted(folders, pin=True))

    play(folders, scenario)


def test_all_bytes_together_are_bounded(folders: Path) -> None:
    size = (folders / "adapter" / "adapter_model.safetensors").stat().st_size

    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await adapters.load(wanted(folders))
        assert await code_of(adapters.load(wanted(folders, "b"))) == "adapter_limit"

    play(folders, scenario, count=9, size=2 * size - 1)


@pytest.fixture
def shelf(folders: Path) -> Path:
    """Three adapters that requests may name, a link to one elsewhere, and one that cannot be read."""
    shelf = folders / "shelf"
    for name in ("a", "b", "c"):
        shutil.copytree(folders / "adapter", shelf / name)
    (shelf / "broken").mkdir()
    (shelf / "linked").symlink_to(folders / "adapter")
    return shelf


def held(engine: Engine) -> list[str]:
    return sorted(key.partition("#")[0] for key in engine.keys)


def test_an_adapter_is_loaded_when_a_request_names_it_and_the_idlest_gives_way(
    folders: Path, shelf: Path
) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        assert (adapters.names, engine.keys) == (["a", "b", "broken", "c"], [])
        for name in ("a", "b", "a"):
            await adapters.demand(name)
        assert held(engine) == ["a", "b"]
        await adapters.demand("c")
        assert held(engine) == ["a", "c"]  # b was asked for before a was again
        with adapters.hold("a"):
            await adapters.demand("b")
            assert held(engine) == ["a", "b"]  # a is in use

    play(folders, scenario, on_demand=shelf)


def test_one_adapter_is_loaded_once_for_all_that_ask_together(folders: Path, shelf: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await asyncio.gather(*(adapters.demand("a") for _ in range(5)))
        assert held(engine) == ["a"]

    play(folders, scenario, on_demand=shelf)


def test_what_is_in_use_or_registered_keeps_its_place(folders: Path, shelf: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        await adapters.load(AdapterRegistration(name="mine", src=str(folders / "adapter")))
        await adapters.demand("a")
        with adapters.hold("a"), pytest.raises(ServingError) as full:
            await adapters.demand("b")
        assert (full.value.status, full.value.code) == (503, "adapter_limit")
        await adapters.demand("b")
        assert held(engine) == ["b", "mine"]

    play(folders, scenario, on_demand=shelf)


@pytest.mark.parametrize(
    ("name", "status"), [("d", 404), ("../adapter", 404), ("linked", 404), ("", 404), ("broken", 400)]
)
def test_only_what_lies_in_the_folder_can_be_named(
    folders: Path, shelf: Path, name: str, status: int
) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        with pytest.raises(ServingError) as refused:
            await adapters.demand(name)
        assert (refused.value.status, engine.keys) == (status, [])

    play(folders, scenario, on_demand=shelf)


def test_nothing_is_offered_where_adapters_are_off(folders: Path, shelf: Path) -> None:
    async def scenario(adapters: Adapters, engine: Engine) -> None:
        assert adapters.names == []
        with pytest.raises(ServingError):
            await adapters.demand("a")

    play(folders, scenario, count=0, on_demand=shelf)
