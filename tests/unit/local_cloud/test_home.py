"""What a checkout finds and leaves: its own cloud on whatever port, and files with keys for nobody else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from local import emulator
from local.home import Home, write_private
from operations.progress import CommandError
from tests.support.laptop import free_port


@contextmanager
def emulator_of(root: Path, pid: int) -> Iterator[int]:
    """Something that answers as the emulator of a home does; its port."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"home": str(root), "pid": pid}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to tell."""

    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (root / "cloud").mkdir(exist_ok=True)
        (root / "cloud" / "cloud.pid").write_text(json.dumps({"pid": pid, "port": server.server_port}))
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A checkout whose commands were given a port that nobody has."""
    return Home(tmp_path.resolve(), tmp_path / "venvs", free_port())


def test_down_ends_this_checkouts_cloud_whatever_its_port(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        with emulator_of(home.root, process.pid):
            threading.Thread(target=process.wait, daemon=True).start()  # collected, as init would
            assert emulator.stop(home)
        assert process.wait(60) < 0


def test_another_checkouts_cloud_is_left_alone(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with emulator_of(other, os.getpid()) as port:
        (home.root / "cloud").mkdir()
        (home.root / "cloud" / "cloud.pid").write_text(json.dumps({"pid": os.getpid(), "port": port}))
        assert emulator.located(home) == home
        assert not emulator.stop(home)


def test_up_on_another_port_says_where_the_cloud_runs(home: Home) -> None:
    with emulator_of(home.root, os.getpid()) as port, pytest.raises(CommandError, match=f"PORT={port}"):
        emulator.running(home)


@pytest.mark.parametrize("content", ["", "{}", '{"port": null}', '{"port": "x"}', "[]"])
def test_a_file_that_tells_no_port_is_passed_over(home: Home, content: str) -> None:
    (home.root / "cloud").mkdir()
    (home.root / "cloud" / "cloud.pid").write_text(content)
    assert emulator.located(home) == home
    assert not emulator.running(home)


def test_what_holds_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    path.write_text("readable by all")
    path.chmod(0o644)
    write_private(path, "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "secret"
    assert list(tmp_path.iterdir()) == [path]
