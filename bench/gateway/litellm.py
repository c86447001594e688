"""The peer: LiteLLM's proxy in an environment of its own, one worker, the stub behind it. Opt-in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gateway import stub
from bench.gateway.asking import Target
from bench.gateway.processes import free_port, running
from local.locks import lock_of

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / lock_of("litellm")
KEY = "sk-bench"
START_SECONDS = 180.0
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DO_NOT_TRACK": "1"}
"""It would fetch a price list while it starts, and report home."""


def environment() -> Path:
    """Its environment, made once per version of its lock; the interpreter's path."""
    venvs = Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs"))
    folder, stamp = venvs / "litellm", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    mark, python = folder / ".stamp", folder / "bin" / "python"
    if not mark.exists() or mark.read_text() != stamp:
        print("making the peer's environment (a minute or two) …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        uv: list[str | Path] = [
            venvs / "tools" / "bin" / "uv",
            "pip",
            "install",
            "-q",
            "--system-certs",
            "--compile-bytecode",
        ]
        made = os.environ | {"VIRTUAL_ENV": str(folder)}
        subprocess.run([*uv, "--no-deps", "--require-hashes", "-r", LOCK], check=True, timeout=900, env=made)
        mark.write_text(stamp)
    return python


@contextmanager
def proxy(python: Path, stub_url: str, folder: Path) -> Iterator[tuple[Target, int]]:
    """The proxy and its process id; callers need its key, as they need ours."""
    port = free_port()
    config = folder / "litellm.json"
    asked = {"model": f"openai/{stub.MODEL}", "api_base": f"{stub_url}/v1", "api_key": "none"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": stub.MODEL, "litellm_params": asked}],
                "general_settings": {"master_key": KEY},
            }
        )
    )
    words: list[str | Path] = [
        python.with_name("litellm"),
        "--config",
        config,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    url = f"http://127.0.0.1:{port}"
    log = folder / "litellm.log"
    with running(words, log, QUIET, f"{url}/health/liveliness", START_SECONDS) as process:
        yield Target(f"{url}/v1/chat/completions", stub.MODEL, KEY), process.pid
