"""The hook in an artefact: complete without the repository, loaded by the library that vLLM's image uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("model_hosting_container_standards")

from contracts.artefact import MANIFEST_NAME, Manifest, verify
from contracts.container import HOOK_FILE
from model_code.vllm_hook.install import install

ROOT = Path(__file__).parents[3]
SECONDS = 120
BOOTSTRAP = """
import sys
from fastapi import FastAPI
from starlette.testclient import TestClient
import model_hosting_container_standards.sagemaker as standards

app = FastAPI()

@app.get("/ping")
@standards.register_ping_handler
async def ping(): return {"from": "vllm"}

@app.post("/v1/chat/completions")
async def chat(): return {"id": "1", "choices": []}

@app.get("/health")
async def health(): return {}

standards.bootstrap(app)
with TestClient(app) as client:
    import time
    deadline = time.monotonic() + 30
    while client.get("/ping").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    print("PING", client.get("/ping").text)
    refused = client.post("/invocations", content=b"{")
    print("REFUSED", refused.status_code, refused.json()["error"]["code"])
    print("FROM", sys.modules["model_code"].__file__)
"""


def bootstrap(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a server as vLLM does, where the repository cannot be imported."""
    hook = folder / HOOK_FILE
    own = {
        "CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE": f"{hook}:Hook",
        "CUSTOM_FASTAPI_PING_HANDLER": f"{hook}:ping",
        "SM_MODEL_DIR": str(folder),
        "EVERGREEN_MODEL_NAME": "m",
        **environment,
    }
    packages = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path != str(ROOT)]
    return subprocess.run(
        [sys.executable, "-c", BOOTSTRAP],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ":".join(packages), **own},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A model's folder with the hook in it."""
    (tmp_path / "config.json").write_text("{}")
    install(tmp_path)
    return tmp_path


def test_the_library_loads_the_hook_from_the_artefact(artefact: Path) -> None:
    done = bootstrap(artefact)

    assert done.returncode == 0, done.stderr
    assert 'PING {"status": "ready"}' in done.stdout
    assert "REFUSED 400 invalid_json" in done.stdout
    assert str(artefact) in done.stdout.partition("FROM")[2]


def test_without_the_hook_the_server_does_not_start(tmp_path: Path) -> None:
    done = bootstrap(tmp_path)

    assert done.returncode != 0
    assert "HandlerFileNotFoundError" in done.stderr
    assert HOOK_FILE in done.stderr


def test_a_hook_that_stands_nowhere_is_never_well(artefact: Path) -> None:
    script = BOOTSTRAP.replace("time.monotonic() + 30", "time.monotonic()")
    environment = {"CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE": ""}
    done = subprocess.run(
        [sys.executable, "-c", script.partition("    refused =")[0]],
        cwd=artefact,
        env={
            **os.environ,
            "CUSTOM_FASTAPI_PING_HANDLER": f"{artefact / HOOK_FILE}:ping",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )

    assert "the hook is not in place" in done.stdout, done.stderr


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        install(tmp_path / name)
    first, second = ((tmp_path / name / HOOK_FILE).with_suffix(".zip").read_bytes() for name in ("a", "b"))

    assert first == second
    assert b"engines" not in first


def test_the_command_renews_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "model_code.vllm_hook.install", str(tmp_path), "--name", "m"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )

    assert done.returncode == 0, done.stderr
    manifest = verify(tmp_path, done.stdout.strip())
    assert manifest == Manifest.model_validate_json((tmp_path / MANIFEST_NAME).read_bytes())
    assert {HOOK_FILE, "config.json"} < {entry.path for entry in manifest.files}


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model_code.vllm_hook.install", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )

    assert done.returncode == 2
    assert "config.json" in done.stderr
