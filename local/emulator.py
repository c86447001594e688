"""Starts and stops the emulator process of a laptop cloud, and tells whether it is the right one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.home import REPOSITORY, Home
from operations.progress import CommandError, Step

START_SECONDS = 60
STOP_SECONDS = 60
CODE = (
    "local/autoscaling",
    "local/cloud",
    "local/console",
    "local/sagemaker",
    "contracts",
    "requirements/locks/cloud.txt",
)


def digest_of(paths: tuple[str, ...]) -> str:
    """SHA-256 over the source files below some paths: what a running process was made of."""
    digest = hashlib.sha256()
    for name in paths:
        root = REPOSITORY / name
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" in file.parts or "node_modules" in file.parts:
                continue
            digest.update(str(file.relative_to(REPOSITORY)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def health(home: Home) -> dict[str, Any] | None:
    """The emulator's own account of itself, or None when nothing of ours answers on the port."""
    try:
        with urllib.request.urlopen(f"{home.url}/_evergreen/health", timeout=5) as reply:  # noqa: S310
            answer: dict[str, Any] = json.load(reply)
            return answer
    except (urllib.error.URLError, TimeoutError, ValueError, ConnectionError):
        return None


def running(home: Home) -> bool:
    """Whether this home's emulator runs. Raises CommandError when something else has its port."""
    own = located(home)
    if own.port != home.port:
        raise CommandError(
            f"this checkout's laptop cloud runs on port {own.port}: go on with PORT={own.port}, or stop it "
            "with `make down` first."
        )
    found = health(home)
    if found is None:
        _require_free_port(home)
        return False
    if Path(str(found.get("home"))) != home.root:
        raise CommandError(
            f"port {home.port} serves the laptop cloud of {found.get('home')}: stop that one with "
            "`make down` there, or choose another port with EVERGREEN_PORT."
        )
    return True


def located(home: Home) -> Home:
    """The home with the port that its emulator runs on, whichever was asked for; as it is where none runs."""
    try:
        port = int(json.loads((home.cloud / "cloud.pid").read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return home
    elsewhere = replace(home, port=port)
    found = health(elsewhere)
    return elsewhere if found is not None and Path(str(found.get("home"))) == home.root else home


def start(home: Home, step: Step) -> None:
    """Leaves an emulator of this home and of this code running and healthy; a running one is kept."""
    code = digest_of(CODE)
    mark = home.cloud / "code.sha256"
    if running(home):
        if mark.exists() and mark.read_text() == code:
            step.note = "already running"
            return
        stop(home)
        _require_free_port(home)
    home.cloud.mkdir(parents=True, exist_ok=True)
    log = home.cloud / "cloud.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [
                home.python("cloud"),
                "-m",
                "local.cloud",
                "--home",
                home.root,
                "--port",
                str(home.port),
                "--venvs",
                home.venvs,
            ],
            cwd=REPOSITORY,
            env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
            | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CommandError(f"the emulator ended at once; its log: {log}\n{_tail(log)}")
        if health(home) is not None:
            mark.write_text(code)
            return
        time.sleep(0.1)
    process.terminate()
    raise CommandError(
        f"the emulator did not become ready within {START_SECONDS} s; its log: {log}\n{_tail(log)}"
    )


def stop(home: Home) -> bool:
    """Ends this home's emulator, whatever its port, and the processes it started; says whether one ran."""
    home = located(home)
    found = health(home)
    if found is None or Path(str(found.get("home"))) != home.root:
        return False
    pid = int(found["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _alive(pid):
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return True


def forget(home: Home) -> None:
    """Removes what the cloud has stored; environments and the prepared model stay."""
    for path in (home.cloud, home.root / "cdk.out", home.logs):
        shutil.rmtree(path, ignore_errors=True)
    for file in (home.outputs, home.root / "key.json", home.root / "timings.json"):
        file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc/self").exists()
    return state != "Z"


def _require_free_port(home: Home) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", home.port))
        except OSError as taken:
            raise CommandError(
                f"port {home.port} is in use by another program: stop it, or choose another with "
                f"`make up PORT={home.port + 100}`."
            ) from taken


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join(f"    {line}" for line in lines)
