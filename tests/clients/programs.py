"""The programs that drive clients: the environment of each, and how it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.environments import CLIENTS_NODE, node_environment
from local.home import REPOSITORY, Home

LIMIT_SECONDS = 1200
NODE = "node"
PROGRAMS = {
    "openai-python": ("clients", "with_openai"),
    "openai-python-2": ("clients-openai-2", "with_openai"),
    "openai-javascript": (NODE, "with_openai"),
    "langchain-python": ("clients", "with_langchain"),
    "langchain-javascript": (NODE, "with_langchain"),
    "ai-sdk-compatible": (NODE, "with_ai_sdk_compatible"),
    "ai-sdk-openai": (NODE, "with_ai_sdk_openai"),
    "litellm": ("clients", "with_litellm"),
    "pydantic-ai": ("clients", "with_pydantic_ai"),
    "openai-agents": ("clients", "with_agents"),
    "anthropic-python": ("clients", "with_anthropic"),
    "anthropic-javascript": (NODE, "with_anthropic"),
    "llm": ("clients", "with_llm"),
    "haystack": ("clients", "with_haystack"),
    "llama-index": ("clients-openai-2", "with_llama_index"),
    "instructor": ("clients-openai-2", "with_instructor"),
}
"""The environment and the program of each client, in the table's order."""


@dataclass(frozen=True)
class Access:
    """What an application is given."""

    api_url: str
    api_key: str
    model: str
    embedding_model: str

    @classmethod
    def of(cls, api_url: str, api_key: str) -> Access:
        """Finds the models in the API's own list."""
        request = urllib.request.Request(f"{api_url}/models", headers={"Authorization": f"Bearer {api_key}"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            models = json.load(reply)["data"]
        names = {
            kind: [str(m["id"]) for m in models if m.get("kind") == kind] for kind in ("chat", "embedding")
        }
        chat = names["chat"][0]
        return cls(api_url, api_key, chat, names["embedding"][0] if names["embedding"] else chat)


def drive(home: Home, name: str, access: Access) -> None:
    """Runs a client's program and keeps what it writes."""
    environment, program = PROGRAMS[name]
    if environment == NODE:
        words = ["node", str(REPOSITORY / CLIENTS_NODE / f"{program}.mjs")]
    else:
        words = [str(home.venvs / environment / "bin" / "python"), "-m", f"tests.clients.{program}"]
    log = home.logs / f"client-{name}.log"
    home.logs.mkdir(parents=True, exist_ok=True)
    kept(home, name).parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors, kept(home, name).open("w", encoding="utf-8") as lines:
        done = subprocess.run(
            words,
            cwd=REPOSITORY,
            env=_environment(home, access),
            stdout=lines,
            stderr=errors,
            timeout=LIMIT_SECONDS,
        )
    if done.returncode:
        print(f"evergreen: the program of {name} ended with {done.returncode}: see {log}", file=sys.stderr)


def kept(home: Home, name: str) -> Path:
    """Where stands what a client's program wrote last: its versions, then an object for each feature."""
    return home.root / "clients" / f"{name}.jsonl"


def last_seen(home: Home, name: str) -> list[dict[str, Any]]:
    """What stands there."""
    if not (path := kept(home, name)).exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _environment(home: Home, access: Access) -> dict[str, str]:
    """Nothing of this machine's own accounts, no telemetry, no proxies."""
    given = {
        "API_URL": access.api_url,
        "API_KEY": access.api_key,
        "MODEL": access.model,
        "EMBEDDING_MODEL": access.embedding_model,
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TIKTOKEN_CACHE_DIR": str(_tokenizers(home)),
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "DO_NOT_TRACK": "1",
        "LLM_USER_PATH": str(home.root / "clients" / "llm"),
    }
    kept = {
        name: value
        for name, value in node_environment(home).items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_"))
    }
    return (
        kept
        | given
        | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1", "HOME": os.environ.get("HOME", "/")}
    )


def _tokenizers(home: Home) -> Path:
    """OpenAI's vocabularies, which LiteLLM brings along and other packages fetch from elsewhere."""
    packages = (home.venvs / "clients" / "lib").glob("python3.*/site-packages")
    return next(packages) / "litellm" / "litellm_core_utils" / "tokenizers"
