"""One server for the whole suite, with the tiny model; tests that break a server start their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.differences import DIFFERENCES, NOT_ASKED, reason
from tests.support.model_server import CONTEXT_TOKENS, PYTHON, ROOT, SERVERS, Client, ServerProcess, chat
from tests.support.peers import LLAMA, PEERS

PREPARE_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what is known to fail against another server to fail, so that a change either way shows."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        for server in (value for value in parameters if isinstance(value, str) and value in PEERS):
            if why := reason(NOT_ASKED, server, item.name):
                item.add_marker(pytest.mark.skip(reason=why))
            elif why := reason(DIFFERENCES, server, item.name):
                item.add_marker(pytest.mark.xfail(reason=why, strict=True))


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The tiny model's folder, prepared once in the cache that `make up` uses too."""
    return _prepare("--tiny")


@pytest.fixture(scope="session")
def embedding_model() -> Path:
    """The folder of the real model of sentence embeddings."""
    return _prepare("--embedding")


def _prepare(which: str) -> Path:
    home = os.environ.get("EVERGREEN_HOME", str(ROOT / ".evergreen"))
    command = [PYTHON, "-m", "local.model", "--home", home, which]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=PREPARE_SECONDS
    )
    return Path(json.loads(done.stdout)["folder"])


@pytest.fixture(scope="session", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A ready server, one per engine."""
    settings = {"EVERGREEN_ENGINE": request.param, "EVERGREEN_MAX_CONTEXT_TOKENS": str(CONTEXT_TOKENS)}
    folder = tiny_model
    if request.param == LLAMA:
        folder = tmp_path_factory.mktemp("gguf")
        _write_gguf(tiny_model, folder / "tiny.gguf")
    with ServerProcess(folder, **settings) as process:
        yield process.wait_ready()


def _write_gguf(artefact: Path, target: Path) -> None:
    vocabulary = next((artefact.parent / "download").glob("*.gguf"))
    command = [PYTHON, "-m", "tests.support.make_gguf", artefact, vocabulary, target]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PREPARE_SECONDS)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """An HTTP client of the shared server."""
    with server.client() as client:
        yield client


@pytest.fixture
def known_prompt(client: Client) -> None:
    """Have the prompt of `chat()` in the engine's cache: a cache may round, and so a prompt's first answer
    may differ from its later ones where two tokens are nearly as likely."""
    client.post("/invocations", json=chat(max_tokens=1)).raise_for_status()
