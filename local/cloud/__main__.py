"""Runs the laptop cloud in the foreground: `python -m local.cloud --home DIR --port N --venvs DIR`.

Order matters here: the emulator reads its environment variables when it is imported, so they are set before
anything that imports it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from local.cloud.config import ADDRESS, CloudConfig
from local.cloud.instance_lock import AlreadyRunningError, InstanceLock
from local.cloud.snapshots import load_or_reset

Application = Callable[..., Awaitable[None]]

_LOG_BYTES = 10 * 1024 * 1024
_GARBAGE = (50_000, 20, 100)
"""Thresholds of Python's collector. At its own ones it walks the emulator's whole state, all of it alive, at
every second request or so, and everybody waits for it."""
_SWITCH_SECONDS = 0.0005
"""How long a thread keeps Python to itself while another wants it. A chat passes to and fro between the
server's thread and that of the functions, and may have to wait each time; Python's own value is 5 ms."""
_M_ARENA_MAX = -8
"""The name that glibc's malloc.h gives this setting."""


def main() -> int:
    """Parse the command line and serve until SIGTERM or SIGINT; the exit status."""
    _share_one_memory_arena()
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = _configuration(sys.argv[1:])
    instance = InstanceLock(config)
    try:
        orphans = instance.claim()
    except AlreadyRunningError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        listener = _bind(config.port)
    except OSError as error:
        print(f"Port {config.port} on {ADDRESS} is not free: {error.strerror}.", file=sys.stderr)
        instance.release()
        return 1
    try:
        _set_emulator_environment(config)
        _log_to_file(config, orphans)
        asyncio.run(_serve(listener, _assembled(config)))
    finally:
        instance.release()
    return 0


def _share_one_memory_arena() -> None:
    """Let threads reuse what others freed. glibc gives each its own arena, and what a saved state or a large
    object took there stays resident; other systems' allocators are left alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)


def _configuration(arguments: list[str]) -> CloudConfig:
    parser = argparse.ArgumentParser(prog="python -m local.cloud", description="Runs the laptop cloud.")
    parser.add_argument("--home", type=Path, required=True, help="folder that holds everything it owns")
    parser.add_argument("--port", type=int, required=True, help=f"port on {ADDRESS}")
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the Python environments")
    given = parser.parse_args(arguments)
    return CloudConfig(home=given.home.resolve(), port=given.port, venvs=given.venvs.resolve())


def _bind(port: int) -> socket.socket:
    """The listening socket, on the loopback interface only."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ADDRESS, port))
    return listener


def _set_emulator_environment(config: CloudConfig) -> None:
    """The emulator is configured by environment variables, and so would be the AWS libraries inside it: no
    credentials or profiles of the person at the keyboard may leak in."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MINISTACK_"))]:
        del os.environ[name]
    os.environ |= {
        "AUTH": "true",
        "MINISTACK_ACCOUNT_ID": config.account,
        "MINISTACK_REGION": config.region,
        "MINISTACK_HOST": ADDRESS,
        "GATEWAY_PORT": str(config.port),
        "AWS_ACCESS_KEY_ID": config.account,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": config.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "STATE_DIR": str(config.folder / "blobs"),
        "PERSIST_STATE": "0",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(config.folder / "s3"),
        "LOG_LEVEL": os.environ.get("EVERGREEN_CLOUD_LOG_LEVEL", "WARNING"),
        # No side doors: no containers, no extra listeners.
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
    }


def _log_to_file(config: CloudConfig, orphans: list[str]) -> None:
    """`emulator.log`, kept small; what the emulator itself logs goes there too."""
    handler = RotatingFileHandler(config.folder / "emulator.log", maxBytes=_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=os.environ["LOG_LEVEL"], force=True)
    log = logging.getLogger("evergreen.cloud")
    log.setLevel(logging.INFO)
    log.info("starting on port %s", config.port)
    for purpose in orphans:
        log.warning("ended an orphan of an earlier run: %s", purpose)


def _assembled(config: CloudConfig) -> Application:
    """The application with its state. What imports the emulator is imported only now."""
    restore_point = load_or_reset(config)
    from local.cloud import assembly, ministack_adapter

    assembly.assemble(config, restore_point)
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    return ministack_adapter.application


async def _serve(listener: socket.socket, application: Application) -> None:
    from local.cloud.http_server import serve_until_stopped

    await serve_until_stopped(application, listener)


if __name__ == "__main__":
    sys.exit(main())
