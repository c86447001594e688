"""LoRA adapters by SageMaker's contract: loaded, used and unloaded while the server goes on serving."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.adapters import AdapterList
from contracts.errors import ErrorReply
from tests.support.model_server import ENGINES, MODEL, ServerProcess, chat, events, made, streamed_text
from tests.support.waiting import until

HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
GREEDY = {"temperature": 0, "max_tokens": 16}
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two adapters of the tiny model, and one of another base."""
    folder = tmp_path_factory.mktemp("adapters")
    made("adapters", tiny_model, folder)
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def adaptable(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[ServerProcess]:
    """A server with room for two adapters, one per engine."""
    with ServerProcess(
        tiny_model,
        EVERGREEN_ENGINE=request.param,
        EVERGREEN_MAX_ADAPTERS="2",
        EVERGREEN_MAX_CONTEXT_TOKENS="2048",
    ) as process:
        yield process.wait_ready()


@pytest.fixture(autouse=True)
def none_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the server without adapters."""
    yield
    if "adaptable" in request.fixturenames:
        server: ServerProcess = request.getfixturevalue("adaptable")
        for name in loaded(server):
            httpx.delete(f"{server.url}/adapters/{name}", timeout=WAIT_SECONDS)


def register(server: ServerProcess, name: str, source: Path, **fields: Any) -> httpx.Response:
    body = {"name": name, "src": str(source), **fields}
    return httpx.post(f"{server.url}/adapters", json=body, timeout=WAIT_SECONDS)


def loaded(server: ServerProcess) -> list[str]:
    listing = httpx.get(f"{server.url}/adapters", timeout=WAIT_SECONDS).content
    return [one.name for one in AdapterList.model_validate_json(listing).adapters]


def answer(server: ServerProcess, adapter: str | None = None, **fields: Any) -> str:
    """The greedy answer. It is asked for twice: a prompt that is in the cache already is computed with the
    cache's rounding, which may turn a near tie of a random model, but turns it the same way every time."""
    _ask(server, adapter, **fields)
    return _ask(server, adapter, **fields)


def _ask(server: ServerProcess, adapter: str | None, **fields: Any) -> str:
    headers = {HEADER: adapter} if adapter else {}
    reply = httpx.post(
        f"{server.url}/invocations", json=chat(**GREEDY | fields), headers=headers, timeout=WAIT_SECONDS
    )
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def refused(reply: httpx.Response, status: int, code: str) -> str:
    error = ErrorReply.model_validate_json(reply.content).error
    assert (reply.status_code, error.code) == (status, code), reply.text
    return error.message


def test_an_adapter_changes_its_own_requests_and_no_others(adaptable: ServerProcess, adapters: Path) -> None:
    base = answer(adaptable)

    reply = register(adaptable, "one", adapters / "one")
    assert (reply.status_code, reply.text) == (200, "Adapter one registered")
    register(adaptable, "two", adapters / "two").raise_for_status()
    one, two = answer(adaptable, "one"), answer(adaptable, "two")

    assert len({base, one, two}) == 3
    assert answer(adaptable, model="one") == one  # the model's name means the same as the header
    assert answer(adaptable, "two", model="one") == two  # and the header has the last word
    assert answer(adaptable) == base

    reply = httpx.delete(f"{adaptable.url}/adapters/one", timeout=WAIT_SECONDS)
    assert (reply.status_code, reply.text) == (200, "Adapter one unregistered")
    assert loaded(adaptable) == ["two"]
    assert answer(adaptable) == base


def test_requests_of_several_adapters_run_together(adaptable: ServerProcess, adapters: Path) -> None:
    register(adaptable, "one", adapters / "one").raise_for_status()
    register(adaptable, "two", adapters / "two").raise_for_status()
    questions = [{"messages": [{"role": "user", "content": f"Say {word}."}]} for word in ("a", "bee", "sea")]
    cases = [(name, question) for name in (None, "one", "two") for question in questions]
    alone = [answer(adaptable, name, **question) for name, question in cases]

    with concurrent.futures.ThreadPoolExecutor(18) as pool:
        asked = [pool.submit(answer, adaptable, name, **question) for name, question in cases * 2]
        found = [text.result(WAIT_SECONDS) for text in asked]

    same = [text == expected for text, expected in zip(found, alone * 2, strict=True)]
    # Sums in another order may turn a near tie of a random model; mixed-up adapters would turn most answers.
    assert sum(same) >= 0.7 * len(same), same


def test_an_adapter_comes_and_goes_while_others_stream(adaptable: ServerProcess, adapters: Path) -> None:
    register(adaptable, "one", adapters / "one").raise_for_status()
    body = chat(model="one", stream=True, max_tokens=400)
    with adaptable.client() as client, client.stream("POST", "/invocations", json=body) as running:
        lines = running.iter_lines()
        first = next(lines)
        register(adaptable, "two", adapters / "two").raise_for_status()
        httpx.delete(f"{adaptable.url}/adapters/one", timeout=WAIT_SECONDS).raise_for_status()
        late = httpx.post(f"{adaptable.url}/invocations", json=chat(), headers={HEADER: "one"}, timeout=60)
        rest = [line for line in [first, *lines] if line]

    assert rest[-1] == "data: [DONE]"  # the stream that held the adapter kept it to its end
    refused(late, 404, "model_not_found")
    assert answer(adaptable, "two")
    # Its place is free once it has left, under its old name too.
    until(
        lambda: register(adaptable, "one", adapters / "one").status_code == 200,
        "the adapter's place is free",
        WAIT_SECONDS,
    )


def test_an_adapter_of_another_base_is_refused_and_the_server_lives(
    adaptable: ServerProcess, adapters: Path, tmp_path: Path
) -> None:
    base = answer(adaptable)
    assert "another base model" in refused(
        register(adaptable, "foreign", adapters / "foreign"), 400, "adapter_refused"
    )

    other = shutil.copytree(adapters / "one", tmp_path / "trained-elsewhere")
    (other / "training_card.json").write_text(json.dumps({"base_digest": "0" * 64}))
    assert "trained on the base model 000000000000" in refused(
        register(adaptable, "other", other), 400, "adapter_refused"
    )
    assert loaded(adaptable) == []
    assert adaptable.ping() == 200
    assert answer(adaptable) == base


def test_what_cannot_be_read_is_refused_by_name(
    adaptable: ServerProcess, adapters: Path, tmp_path: Path
) -> None:
    assert "no folder" in refused(register(adaptable, "a", tmp_path / "none"), 400, "adapter_refused")
    assert "adapter_model.safetensors" in refused(register(adaptable, "a", tmp_path), 400, "adapter_refused")

    cut = shutil.copytree(adapters / "one", tmp_path / "cut")
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    refused(register(adaptable, "a", cut), 400, "adapter_refused")

    dora = shutil.copytree(adapters / "one", tmp_path / "dora")
    config = json.loads((dora / "adapter_config.json").read_text()) | {"use_dora": True}
    (dora / "adapter_config.json").write_text(json.dumps(config))
    assert "use_dora" in refused(register(adaptable, "a", dora), 400, "adapter_refused")

    reply = httpx.post(f"{adaptable.url}/adapters", json={"name": "a"}, timeout=WAIT_SECONDS)
    refused(reply, 400, "missing_parameter")
    refused(register(adaptable, MODEL, adapters / "one"), 400, "adapter_exists")
    refused(httpx.delete(f"{adaptable.url}/adapters/none", timeout=WAIT_SECONDS), 404, "adapter_not_found")
    assert adaptable.ping() == 200


def test_there_is_a_limit_and_no_name_twice(adaptable: ServerProcess, adapters: Path) -> None:
    register(adaptable, "one", adapters / "one").raise_for_status()
    refused(register(adaptable, "one", adapters / "two"), 400, "adapter_exists")
    register(adaptable, "two", adapters / "two").raise_for_status()
    refused(register(adaptable, "three", adapters / "two"), 507, "adapter_limit")


def test_a_stream_under_an_adapter_says_what_the_whole_answer_says(
    adaptable: ServerProcess, adapters: Path
) -> None:
    register(adaptable, "one", adapters / "one").raise_for_status()
    body = chat(model="one", stream=True, **GREEDY)
    whole = answer(adaptable, "one")
    with adaptable.client() as client, client.stream("POST", "/invocations", json=body) as reply:
        streamed = events(reply)
    assert streamed_text(streamed) == whole
    assert {chunk["model"] for chunk in streamed} == {"one"}


def test_adapters_are_off_unless_asked_for(client: httpx.Client) -> None:
    reply = client.post("/adapters", json={"name": "one", "src": "/opt/ml/adapters/one"})
    assert "EVERGREEN_MAX_ADAPTERS" in refused(reply, 400, "adapters_off")


@pytest.mark.parametrize("engine", ENGINES)
def test_adapters_of_the_containers_folder_are_loaded_when_they_are_named(
    tiny_model: Path, adapters: Path, engine: str
) -> None:
    """With room for one: the second takes the first one's place, and the first comes back."""
    with ServerProcess(
        tiny_model,
        EVERGREEN_ENGINE=engine,
        EVERGREEN_MAX_ADAPTERS="1",
        EVERGREEN_ADAPTER_FOLDER=str(adapters),
        EVERGREEN_MAX_CONTEXT_TOKENS="2048",
    ) as process:
        server = process.wait_ready()
        assert loaded(server) == []
        base, one, two = (answer(server, model=name) for name in (MODEL, "one", "two"))
        assert len({base, one, two}) == 3
        assert loaded(server) == ["two"]
        assert answer(server, model="one") == one
        unknown = httpx.post(f"{server.url}/invocations", json=chat(model="three"), timeout=60)
        refused(unknown, 404, "model_not_found")
