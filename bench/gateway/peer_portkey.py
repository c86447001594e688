"""Another peer: Portkey's gateway on Node.js, the stub behind it. Opt-in.

Its version does not stream with the Node.js that is pinned here, so only whole answers are compared. It has
no option for the address that it listens on: a line loaded before it says which.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gateway.asking import Target
from bench.gateway.processes import free_port, running
from bench.gateway.stub import MODEL
from local.environments import node_environment
from local.home import Home

LOCK = Path(__file__).with_name("portkey")
VENVS = Path(os.environ.get("EVERGREEN_VENVS", Path(__file__).resolve().parents[2] / ".evergreen" / "venvs"))
START_SECONDS = 60.0
_LOOPBACK_ONLY = (
    "import net from 'node:net'; const listen = net.Server.prototype.listen;"
    "net.Server.prototype.listen = function (port, ...rest) {"
    " return listen.call(this, port, '127.0.0.1', ...rest.filter((one) => typeof one === 'function')); };"
)


def environment(home: Home) -> Path:
    """Its folder, made once per version of its lock."""
    folder, lock = VENVS / "portkey", (LOCK / "package-lock.json").read_bytes()
    mark, stamp = folder / ".stamp", hashlib.sha256(lock).hexdigest()
    if not mark.exists() or mark.read_text() != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(LOCK, folder)
        words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(words, cwd=folder, env=node_environment(home), check=True, timeout=600)
        mark.write_text(stamp)
    return folder


@contextmanager
def proxy(home: Home, stub_url: str, folder: Path) -> Iterator[tuple[Target, int]]:
    """The gateway and its process id."""
    program = environment(home) / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words: list[str | Path] = [
        "node", "--import", f"data:text/javascript,{_LOOPBACK_ONLY}", program, f"--port={port}", "--headless",
    ]  # fmt: skip
    extra = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{stub_url}/v1"}
    with running(words, folder / "portkey.log", node_environment(home), url, START_SECONDS) as process:
        yield Target(f"{url}/v1/chat/completions", MODEL, "none", tuple(extra.items())), process.pid
