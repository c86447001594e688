"""What a start does without: each of these packages costs a part of a second and megabytes of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino_genai")

ROOT = Path(__file__).parents[3]
COMPUTING = {"torch", "transformers", "accelerate", "peft", "sympy", "scipy", "pandas", "huggingface_hub"}
SERVER = """
from model_code.serving import engines, server
from model_code.serving.http.app import create_app
from model_code.serving.generation.service import Service
from model_code.serving.settings import ServerSettings
settings = ServerSettings(engine="openvino")
create_app(Service(settings))
engines.create(settings)
"""
WORKER = "import model_code.serving.engines.openvino_worker"
IMPORTED = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def imported_by(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program + IMPORTED], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_server_of_the_openvino_engine_computes_nothing_itself() -> None:
    assert imported_by(SERVER) & (COMPUTING | {"numpy", "openvino", "openvino_genai"}) == set()


def test_the_openvino_engines_process_knows_nothing_of_http() -> None:
    found = imported_by(WORKER)
    assert found >= {"numpy", "openvino_genai"}
    assert found & (COMPUTING | {"pydantic", "starlette", "uvicorn", "jinja2", "tokenizers"}) == set()
