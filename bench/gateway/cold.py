"""What a cold start costs: from the first import to a handler that can take an event; and the bundle's
size.

Interpreters are started one after the other, ours and the peer's in turn; each tells how long its own
import took.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from bench.gateway.litellm import QUIET
from infra.constructs.bundle import Bundle

_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
OURS = _TIMED.format("import lambdas.runtime.streaming, lambdas.inference.handler")
PEERS = _TIMED.format("import litellm.proxy.proxy_server")
VARIABLES = {
    "ENVIRONMENT": "bench", "ACCESS_TABLE": "access", "RECORDS_TABLE": "records", "RECORD_TTL_DAYS": "7",
    "ENDPOINT_NAME": "endpoint", "MODEL_NAME": "model", "MODEL_VERSION": "1", "MAX_BODY_BYTES": "1048576",
    "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
}  # fmt: skip
"""What the function's environment holds, so that it starts as it does when deployed."""


def starts(bundle: Path, ours: Path, peer: Path | None, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each start by system; the first of each, which may write byte code, is left out."""
    seen: dict[str, list[float]] = {name: [] for name in ("inference", *(["litellm"] if peer else []))}
    for turn in range(rounds + 1):
        took = {"inference": _start(ours, OURS, VARIABLES | {"PYTHONPATH": str(bundle)})}
        if peer:
            took["litellm"] = _start(peer, PEERS, QUIET)
        if turn:
            for name, milliseconds in took.items():
                seen[name].append(milliseconds)
    return seen


def _start(python: Path, code: str, variables: dict[str, str]) -> float:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    done = subprocess.run(
        [python, "-c", code], env=kept | variables, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise RuntimeError(f"{python} cannot start it:\n{done.stderr[-2000:]}")
    return 1000 * float(done.stdout.strip().splitlines()[-1])


def build(runtime: str, architecture: str, folder: Path, *, host: bool, function: str = "inference") -> Path:
    """A function's bundle, as `cdk deploy` would make it."""
    Bundle(function, runtime, architecture, host=host).build(folder, folder.parent / "wheels")
    return folder


def zipped_megabytes(bundle: Path) -> float:
    """Size of the bundle as it is uploaded."""
    archive = bundle.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(bundle.rglob("*")):
            packed.write(path, path.relative_to(bundle))
    return archive.stat().st_size / 1e6
